/** What one pass over a large Flow file keeps, so that most questions need little of the file again. */
import { groupsOf } from "./edges";
import type { FlowScores } from "./flowscores";
import type { Layout } from "./flowview";
import { type Span, UserError } from "./types";

/** Numbers of sums over sentences up to which they are kept. */
const MOST_SUMS = 20_000_000;
/** Bytes of sums over blocks of rows that are kept. */
const ROOM = 16_000_000;

/** (o, 1 + pieces) the sums of each row over pieces; first what lies in none. */
export class PieceSums {
  readonly #sums: Float32Array;
  readonly #width: number;
  readonly #of: Int32Array;
  /** How many units each piece has. */
  readonly #counts: Int32Array;

  constructor(rows: number, pieces: number, of: Int32Array) {
    this.#counts = new Int32Array(pieces);
    for (const piece of of) if (piece >= 0) this.#counts[piece]!++;
    this.#width = pieces + 1;
    this.#sums = new Float32Array(rows * this.#width);
    this.#of = of;
  }

  /** Writes a row's sums. */
  add(row: number, scores: Float32Array): void {
    const sums = new Float64Array(this.#width);
    for (let unit = 0; unit < scores.length; unit++) sums[this.#of[unit]! + 1]! += scores[unit]!;
    this.#sums.set(sums, row * this.#width);
  }

  row(row: number): Float32Array {
    return this.#sums.subarray(row * this.#width, (row + 1) * this.#width);
  }

  /** What every row took from these units, if they are one piece exactly; else null. */
  column({ start, stop }: Span): Float32Array | null {
    const piece = this.#of[start]!;
    if (piece < 0 || this.#counts[piece] !== stop - start) return null;
    for (let unit = start; unit < stop; unit++) if (this.#of[unit] !== piece) return null;
    return Float32Array.from({ length: this.#sums.length / this.#width }, (_, row) => this.#sums[row * this.#width + piece + 1]!);
  }
}

export interface Aids {
  /** (u) the mean of all rows. */
  total: Float32Array;
  /** (o) the sum of each row. */
  reached: Float64Array;
  /** Below 0 by more than noise, a millionth of the largest. */
  hasNegative: boolean;
  /** Rows of each block, and (u) the sum of the rows of each; the last may have fewer rows. */
  every: number;
  blocks: Float32Array[];
  /** null where they would be too many. */
  sums: { document: PieceSums | null; sentence: PieceSums | null };
  /** (o * u) all scores, where they are few. */
  kept: Float32Array | null;
  /** What each row took from these units, where it is known: those of one sentence or document. */
  column(units: Span): Float32Array | null;
}

/** Reads all scores once. Throws a UserError where some are NaN or infinite. */
export async function makeAids(
  scores: FlowScores, layout: Layout, keep: boolean, name: string, onProgress?: (share: number) => void,
): Promise<Aids> /* prettier-ignore */ {
  const { rows, units } = scores;
  const kept = keep ? new Float32Array(rows * units) : null;
  const every = Math.ceil(rows / Math.max(1, Math.floor(ROOM / (4 * units))));
  const blocks: Float32Array[] = [];
  const total = new Float64Array(units);
  let block = new Float64Array(units);
  const reached = new Float64Array(rows);
  const sumsBy = (by: "document" | "sentence"): PieceSums | null => {
    const { of, count } = groupsOf(layout, by);
    return keep || rows * (count + 1) > MOST_SUMS ? null : new PieceSums(rows, count, of!);
  };
  const sums = { document: sumsBy("document"), sentence: sumsBy("sentence") };
  let least = 0;
  let largest = 0;
  let bad = 0;
  let told = 0;
  onProgress?.(0);
  await scores.scan({ start: 0, stop: rows }, null, (row, values) => {
    let sum = 0;
    for (let unit = 0; unit < units; unit++) {
      const value = values[unit]!;
      sum += value;
      block[unit]! += value;
      if (value < least) least = value;
      else if (value > largest) largest = value;
    }
    reached[row] = sum;
    if (!Number.isFinite(sum)) for (const value of values) if (!Number.isFinite(value)) bad++;
    kept?.set(values, row * units);
    sums.document?.add(row, values);
    sums.sentence?.add(row, values);
    if ((row + 1) % every === 0 || row + 1 === rows) {
      for (let unit = 0; unit < units; unit++) total[unit]! += block[unit]!;
      if (!keep) blocks.push(Float32Array.from(block));
      block = new Float64Array(units);
    }
    if (onProgress && row + 1 - told >= rows / 100) onProgress((told = row + 1) / rows);
  });
  if (bad)
    throw new UserError(
      `${name} is a flow file whose parts do not fit together: scores must be finite in float32; ${bad} of ${rows * units} values are NaN or infinite`,
    );
  return {
    total: Float32Array.from(total, (sum) => sum / rows),
    reached,
    hasNegative: least < -1e-6 * Math.max(largest, -least),
    every,
    blocks,
    sums,
    kept,
    column: (span) => sums.sentence?.column(span) ?? sums.document?.column(span) ?? null,
  };
}
