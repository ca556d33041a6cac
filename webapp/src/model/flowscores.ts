/** The scores of a Flow file, (o, k), read in slices and summed by units. */
import { type SafetensorsFile, toFloats } from "./safetensors";
import type { Span } from "./types";

/** Bytes per read. */
const BLOCK = 8_000_000;
/** Of rows with more bytes than this, only the needed columns are read if they are few. */
const LONG_ROW = 131_072;
/** Number of slices requested at the same time. */
const TOGETHER = 256;
/** Milliseconds of work after which the page gets time to handle events. */
const BREATH = 25;

/** A callback for one row. `scores` are those of the requested units and may be overwritten afterwards. */
export type Visit = (row: number, scores: Float32Array) => void;

export class FlowScores {
  readonly rows: number;
  /** (u + 1) the first token of each unit, then k. */
  readonly #bounds: Int32Array;
  readonly #file: SafetensorsFile;

  constructor(file: SafetensorsFile, bounds: Int32Array) {
    this.#file = file;
    this.#bounds = bounds;
    this.rows = file.tensors.get("scores")!.shape[0]!;
  }

  get units(): number {
    return this.#bounds.length - 1;
  }

  /** Visits rows in order. Reads only the requested columns if that saves enough. */
  async scan(rows: Span, units: Span | null, visit: Visit): Promise<void> {
    const span = units ?? { start: 0, stop: this.units };
    const [low, high] = [this.#bounds[span.start]!, this.#bounds[span.stop]!];
    const info = this.#file.tensors.get("scores")!;
    const k = info.shape[1]!;
    const rowBytes = (info.stop - info.start) / this.rows;
    const bySlices = rowBytes > LONG_ROW && 4 * (high - low) <= k;
    const atOnce = bySlices ? TOGETHER : Math.max(1, Math.floor(BLOCK / rowBytes));
    const read = (start: number): Promise<Float32Array[]> => {
      const stop = Math.min(rows.stop, start + atOnce);
      return bySlices ? this.#slices(start, stop, low, high) : this.#block(start, stop, low, high);
    };
    const out = new Float32Array(span.stop - span.start);
    let next = read(rows.start);
    let breath = performance.now();
    for (let start = rows.start; start < rows.stop; start += atOnce) {
      const block = await next;
      if (start + atOnce < rows.stop) {
        next = read(start + atOnce); // read the next block while this one is processed
        next.catch(() => undefined); // the error is reported when `next` is awaited
      }
      for (const [i, scores] of block.entries()) {
        visit(start + i, this.#summed(scores, span, low, out));
        if (performance.now() - breath < BREATH) continue;
        await new Promise((resolve) => setTimeout(resolve));
        breath = performance.now();
      }
    }
  }

  /** Columns low ... high - 1 of some rows. The rows are read whole. */
  async #block(start: number, stop: number, low: number, high: number): Promise<Float32Array[]> {
    const { dtype, shape } = this.#file.tensors.get("scores")!;
    const scores = toFloats({ dtype, data: await this.#file.rows("scores", start, stop) }, "scores");
    const k = shape[1]!;
    return Array.from({ length: stop - start }, (_, i) => scores.subarray(i * k + low, i * k + high));
  }

  async #slices(start: number, stop: number, low: number, high: number): Promise<Float32Array[]> {
    const { dtype } = this.#file.tensors.get("scores")!;
    const one = async (row: number): Promise<Float32Array> =>
      toFloats({ dtype, data: await this.#file.slice("scores", row, low, high) }, "scores");
    return Promise.all(Array.from({ length: stop - start }, (_, i) => one(start + i)));
  }

  /** Scores of tokens -> scores of the units of `span`, if some unit has several tokens. */
  #summed(scores: Float32Array, span: Span, low: number, out: Float32Array): Float32Array {
    if (scores.length === out.length) return scores;
    for (let unit = span.start; unit < span.stop; unit++) {
      let sum = 0;
      for (let token = this.#bounds[unit]!; token < this.#bounds[unit + 1]!; token++) sum += scores[token - low]!;
      out[unit - span.start] = sum;
    }
    return out;
  }
}
