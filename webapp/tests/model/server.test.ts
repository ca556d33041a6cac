import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Cache } from "../../src/model/cache";
import { encode } from "../../src/model/safetensors";
import { serverFlow } from "../../src/model/server";
import { viewFile } from "./views";

const asked: string[] = [];
let answer: (path: string) => Uint8Array<ArrayBuffer> | Response | Promise<Response>;

beforeEach(() => {
  asked.length = 0;
  answer = (path) => {
    if (path.endsWith("/view")) return viewFile();
    const start = Number(/start=(\d+)/.exec(path)![1]);
    if (path.includes("/rows?")) return encode({ scores: { data: new Float32Array(6).fill(start + 1) } });
    if (path.includes("/received?")) return encode({ received: { data: new Float32Array(2).fill(start) } });
    return encode({
      rows: { data: new Int32Array([1]) },
      pieces: { data: new Int32Array([-1]) },
      mass: { data: new Float32Array([0.5]) },
      total: { data: new Float32Array([2]) },
    });
  };
  vi.stubGlobal("fetch", async (path: string) => {
    asked.push(path);
    const body = await answer(path);
    return body instanceof Response ? body : new Response(body);
  });
});
afterEach(() => vi.unstubAllGlobals());

describe("a flow of the server", () => {
  test("sends no request before it is shown, and fetches its view once", async () => {
    const flow = serverFlow("a/b");
    expect(asked).toEqual([]);
    expect(flow.page).toBe("/api/flows/a%2Fb/page");
    const [first, second] = await Promise.all([flow.view(), flow.view()]);
    expect(first).toBe(second);
    expect(asked).toEqual(["/api/flows/a%2Fb/view"]);
  });

  test("rows are fetched once, the whole answer never", async () => {
    const flow = serverFlow("f");
    const view = await flow.view();
    expect(flow.peek!({ start: 0, stop: 1 })).toBeNull();
    const [row, again] = await Promise.all([flow.rows({ start: 0, stop: 1 }), flow.rows({ start: 0, stop: 1 })]);
    expect(again).toBe(row);
    expect([...row]).toEqual([1, 1, 1, 1, 1, 1]);
    expect(await flow.rows({ start: 0, stop: 1 })).toBe(row);
    expect(flow.peek!({ start: 0, stop: 1 })).toBe(row);
    expect(await flow.rows({ start: 0, stop: 2 })).toBe(view.total);
    expect(asked).toEqual(["/api/flows/f/view", "/api/flows/f/rows?start=0&stop=1"]);
  });

  test("fetches received amounts and edges", async () => {
    const flow = serverFlow("f");
    expect([...(await flow.received({ start: 2, stop: 3 }))]).toEqual([2, 2]);
    const edges = await flow.edges("sentence", { start: 0, stop: 2 }, null, 50);
    expect(edges).toEqual({ rows: Int32Array.of(1), pieces: Int32Array.of(-1), mass: Float32Array.of(0.5), total: 2 });
    await flow.edges("token", { start: 0, stop: 1 }, { start: 1, stop: 3 }, 9);
    expect(asked.slice(1)).toEqual([
      "/api/flows/f/received?start=2&stop=3",
      "/api/flows/f/edges?by=sentence&start=0&stop=2&limit=50",
      "/api/flows/f/edges?by=token&start=0&stop=1&limit=9&unit_start=1&unit_stop=3",
    ]);
  });

  test("a failure has the server's message and is not cached", async () => {
    const usual = answer;
    answer = () => Response.json({ error: { code: "gone", message: "That flow is gone." } }, { status: 404 });
    const flow = serverFlow("f");
    await expect(flow.view()).rejects.toThrow("That flow is gone.");
    answer = usual;
    await expect(flow.view()).resolves.toBeTruthy();
    answer = () => encode({ scores: { data: new Float32Array(5) } });
    await expect(flow.rows({ start: 1, stop: 2 })).rejects.toThrow(/does not fit this page \(scores: 5, expected 6\)/);
    answer = () => encode({ other: { data: new Float32Array(6) } });
    await expect(flow.rows({ start: 1, stop: 2 })).rejects.toThrow(/scores: missing/);
    answer = usual;
    expect([...(await flow.rows({ start: 1, stop: 2 }))]).toEqual([2, 2, 2, 2, 2, 2]);
    await expect(flow.rows({ start: 1, stop: 3 })).rejects.toThrow(/There are 2 rows/);
  });
});

describe("cached responses", () => {
  const make = (cache: Cache<string>, key: string): Promise<string> => cache.get(key, async () => key);

  test("are the most recently used, up to a number", async () => {
    const cache = new Cache<string>(2, 1000, (value) => value.length);
    for (const key of ["a", "b", "a", "c"]) await make(cache, key);
    expect([cache.peek("a"), cache.peek("b"), cache.peek("c")]).toEqual(["a", null, "c"]);
  });

  test("are the most recently used, up to a number of bytes; the newest stays at any size", async () => {
    const cache = new Cache<string>(99, 5, (value) => value.length);
    for (const key of ["aa", "bb", "cc"]) await make(cache, key);
    expect([cache.peek("aa"), cache.peek("bb"), cache.peek("cc")]).toEqual([null, "bb", "cc"]);
    await make(cache, "very large");
    expect([cache.peek("bb"), cache.peek("cc"), cache.peek("very large")]).toEqual([null, null, "very large"]);
  });

  test("are fetched once for all callers, and again after a failure", async () => {
    const cache = new Cache<string>(2, 10, () => 1);
    const fail = vi.fn(async () => Promise.reject(new Error("no")));
    const all = await Promise.allSettled([cache.get("x", fail), cache.get("x", fail)]);
    expect(all.map((one) => one.status)).toEqual(["rejected", "rejected"]);
    expect(fail).toHaveBeenCalledTimes(1);
    expect(await make(cache, "x")).toBe("x");
  });
});
