/** A flow with all rows in memory: an exported page, a variant of a run's case, a small file. */
import { groupsOf, TopEdges } from "./edges";
import { type By, type Edges, type FlowSource, type Span, UserError, type View } from "./types";
import type { QuantisedRows } from "./view";

/** Scores, (o, u), read row by row. */
export interface ScoreRows {
  readonly rows: number;
  readonly units: number;
  /** One row. The next call may overwrite it. */
  row(index: number): Float32Array;
}

/** Unpacked rows. */
export class PlainRows implements ScoreRows {
  readonly rows: number;
  readonly units: number;
  readonly #scores: Float32Array;

  /** @param scores (o * u), row after row. */
  constructor(scores: Float32Array, units: number) {
    this.units = units;
    this.rows = units ? scores.length / units : 0;
    if (!Number.isInteger(this.rows)) throw new Error(`${scores.length} scores are no rows of ${units} units`);
    this.#scores = scores;
  }

  row(index: number): Float32Array {
    return this.#scores.subarray(index * this.units, (index + 1) * this.units);
  }
}

/** Rows packed as in exported pages, steps * sqrt(score / largest). They take a quarter of the memory and are unpacked on use. */
export class PackedRows implements ScoreRows {
  readonly rows: number;
  readonly units: number;
  readonly #packed: QuantisedRows;
  /** (steps + 1) the value of each step, as a part of the row's largest. */
  readonly #table: Float32Array;
  readonly #row: Float32Array;
  #index = -1;

  constructor(packed: QuantisedRows, units: number) {
    this.rows = packed.largest.length;
    this.units = units;
    if (packed.values.length !== this.rows * units) throw new Error(`${packed.values.length} values are no ${this.rows} rows of ${units}`);
    this.#packed = packed;
    const steps = packed.values instanceof Uint16Array ? 65535 : 255;
    this.#table = Float32Array.from({ length: steps + 1 }, (_, i) => (i / steps) ** 2);
    this.#row = new Float32Array(units);
  }

  row(index: number): Float32Array {
    if (index === this.#index) return this.#row;
    const { values, largest } = this.#packed;
    const base = index * this.units;
    for (let unit = 0; unit < this.units; unit++) this.#row[unit] = this.#table[values[base + unit]!]! * largest[index]!;
    this.#index = index;
    return this.#row;
  }
}

/** Sums / count, (u). A plain loop: mapping an array of 100,000 numbers takes ten times as long. */
export function meanOf(sums: Float64Array, count: number): Float32Array {
  const out = new Float32Array(sums.length);
  for (let i = 0; i < out.length; i++) out[i] = sums[i]! / count;
  return out;
}

/** Throws a UserError for a span that is empty or leaves 0 ... count. */
export function checkSpan(span: Span, count: number, what: string): void {
  const { start, stop } = span;
  if (!(Number.isInteger(start) && Number.isInteger(stop) && 0 <= start && start < stop && stop <= count))
    throw new UserError(`There are ${count} ${what}; ${start} to ${stop} cannot be shown.`);
}

/** FlowSource over rows in memory. */
export class MemoryFlow implements FlowSource {
  readonly page = null;
  readonly #view: View;
  readonly #rows: ScoreRows;
  #last: { key: string; mean: Float32Array } | null = null;

  /** @param rows (o, u), as many rows and units as the view has. */
  constructor(view: View, rows: ScoreRows) {
    if (rows.units !== view.ends.length || rows.rows !== view.answer.length)
      throw new UserError(
        `The scores are of ${rows.rows} rows and ${rows.units} pieces; ` +
          `the view has ${view.answer.length} and ${view.ends.length}.`,
      );
    this.#view = view;
    this.#rows = rows;
  }

  async view(): Promise<View> {
    return this.#view;
  }

  async rows(rows: Span): Promise<Float32Array> {
    return this.peek(rows);
  }

  /** Like `rows`, without a promise. */
  peek(rows: Span): Float32Array {
    checkSpan(rows, this.#rows.rows, "rows of the answer");
    if (rows.start === 0 && rows.stop === this.#rows.rows) return this.#view.total;
    const key = `${rows.start}-${rows.stop}`;
    if (this.#last?.key !== key) this.#last = { key, mean: this.#mean(rows) };
    return this.#last.mean;
  }

  async received(units: Span): Promise<Float32Array> {
    checkSpan(units, this.#rows.units, "pieces of the prompt");
    const out = new Float32Array(this.#rows.rows);
    for (let r = 0; r < out.length; r++) {
      const row = this.#rows.row(r);
      let sum = 0;
      for (let unit = units.start; unit < units.stop; unit++) sum += row[unit]!;
      out[r] = sum;
    }
    return out;
  }

  async edges(by: By, rows: Span, units: Span | null, limit: number): Promise<Edges> {
    checkSpan(rows, this.#rows.rows, "rows of the answer");
    if (units) checkSpan(units, this.#rows.units, "pieces of the prompt");
    const top = new TopEdges(limit);
    const groups = groupsOf(this.#view, by);
    for (let r = rows.start; r < rows.stop; r++) top.offerRow(r, this.#rows.row(r), groups, units);
    return top.finish();
  }

  #mean({ start, stop }: Span): Float32Array {
    if (stop - start === 1) return this.#rows.row(start).slice();
    const sums = new Float64Array(this.#rows.units);
    for (let r = start; r < stop; r++) {
      const row = this.#rows.row(r);
      for (let unit = 0; unit < sums.length; unit++) sums[unit]! += row[unit]!;
    }
    return meanOf(sums, stop - start);
  }
}
