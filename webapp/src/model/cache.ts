/** A cache of responses. */

/** The most recently used responses, up to a number of entries and of bytes. A running request is not sent twice. */
export class Cache<V> {
  readonly #kept = new Map<string, { value: V; bytes: number }>(); // least recently used first
  readonly #waiting = new Map<string, Promise<V>>();
  readonly #most: number;
  readonly #room: number;
  readonly #sizeOf: (value: V) => number;
  #bytes = 0;

  /**
   * @param most maximum number of entries.
   * @param room maximum number of bytes; the newest entry is kept even if it is larger.
   */
  constructor(most: number, room: number, sizeOf: (value: V) => number) {
    this.#most = most;
    this.#room = room;
    this.#sizeOf = sizeOf;
  }

  /** The cached value of the key, or null. */
  peek(key: string): V | null {
    const found = this.#kept.get(key);
    if (!found) return null;
    this.#kept.delete(key);
    this.#kept.set(key, found);
    return found.value;
  }

  /** The cached value, or that of the running request, or of a new one. Failures are not cached. */
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
