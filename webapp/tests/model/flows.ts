/** Flow files for the tests: fixtures, hand-made files, and large files generated while they are read. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Bytes } from "../../src/model/bytes";
import { encode, type Writable } from "../../src/model/safetensors";
import { utf8 } from "./views";

/** A file written by fixtures/make.py. */
export function fixture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(import.meta.dirname, "fixtures", name)));
}

const TEXT = "One. Two!\n\nThree? Four.";
const META = { format: "attributor.flow", version: "1", documents: '[[0, 9, "First"], [11, 23, null]]', meta: '{"model": "tiny", "normalize": "true"}' };
/** Tokens "One", ".", " Two", "!", "\n\n", "Three", "?", " Four", "."; two rows. */
const TENSORS: Record<string, Writable> = {
  scores: { data: Float32Array.from({ length: 18 }, (_, i) => (1 + ((5 * i) % 9)) / 60), shape: [2, 9] },
  ids: { data: BigInt64Array.from({ length: 11 }, (_, i) => BigInt(i)) },
  missing_mass: { data: new Float32Array([0.05, 0.1]) },
  text: { data: utf8(TEXT) },
  offsets: { data: Int32Array.of(0, 3, 3, 4, 4, 8, 8, 9, 9, 11, 11, 16, 16, 17, 17, 22, 22, 23), shape: [9, 2] },
  answer: { data: utf8("Yes.") },
  answer_offsets: { data: Int32Array.of(0, 3, 3, 4), shape: [2, 2] },
};

/** The file with some parts changed; null removes a part. */
export function flowFile(tensors: Record<string, Writable | null> = {}, metadata: Record<string, string | null> = {}): Uint8Array<ArrayBuffer> {
  const there = <T>(parts: Record<string, T | null>): Record<string, T> =>
    Object.fromEntries(Object.entries(parts).filter((part): part is [string, T] => part[1] !== null));
  return encode(there({ ...TENSORS, ...tensors }), there({ ...META, ...metadata }));
}

/** The score of a large flow: a few decimals, exact in float32 and in sums of thousands. */
export function scoreOf(row: number, token: number): number {
  return ((row * 31 + token * 17) % 1024) / 2 ** 20;
}

/** A flow without text whose scores are generated when they are read, so it is never in memory as a whole. */
export class LargeFlow implements Bytes {
  readonly size: number;
  /** Number of bytes of scores read so far. */
  scoresRead = 0;
  readonly #rest: Uint8Array;
  readonly #k: number;
  readonly #at: number;

  constructor(o: number, k: number) {
    const metadata = { format: "attributor.flow", version: "1", documents: "[]", meta: "{}" };
    const idBytes = 8 * (k + o);
    const places = {
      __metadata__: metadata,
      ids: { dtype: "I64", shape: [k + o], data_offsets: [0, idBytes] },
      scores: { dtype: "F32", shape: [o, k], data_offsets: [idBytes, idBytes + 4 * o * k] },
    };
    let json = JSON.stringify(places);
    json = json.padEnd(Math.ceil(json.length / 8) * 8);
    this.#rest = new Uint8Array(8 + json.length + idBytes);
    new DataView(this.#rest.buffer).setBigUint64(0, BigInt(json.length), true);
    this.#rest.set(utf8(json), 8);
    this.#k = k;
    this.#at = this.#rest.length;
    this.size = this.#at + 4 * o * k;
  }

  async read(start: number, stop: number): Promise<Uint8Array> {
    if (start < this.#at) return this.#rest.slice(start, Math.min(stop, this.#at));
    this.scoresRead += stop - start;
    const first = (start - this.#at) / 4;
    const out = new Float32Array((stop - start) / 4);
    let row = Math.floor(first / this.#k);
    let token = first % this.#k;
    for (let i = 0; i < out.length; i++) {
      out[i] = scoreOf(row, token);
      if (++token === this.#k) [row, token] = [row + 1, 0];
    }
    return new Uint8Array(out.buffer);
  }
}
