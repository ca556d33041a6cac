/** Answers that are kept for a while, so that coming back to something costs nothing. */

/** The answers used last, within a number of entries and of bytes; a question that is on its way is not asked twice. */
export class Cache<V> {
  readonly #kept = new Map<string, { value: V; bytes: number }>(); // in the order of their use
  readonly #waiting = new Map<string, Promise<V>>();
  readonly #most: number;
  readonly #room: number;
  readonly #sizeOf: (value: V) => number;
  #bytes = 0;

  /**
   * @param most entries at most.
   * @param room bytes at most; one entry is kept however large it is.
   */
  constructor(most: number, room: number, sizeOf: (value: V) => number) {
    this.#most = most;
    this.#room = room;
    this.#sizeOf = sizeOf;
  }

  /** What is kept for the key, or null. */
  peek(key: string): V | null {
    const found = this.#kept.get(key);
    if (!found) return null;
    this.#kept.delete(key);
    this.#kept.set(key, found);
    return found.value;
  }

  /** What is kept, or on its way, or else made now. A failure is not kept. */
  get(key: string, make: () => Promise<V>): Promise<V> {
    const kept = this.peek(key);
    if (kept !== null) return Promise.resolve(kept);
    const waiting = this.#waiting.get(key);
    if (waiting) return waiting;
    const made = make()
      .then((value) => {
        this.#put(key, value);
        return value;
      })
      .finally(() => this.#waiting.delete(key));
    this.#waiting.set(key, made);
    return made;
  }

  #put(key: string, value: V): void {
    const bytes = this.#sizeOf(value);
    this.#kept.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#kept) {
      if (oldest === key || (this.#kept.size <= this.#most && this.#bytes <= this.#room)) break;
      this.#kept.delete(oldest);
      this.#bytes -= entry.bytes;
    }
  }
}
