import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Loader } from "../../src/canvas/loader";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const later = <T>(value: T, ms: number) => (signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    setTimeout(() => resolve(value), ms);
    signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
  });

test("the first request starts at once; of later ones only the last, after a delay", async () => {
  const loader = new Loader<string>(), load = vi.fn((value: string) => later(value, 10));
  loader.ask("a", (signal) => load("a")(signal));
  expect(load).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(20);
  expect(loader.state.value).toMatchObject({ data: "a", stale: false });
  for (const key of ["b", "c", "d", "d"]) loader.ask(key, (signal) => load(key)(signal));
  expect(loader.state.value).toMatchObject({ data: "a", stale: true });
  await vi.advanceTimersByTimeAsync(149);
  expect(load).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(20);
  expect(load.mock.calls.map(([value]) => value)).toEqual(["a", "d"]);
  expect(loader.state.value.data).toBe("d");
});

test("is slow after 200 ms, until the data arrive", async () => {
  const loader = new Loader<number>();
  loader.ask("a", later(1, 500));
  await vi.advanceTimersByTimeAsync(199);
  expect(loader.state.value.slow).toBe(false);
  await vi.advanceTimersByTimeAsync(2);
  expect(loader.state.value.slow).toBe(true);
  await vi.advanceTimersByTimeAsync(400);
  expect(loader.state.value).toMatchObject({ slow: false, data: 1 });
});

test("an older request is aborted and its response ignored", async () => {
  const loader = new Loader<string>(), aborted = vi.fn();
  loader.ask("a", (signal) => {
    signal.addEventListener("abort", aborted);
    return new Promise((resolve) => setTimeout(() => resolve("old"), 1000)); // a request that ignores the abort
  });
  loader.ask("b", later("new", 10));
  expect(aborted).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(2000);
  expect(loader.state.value.data).toBe("new");
});

test("a failure is a sentence, keeps the data, and can be retried", async () => {
  const loader = new Loader<string>();
  let answer: () => Promise<string> = () => Promise.resolve("first");
  loader.ask("a", () => answer());
  await vi.advanceTimersByTimeAsync(1);
  answer = () => Promise.reject(Object.assign(new Error("It is gone."), { code: "recording_gone" }));
  loader.ask("b", () => answer());
  await vi.advanceTimersByTimeAsync(200);
  expect(loader.state.value).toEqual({ data: "first", slow: false, stale: false, error: "It is gone.", gone: true });
  answer = () => Promise.resolve("second");
  loader.retry();
  await vi.advanceTimersByTimeAsync(1);
  expect(loader.state.value).toMatchObject({ data: "second", error: null, gone: false });
});

test("after stop() nothing is reported, and ask() works again", async () => {
  const loader = new Loader<string>();
  loader.ask("a", later("a", 50));
  loader.stop();
  await vi.advanceTimersByTimeAsync(300);
  expect(loader.state.value).toMatchObject({ data: null, error: null, slow: false });
  loader.ask("a", later("again", 10));
  await vi.advanceTimersByTimeAsync(11);
  expect(loader.state.value.data).toBe("again");
});
