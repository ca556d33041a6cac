import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { count, draft, edit, job, load, model, start } from "../../src/live/state";
import { EXAMPLE } from "../../src/live/draft";
import type { ModelState } from "../../src/live/types";

const NUMBERS = { prompt_tokens: 30, answer_tokens: 0, window: 100, max_tokens: 100 };
const REQUEST = { id: "org/b", revision: null, dtype: "auto", device_map: "cpu", max_tokens: null } as const;
const ENDED = "event: done\ndata: {}\n\n";

let server: ModelState;
let jobEnds: (events: string) => void;
let countEnds: ((answer: Response) => void) | null;
let counts: AbortSignal[];
let stop: () => void;

const named = (id: string): ModelState => ({ state: "ready", id, revision: null, max_tokens: 100, job: null }) as ModelState;
const json = (body: unknown, status = 200): Response => new Response(JSON.stringify(body), { status });

async function respond(path: string, init?: RequestInit): Promise<Response> {
  if (path === "/api/session") return json({ door: "serve", csrf: "token" });
  if (path === "/api/runs") return json({ runs: [], used: 0, budget: 1 });
  if (path === "/api/jobs/load/events") return new Response(await new Promise<string>((resolve) => (jobEnds = resolve)));
  if (path === "/api/model") return init?.method === "POST" ? json({ job: "load" }, 202) : json(server);
  expect(path).toBe("/api/count");
  counts.push(init!.signal!);
  return countEnds === null ? json(NUMBERS) : new Promise((resolve) => (countEnds = resolve));
}

const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", respond);
  sessionStorage.clear();
  [server, counts, countEnds] = [named("org/a"), [], null];
  [model.value, job.value, count.value, draft.value] = [null, null, null, EXAMPLE];
  stop = start(() => undefined);
  await pass(0);
});

afterEach(() => {
  stop();
  vi.useRealTimers();
});

it("counts the newest draft, after a short delay", async () => {
  await pass(300);
  edit({ question: "Who?" });
  await pass(300);
  expect(counts).toHaveLength(0);
  await pass(100);
  expect(counts).toHaveLength(1);
  expect(count.value).toEqual(NUMBERS);
});

it("is not requested while another model is loading, and uses that model afterwards", async () => {
  await pass(200); // the first count is due in 150 ms
  void load(REQUEST);
  await pass(1000);
  edit({ question: "Who?" });
  await pass(1000);
  expect(job.value?.kind).toBe("load");
  expect(counts).toHaveLength(0);
  server = named("org/b");
  jobEnds(ENDED);
  await pass(1000);
  expect(model.value?.id).toBe("org/b");
  expect(counts).toHaveLength(1);
  expect(count.value).toEqual(NUMBERS);
});

it("is aborted when another model is requested", async () => {
  countEnds = () => undefined;
  await pass(400);
  expect(counts).toHaveLength(1);
  void load(REQUEST);
  expect(counts[0]!.aborted).toBe(true);
  countEnds(json(NUMBERS));
  await pass(1000);
  expect(count.value).toBeNull();
});

it("is not requested if the load leaves no model", async () => {
  void load(REQUEST);
  await pass(0);
  server = { ...named("org/b"), state: "failed", error: "memory ran out" } as ModelState;
  jobEnds('event: failed\ndata: {"code": "", "message": "memory ran out"}\n\n');
  await pass(1000);
  expect(job.value).toBeNull();
  expect(counts).toHaveLength(0);
});

it("uses the model that another tab loaded meanwhile", async () => {
  await pass(400);
  server = named("org/b");
  window.dispatchEvent(new Event("focus"));
  await pass(400);
  expect(counts).toHaveLength(2);
  window.dispatchEvent(new Event("focus")); // the same model
  await pass(400);
  expect(counts).toHaveLength(2);
});
