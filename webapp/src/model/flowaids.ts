/** Sums from one pass over a Flow file, so that most later requests read little of the file. */
import { groupsOf } from "./edges";
import type { FlowScores } from "./flowscores";
import type { Layout } from "./flowview";
import { meanOf } from "./memory";
import { hasShare } from "./shares";
import { type Span, UserError } from "./types";

/** Maximum number of stored sums over sentences. */
const MOST_SUMS = 20_000_000;
/** Maximum bytes of stored sums over blocks of rows. */
const ROOM = 16_000_000;

/** (o, 1 + pieces) the sums of each row over pieces; first the sum of units of no piece. */
export class PieceSums {
  readonly #sums: Float32Array;
  readonly #width: number;
  readonly #of: Int32Array;
  /** The number of units of each piece. */
  readonly #counts: Int32Array;
  readonly #row: Float64Array;

  /** @param of (u) the piece of each unit, -1 for none. */
  constructor(rows: number, pieces: number, of: Int32Array) {
    this.#counts = new Int32Array(pieces);
    for (const piece of of) if (piece >= 0) this.#counts[piece]!++;
    this.#width = pieces + 1;
    this.#sums = new Float32Array(rows * this.#width);
    this.#of = of;
    this.#row = new Float64Array(this.#width);
  }

  /** Writes a row's sums.
   *
   * @param starts (m) the first unit of each run of units of one piece.
   * @param runs (m) the sum of each run.
   */
  put(row: number, starts: Int32Array, runs: Float64Array): void {
    this.#row.fill(0);
    for (let run = 0; run < runs.length; run++) this.#row[this.#of[starts[run]!]! + 1]! += runs[run]!;
    this.#sums.set(this.#row, row * this.#width);
  }

  row(row: number): Float32Array {
    return this.#sums.subarray(row * this.#width, (row + 1) * this.#width);
  }

  /** The amount that every row took from these units, if they are exactly one piece; otherwise null. */
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
  /** (o) the sum of each row over the documents, or over all units if there are no documents. */
  base: Float32Array;
  /** True if some score is below 0 by more than rounding, a millionth of the largest. */
  hasNegative: boolean;
  /** The number of rows of a block, and (u) the sum of each block's rows. The last block may have fewer rows. */
  every: number;
  blocks: Float32Array[];
  /** null if there would be too many, or if they are not needed. */
  sums: { document: PieceSums | null; sentence: PieceSums | null };
  /** (o * u) all scores, if they are kept in memory. */
  kept: Float32Array | null;
}

/** Reads all scores once. Throws a UserError if some are NaN or infinite.
 *
 * @param keep true to keep all scores. Then only the sums of all rows are computed beside them.
 */
export async function makeAids(
  scores: FlowScores, layout: Layout, keep: boolean, name: string, onProgress?: (share: number) => void,
): Promise<Aids> /* prettier-ignore */ {
  const { rows, units } = scores;
  const kept = keep ? new Float32Array(rows * units) : null;
  const every = Math.ceil(rows / Math.max(1, Math.floor(ROOM / (4 * units))));
  const blocks: Float32Array[] = [];
  const total = new Float64Array(units);
  const block = new Float64Array(units);
  const reached = new Float64Array(rows);
  const base = new Float32Array(rows);
  const sumsBy = (by: "document" | "sentence"): PieceSums | null => {
    const { of, count } = groupsOf(layout, by);
    return keep || rows * (count + 1) > MOST_SUMS ? null : new PieceSums(rows, count, of!);
  };
  const sums = { document: sumsBy("document"), sentence: sumsBy("sentence") };
  const starts = runStarts(layout.sentenceOf, layout.documentOf);
  const runs = new Float64Array(starts.length);
  const isInBase = Array.from(starts, (unit) => hasShare(layout, unit));
  const range = new Float64Array(2);
  let bad = 0;
  let told = 0;
  onProgress?.(0);
  await scores.scan({ start: 0, stop: rows }, null, (row, values) => {
    addRow(values, starts, runs, block, range);
    sums.document?.put(row, starts, runs);
    sums.sentence?.put(row, starts, runs);
    const sum = runs.reduce((a, b) => a + b, 0);
    reached[row] = sum;
    base[row] = runs.reduce((a, b, run) => (isInBase[run] ? a + b : a), 0);
    if (!Number.isFinite(sum)) for (const value of values) if (!Number.isFinite(value)) bad++;
    kept?.set(values, row * units);
    if ((row + 1) % every === 0 || row + 1 === rows) {
      for (let unit = 0; unit < units; unit++) total[unit]! += block[unit]!;
      if (!keep) blocks.push(Float32Array.from(block));
      block.fill(0);
    }
    if (onProgress && row + 1 - told >= rows / 100) onProgress((told = row + 1) / rows);
  });
  if (bad)
    throw new UserError(
      `${name} is a flow file whose parts do not fit together: scores must be finite in float32; ` +
        `${bad} of ${rows * units} values are NaN or infinite`,
    );
  const [least, largest] = range as unknown as [number, number];
  const hasNegative = least < -1e-6 * Math.max(largest, -least);
  return { total: meanOf(total, rows), reached, base, hasNegative, every, blocks, sums, kept };
}

/** Adds a row to `block`, writes the sum of each run, and updates `range` (least, largest), all in one loop. */
function addRow(values: Float32Array, starts: Int32Array, runs: Float64Array, block: Float64Array, range: Float64Array): void {
  let least = range[0]!;
  let largest = range[1]!;
  for (let run = 0; run < starts.length; run++) {
    const stop = run + 1 < starts.length ? starts[run + 1]! : values.length;
    let sum = 0;
    for (let unit = starts[run]!; unit < stop; unit++) {
      const value = values[unit]!;
      sum += value;
      block[unit]! += value;
      if (value < least) least = value;
      if (value > largest) largest = value;
    }
    runs[run] = sum;
  }
  range[0] = least;
  range[1] = largest;
}

/** The first unit of each run of units of one sentence and one document. */
function runStarts(sentenceOf: Int32Array, documentOf: Int32Array): Int32Array {
  const starts: number[] = [];
  for (let unit = 0; unit < sentenceOf.length; unit++)
    if (unit === 0 || sentenceOf[unit] !== sentenceOf[unit - 1] || documentOf[unit] !== documentOf[unit - 1]) starts.push(unit);
  return Int32Array.from(starts);
}
