import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { JobHandlers } from "../../src/api/types";

type Client = typeof import("../../src/api/client");
interface Asked { method: string; path: string; headers: Record<string, string>; body: string | null } // prettier-ignore

let client: Client;
let asked: Asked[];
let answers: (request: Asked) => Response | Promise<Response>;
const SESSION = { door: "serve", version: "1.0", csrf: "token-1", opened: null };

beforeEach(async () => {
  vi.resetModules(); // the module caches the session
  client = await import("../../src/api/client");
  asked = [];
  answers = ({ path }) => Response.json(path === "/api/session" ? SESSION : { ok: true });
  vi.stubGlobal("fetch", async (path: string, init: { method: string; headers: Record<string, string>; body: string | null; signal: AbortSignal | null }) => {
    asked.push({ method: init.method, path, headers: init.headers, body: init.body });
    init.signal?.throwIfAborted();
    return answers(asked.at(-1)!);
  });
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe("requests", () => {
  test("reading requests have no token; changing ones have it, and JSON", async () => {
    expect(await client.api.get("/api/runs")).toEqual({ ok: true });
    expect(asked).toEqual([{ method: "GET", path: "/api/runs", headers: {}, body: null }]);
    expect(await client.api.post("/api/runs", { a: "ż" })).toEqual({ ok: true });
    await client.api.delete("/api/runs/1");
    expect(asked.slice(1)).toEqual([
      { method: "GET", path: "/api/session", headers: {}, body: null },
      { method: "POST", path: "/api/runs", headers: { "X-Attributor-Token": "token-1", "Content-Type": "application/json" }, body: '{"a":"ż"}' },
      { method: "DELETE", path: "/api/runs/1", headers: { "X-Attributor-Token": "token-1" }, body: null },
    ]);
  });

  test("the session is fetched once, and again after a failure", async () => {
    answers = () => Promise.reject(new TypeError("Failed to fetch"));
    const failed = expect(client.session()).rejects;
    await failed.toThrow("The server at this address does not answer; is `attributor` still running?");
    await failed.toBeInstanceOf((await import("../../src/model/types")).UserError);
    answers = () => Response.json(SESSION);
    expect(await Promise.all([client.session(), client.session()])).toEqual([SESSION, SESSION]);
    expect(asked.length).toBe(2);
    answers = () => Promise.reject(new TypeError("Failed to fetch"));
    await expect(client.api.get("/api/x")).rejects.toThrow("is `attributor serve` still running?");
  });

  test("errors have the server's message, code and status", async () => {
    answers = () => Response.json({ error: { code: "queue_full", message: "Four jobs wait already." } }, { status: 429 });
    await expect(client.api.get("/api/x")).rejects.toMatchObject({ message: "Four jobs wait already.", code: "queue_full", status: 429 });
    answers = () => new Response("<html>Bad gateway", { status: 502 });
    await expect(client.api.get("/api/x?secret=1")).rejects.toMatchObject({ message: "The server refused /api/x (status 502).", code: "", status: 502 });
    answers = () => Response.json(null, { status: 500 });
    await expect(client.api.get("/api/x")).rejects.toThrow(/status 500/);
    answers = () => new Response("<html>");
    await expect(client.api.get("/api/x")).rejects.toThrow(/another program at this address/);
  });

  test("a response without content is undefined", async () => {
    answers = ({ path }) => (path === "/api/session" ? Response.json(SESSION) : new Response(null, { status: 204 }));
    expect(await client.api.delete("/api/jobs/1")).toBeUndefined();
  });

  test("a restarted server gets its new token", async () => {
    let csrf = "old";
    answers = ({ path, headers }) => {
      if (path === "/api/session") return Response.json({ ...SESSION, csrf });
      return headers["X-Attributor-Token"] === "new" ? Response.json(1) : Response.json({ error: { code: "csrf", message: "Load the page again." } }, { status: 403 });
    };
    await expect(client.api.post("/api/x", {})).rejects.toThrow("Load the page again."); // the same token again: no second try
    expect(asked.filter(({ method }) => method === "POST").length).toBe(1);
    csrf = "new";
    expect(await client.api.post("/api/x", {})).toBe(1);
  });

  test("a request can be aborted", async () => {
    await expect(client.api.get("/api/x", AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("events", () => {
  /** A stream of these pieces, which breaks at the end if `broken`. */
  function stream(pieces: string[], broken = false): Response {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
        if (broken) controller.error(new TypeError("network error"));
        else controller.close();
      },
    });
    return new Response(body);
  }

  /** Handlers that record their events. */
  function listener(): { told: unknown[]; handlers: JobHandlers } {
    const told: unknown[] = [];
    const names = ["queued", "stage", "token", "done", "failed", "cancelled"] as const;
    return { told, handlers: Object.fromEntries(names.map((name) => [name, (data: unknown) => told.push([name, data])])) };
  }

  test("reach their handlers for any cut of the bytes", async () => {
    const text = '\ufeff: hello\r\n\r\nevent: queued\r\ndata: {"position": 1}\r\n\r\nevent: token\ndata: {"text":\ndata: "żółw 😀"}\nid: 7\n\nevent: later\ndata: {}\n\nevent: done\rdata: {"run": "r", "flow": null}\r\r';
    const bytes = new TextEncoder().encode(text);
    for (const size of [1, 2, 3, 7, 1000]) {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
          controller.close();
        },
      });
      answers = () => new Response(body);
      const { told, handlers } = listener();
      await client.events("j/1", handlers);
      expect(told).toEqual([["queued", { position: 1 }], ["token", { text: "żółw 😀" }], ["done", { run: "r", flow: null }]]); // prettier-ignore
    }
    expect(asked[0]).toMatchObject({ path: "/api/jobs/j%2F1/events", headers: { Accept: "text/event-stream" } });
  });

  test("are handled once after a broken connection, although the server sends them again", async () => {
    vi.useFakeTimers();
    const token = (text: string): string => `event: token\ndata: {"text": "${text}"}\n\n`;
    const parts = [() => stream([token("a"), token("b"), "event: tok"], true), () => Promise.reject(new TypeError("x")), () => stream([token("a"), token("b"), token("c")]), () => stream([token("a"), token("b"), token("c"), "event: cancelled\ndata: {}\n\n"])]; // prettier-ignore
    answers = () => parts.shift()!();
    const { told, handlers } = listener();
    const over = client.events("j", handlers);
    await vi.runAllTimersAsync();
    await over;
    expect(told).toEqual([["token", { text: "a" }], ["token", { text: "b" }], ["token", { text: "c" }], ["cancelled", {}]]); // prettier-ignore
  });

  test("fail if the server stays unreachable, and at once for an unknown job", async () => {
    vi.useFakeTimers();
    answers = () => Promise.reject(new TypeError("x"));
    const over = expect(client.events("j", {})).rejects.toThrow(/does not answer/);
    await vi.runAllTimersAsync();
    await over;
    expect(asked.length).toBe(5);
    answers = () => Response.json({ error: { code: "no_job", message: "There is no such job." } }, { status: 404 });
    await expect(client.events("j", {})).rejects.toThrow("There is no such job.");
    expect(asked.length).toBe(6);
  });

  test("stop after an abort", async () => {
    const abort = new AbortController();
    const cancelled = vi.fn();
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode('event: token\ndata: {"text": "a"}\n\n'));
        abort.signal.addEventListener("abort", () => controller.error(abort.signal.reason));
      },
      cancel: cancelled,
    });
    answers = () => new Response(body);
    const told: string[] = [];
    await client.events("j", { token: ({ text }) => { told.push(text); abort.abort(); } }, abort.signal); // prettier-ignore
    expect(told).toEqual(["a"]);
    expect(asked.length).toBe(1);
  });

  test("an error of a handler is not treated as a network error", async () => {
    answers = () => stream(['event: token\ndata: {"text": "a"}\n\n']);
    const token = vi.fn(() => { throw new RangeError("mine"); }); // prettier-ignore
    await expect(client.events("j", { token })).rejects.toThrow("mine");
    expect(asked.length).toBe(1);
  });
});
