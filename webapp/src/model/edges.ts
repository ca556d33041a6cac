/** The largest connections between the answer's rows and pieces of the prompt. */
import type { By, Edges, Span, View } from "./types";

/** The pieces over which units are summed. */
export interface Groups {
  /** (u) the piece of each unit, -1 for none; null if each unit is its own piece. */
  of: Int32Array | null;
  count: number;
}

/** The pieces of a view by granularity. */
export function groupsOf(view: Pick<View, "documents" | "documentOf" | "sentences" | "sentenceOf" | "ends">, by: By): Groups {
  if (by === "document") return { of: view.documentOf, count: view.documents.length };
  if (by === "sentence") return { of: view.sentenceOf, count: view.sentences };
  return { of: null, count: view.ends.length };
}

/** Keeps the `limit` largest edges in a heap. Its root is the smallest kept edge.
 *
 * Of equal edges the first one is kept, so that the result does not depend on how it was computed.
 */
export class TopEdges {
  /** The mass of all edges offered, kept or not. */
  total = 0;
  readonly #limit: number;
  readonly #mass: Float64Array;
  readonly #rows: Int32Array;
  readonly #pieces: Int32Array;
  readonly #turn: Float64Array;
  #size = 0;
  #offered = 0;
  /** The mass that an edge must exceed. Public, so that loops can check it before they call. */
  threshold = 0;

  constructor(limit: number) {
    this.#limit = Math.max(0, Math.floor(limit));
    this.#mass = new Float64Array(this.#limit);
    this.#rows = new Int32Array(this.#limit);
    this.#pieces = new Int32Array(this.#limit);
    this.#turn = new Float64Array(this.#limit);
    if (this.#limit === 0) this.threshold = Infinity;
  }

  /** Counts an edge, and keeps it if it is among the largest. A mass of 0 or less is ignored. */
  offer(row: number, piece: number, mass: number): void {
    if (!(mass > 0)) return;
    this.total += mass;
    if (mass > this.threshold) this.#keep(row, piece, mass);
  }

  /** Offers the pieces of one row.
   *
   * @param scores (u) of that row.
   * @param units only these; null for all.
   * @param base the unit of `scores[0]`, if they are not those of the whole row.
   */
  offerRow(row: number, scores: Float32Array, groups: Groups, units: Span | null = null, base = 0): void {
    const start = units?.start ?? base;
    const stop = units?.stop ?? base + scores.length;
    if (!groups.of) {
      let total = 0;
      for (let unit = start; unit < stop; unit++) {
        const mass = scores[unit - base]!;
        if (!(mass > 0)) continue;
        total += mass;
        if (mass > this.threshold) this.#keep(row, unit, mass);
      }
      this.total += total;
      return;
    }
    const sums = new Float64Array(groups.count + 1); // the first sum is for units of no piece
    for (let unit = start; unit < stop; unit++) sums[groups.of[unit]! + 1]! += scores[unit - base]!;
    this.offerSums(row, sums);
  }

  /** Offers precomputed sums: (1 + pieces), first the sum of units of no piece. */
  offerSums(row: number, sums: Float64Array | Float32Array): void {
    for (let i = 0; i < sums.length; i++) this.offer(row, i - 1, sums[i]!);
  }

  /** The kept edges, largest first. */
  finish(): Edges {
    const order = Array.from({ length: this.#size }, (_, i) => i);
    order.sort((a, b) => this.#mass[b]! - this.#mass[a]! || this.#turn[a]! - this.#turn[b]!);
    return {
      rows: Int32Array.from(order, (i) => this.#rows[i]!),
      pieces: Int32Array.from(order, (i) => this.#pieces[i]!),
      mass: Float32Array.from(order, (i) => this.#mass[i]!),
      total: this.total,
    };
  }

  #keep(row: number, piece: number, mass: number): void {
    const turn = this.#offered++;
    if (this.#size < this.#limit) {
      let i = this.#size++;
      for (let up = (i - 1) >> 1; i > 0 && this.#mass[up]! >= mass; i = up, up = (i - 1) >> 1) this.#move(up, i);
      this.#put(i, row, piece, mass, turn);
    } else {
      let i = 0;
      for (let down = 1; down < this.#limit; down = 2 * i + 1) {
        if (down + 1 < this.#limit && this.#isLess(down + 1, down)) down++;
        if (this.#mass[down]! >= mass) break; // of equal edges the newest is dropped first
        this.#move(down, i);
        i = down;
      }
      this.#put(i, row, piece, mass, turn);
    }
    if (this.#size === this.#limit) this.threshold = this.#mass[0]!;
  }

  /** True if the edge at a is dropped before the one at b: it is smaller, or equal and newer. */
  #isLess(a: number, b: number): boolean {
    return this.#mass[a]! < this.#mass[b]! || (this.#mass[a] === this.#mass[b] && this.#turn[a]! > this.#turn[b]!);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#rows[from]!, this.#pieces[from]!, this.#mass[from]!, this.#turn[from]!);
  }

  #put(at: number, row: number, piece: number, mass: number, turn: number): void {
    this.#mass[at] = mass;
    this.#rows[at] = row;
    this.#pieces[at] = piece;
    this.#turn[at] = turn;
  }
}
