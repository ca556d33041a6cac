/** Loads the data of a picture: debounces requests, aborts older ones, and reports slow ones. */
import { signal } from "@preact/signals";
import type { ReadonlySignal } from "@preact/signals";

/** The state of a request. The last data stay while newer data are fetched. */
export interface Loaded<T> {
  data: T | null;
  /** True once a request has taken longer than 200 ms. */
  slow: boolean;
  /** True while the data are older than the last request. */
  stale: boolean;
  /** A sentence, or null. */
  error: string | null;
  /** True if the recording was evicted: only another run helps. */
  gone: boolean;
}

/** An error with the server's code: HTTP 409 `recording_gone` if the recording was evicted. */
export interface Coded {
  code?: string;
  status?: number;
}

const REST_MS = 150, SLOW_MS = 200;
const EMPTY = { data: null, slow: false, stale: false, error: null, gone: false };

/** True if an error means that the recording was evicted. */
export function isGone(error: unknown): boolean {
  return typeof error === "object" && error !== null && (error as Coded).code === "recording_gone";
}

/** Loads one kind of data. `ask` may be called often: at most one request runs. */
export class Loader<T> {
  private readonly now = signal<Loaded<T>>(EMPTY);
  private key: string | null = null;
  private load: ((signal: AbortSignal) => Promise<T>) | null = null;
  private running: AbortController | null = null;
  private rest: ReturnType<typeof setTimeout> | undefined;

  get state(): ReadonlySignal<Loaded<T>> {
    return this.now;
  }

  /** Fetches if the key differs from the last one. The first request starts at once, later ones after 150 ms. */
  ask(key: string, load: (signal: AbortSignal) => Promise<T>): void {
    if (key === this.key) return;
    const first = this.key === null;
    this.key = key;
    this.load = load;
    this.running?.abort();
    clearTimeout(this.rest);
    this.now.value = { ...this.now.peek(), stale: true };
    if (first) void this.start();
    else this.rest = setTimeout(() => void this.start(), REST_MS);
  }

  /** Repeats the last request. */
  retry(): void {
    if (this.load) void this.start();
  }

  /** Aborts the running request. Loaded data stay readable. */
  stop(): void {
    clearTimeout(this.rest);
    this.running?.abort();
    this.key = null;
  }

  private async start(): Promise<void> {
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    this.now.value = { ...this.now.peek(), error: null, gone: false, stale: true };
    const slow = setTimeout(() => {
      if (this.running === running) this.now.value = { ...this.now.peek(), slow: true };
    }, SLOW_MS);
    try {
      const data = await (this.load as (signal: AbortSignal) => Promise<T>)(running.signal);
      if (this.running === running && !running.signal.aborted) this.now.value = { ...EMPTY, data };
    } catch (error) {
      if (this.running !== running || running.signal.aborted) return;
      const message = error instanceof Error && error.message ? error.message : "This could not be loaded.";
      this.now.value = { ...this.now.peek(), slow: false, stale: false, error: message, gone: isGone(error) };
    } finally {
      clearTimeout(slow);
    }
  }
}
