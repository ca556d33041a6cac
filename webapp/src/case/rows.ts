/** A cache of fetched rows, and a queue that runs only the newest task. */
import type { Span } from "../model/types";

const ROOM = 24_000_000; // bytes of cached rows: 60 rows of 100,000 units

/** The most recently used rows, up to a number of bytes. */
export class RowCache {
  private readonly kept = new Map<string, Float32Array>(); // least recently used first
  private bytes = 0;

  private readonly room: number;

  constructor(room = ROOM) {
    this.room = room;
  }

  get({ start, stop }: Span): Float32Array | undefined {
    const key = `${start}-${stop}`;
    const scores = this.kept.get(key);
    if (scores) {
      this.kept.delete(key);
      this.kept.set(key, scores);
    }
    return scores;
  }

  set({ start, stop }: Span, scores: Float32Array): void {
    const key = `${start}-${stop}`;
    this.bytes += scores.byteLength - (this.kept.get(key)?.byteLength ?? 0);
    this.kept.delete(key);
    this.kept.set(key, scores);
    for (const [oldest, row] of this.kept) {
      if (this.bytes <= this.room || oldest === key) break;
      this.kept.delete(oldest);
      this.bytes -= row.byteLength;
    }
  }
}

/** Runs one task at a time. Of the tasks that arrive meanwhile only the newest runs next. */
export class Latest {
  private busy = false;
  private next: (() => Promise<void>) | null = null;

  /** `task` must not throw. A newer task replaces one that has not started. */
  run(task: () => Promise<void>): void {
    this.next = task;
    if (!this.busy) void this.drain();
  }

  /** Drop the task that has not started. */
  clear(): void {
    this.next = null;
  }

  private async drain(): Promise<void> {
    this.busy = true;
    while (this.next) {
      const task = this.next;
      this.next = null;
      await task();
    }
    this.busy = false;
  }
}
