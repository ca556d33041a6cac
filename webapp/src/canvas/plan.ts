/** The layout of the whole-model picture, and hit tests on it. It needs no canvas. */
import { granularities } from "../model/shares";
import type { By, Edges, Span, View } from "../model/types";
import { oneLine, piecesBetween, piecesOf, places, roomFor, shareLine, unitsBetween } from "./layout";
import type { Pieces, Room } from "./layout";

export interface CurvesData {
  view: View;
  /** The granularity of the edges' pieces. */
  by: By;
  /** Null before they are loaded. */
  edges: Edges | null;
  /** The pinned rows; null for the whole answer. */
  rows: Span | null;
  /** (u) how much the pinned rows took from each unit: the heat of the pieces. */
  scores: ArrayLike<number>;
  /** The selected units. */
  picked: readonly Span[];
  room: Room;
  /** The granularity to show, or "auto" for the finest that fits. */
  grain: By | "auto";
}

/** A piece of the prompt, a row of the answer, or one curve between the two. */
export type CurvesHit =
  | { kind: "piece"; by: By; group: number; units: Span }
  | { kind: "row"; row: number }
  | { kind: "edge"; row: number; group: number; by: By; mass: number };

/** Maps a place along the prompt's axis (0 to 1) to pixels and back, like d3's zoom transform. */
export interface Lens {
  k: number;
  applyX(x: number): number;
  invertX(x: number): number;
}

// The bands from top to bottom, in pixels.
export const DOCUMENTS = 30, PIECES = 44, PIECE_TALL = 26, CURVES = PIECES + PIECE_TALL, ROW_TALL = 28, FOOT = 14;
/** Pixels of the thickest curve. */
export const THICKEST = 11;

export const overlap = (a: Span, b: Span): boolean => a.start < b.stop && b.start < a.stop;

/** True for the template, the question and the sink. They have much mass and little meaning, so they are grey and do not set the scale. */
export function isAside(view: View, by: By, piece: number): boolean {
  return piece < 0 || (piece === 0 && by === "token" && view.sink);
}

export class Plan {
  at: Float64Array = new Float64Array(1);
  /** (u + 1) sums of the scores of all units before. */
  sums: Float64Array = new Float64Array(1);
  grains: Pieces[] = [];
  rows: { x: Float64Array; width: Float64Array } = { x: new Float64Array(0), width: new Float64Array(0) };
  /** Edges, smallest first, so that the largest are drawn on top. */
  order: number[] = [];
  width = 1;
  height = 1;
  /** The number of edges from the template, the question or the sink. */
  asides = 0;
  private largest = 0;
  private aside = -1;
  private laid: { view: View; room: Room } | null = null;

  constructor(readonly data: CurvesData, before: Plan | null) {
    const { view, room } = data;
    // Pieces and places depend on the view alone: reuse them if only the edges are new.
    if (before?.laid?.view === view && before.laid.room === room) {
      this.at = before.at;
      this.grains = before.grains;
    } else {
      this.at = places(view, room);
      this.grains = granularities(view).map((by) => piecesOf(view, by));
    }
    this.laid = { view, room };
    this.sums = new Float64Array(data.scores.length + 1);
    for (let u = 0; u < data.scores.length; u++) this.sums[u + 1] = this.sums[u] + data.scores[u];
    this.order = data.edges ? Array.from(data.edges.mass.keys()).sort((a, b) => this.mass(a) - this.mass(b)) : [];
    for (const e of this.order) {
      if (this.isAside(e)) this.asides++;
      else this.largest = Math.max(this.largest, this.mass(e));
    }
    if (!this.largest && this.order.length) this.largest = this.mass(this.order[this.order.length - 1]);
    this.aside = this.findAside();
  }

  /** Sets the size. `measure` returns the width of a text of the answer. */
  fit(width: number, height: number, measure: (text: string) => number): void {
    const { view, rows } = this.data;
    this.width = width;
    this.height = height;
    const isChosen = (r: number) => rows !== null && r >= rows.start && r < rows.stop;
    this.rows = shareLine(view.answer.map((text) => Math.max(20, measure(oneLine(text)) + 12)), isChosen, width);
  }

  get rowTop(): number {
    return this.height - FOOT - ROW_TALL;
  }

  grain(by: By): Pieces | undefined {
    return this.grains.find((g) => g.by === by);
  }

  /** The visible units and their granularity. */
  window(lens: Lens): { units: Span; by: By; zoomed: boolean } {
    const units = unitsBetween(this.at, this.left(lens), this.right(lens)), wish = this.data.grain;
    const by = wish !== "auto" && this.grain(wish) ? wish : roomFor(this.grains, units, this.width);
    return { units, by, zoomed: lens.k > 1.001 };
  }

  left(lens: Lens): number {
    return Math.max(0, lens.invertX(0) / this.width);
  }

  right(lens: Lens): number {
    return Math.min(1, lens.invertX(this.width) / this.width);
  }

  /** Left edge and width of units on the screen. */
  extent(units: Span, lens: Lens): [number, number] {
    const x = lens.applyX(this.at[units.start] * this.width);
    return [x, lens.applyX(this.at[units.stop] * this.width) - x];
  }

  heat(pieces: Pieces, piece: number): number {
    return (this.sums[pieces.stop[piece]] ?? 0) - (this.sums[pieces.start[piece]] ?? 0);
  }

  mass(edge: number): number {
    return this.data.edges?.mass[edge] ?? 0;
  }

  /** The mass of an edge relative to the largest, 0 to 1. */
  part(edge: number): number {
    return Math.min(1, this.mass(edge) / (this.largest || 1));
  }

  isAside(edge: number): boolean {
    return isAside(this.data.view, this.data.by, this.data.edges?.pieces[edge] ?? -1);
  }

  /** The units of a document, sentence or unit; for group -1 the run outside of all with the most mass. */
  unitsOf(by: By, group: number): Span | null {
    const pieces = this.grain(by), p = group >= 0 ? (pieces?.pieceOf[group] ?? -1) : this.aside;
    return pieces && p >= 0 ? { start: pieces.start[p], stop: pieces.stop[p] } : null;
  }

  /** The x at which an edge starts above and ends below; null if it has no place. */
  ends(edge: number, lens: Lens): [number, number] | null {
    const { edges, by } = this.data;
    if (!edges) return null;
    const row = edges.rows[edge], units = this.unitsOf(by, edges.pieces[edge]);
    if (!units || !(row < this.rows.x.length)) return null;
    const [x, width] = this.extent(units, lens);
    // The curves of a piece that extends beyond the picture start inside of it.
    const from = Math.max(0, x), to = Math.min(this.width, x + width);
    return [to > from ? (from + to) / 2 : x + width / 2, this.rows.x[row] + this.rows.width[row] / 2];
  }

  isPicked(units: Span | null): boolean {
    return units !== null && this.data.picked.some((span) => overlap(span, units));
  }

  /** The thickness and darkness of curves, 0 to 1: many curves are drawn thinner. */
  get crowd(): number {
    return Math.min(1, Math.max(0.25, Math.sqrt(150 / Math.max(1, this.order.length - this.asides))));
  }

  /** A test of whether an edge belongs to the hit element. */
  touches(hit: CurvesHit): (edge: number) => boolean {
    const { edges, by } = this.data;
    if (!edges) return () => false;
    if (hit.kind === "row") return (e) => edges.rows[e] === hit.row;
    if (hit.kind === "edge") return (e) => edges.rows[e] === hit.row && edges.pieces[e] === hit.group;
    return (e) => {
      const units = this.unitsOf(by, edges.pieces[e]);
      return units !== null && overlap(units, hit.units);
    };
  }

  piece(pieces: Pieces, p: number): CurvesHit {
    return { kind: "piece", by: pieces.by, group: pieces.group[p], units: { start: pieces.start[p], stop: pieces.stop[p] } };
  }

  hit(x: number, y: number, lens: Lens): CurvesHit | null {
    if (y < CURVES + 2) return this.pieceAt(x, y, lens);
    if (y < this.rowTop - 2) return this.edgeAt(x, y, lens);
    // A point between two rows belongs to the nearer one.
    let best = -1, near = 20;
    for (let r = 0; r < this.rows.x.length; r++) {
      const away = Math.max(this.rows.x[r] - x, x - this.rows.x[r] - this.rows.width[r]);
      if (away < near) [best, near] = [r, away];
    }
    return best < 0 ? null : { kind: "row", row: best };
  }

  private pieceAt(x: number, y: number, lens: Lens): CurvesHit | null {
    const { by } = this.window(lens), place = lens.invertX(x) / this.width;
    if (place < 0 || place >= 1 || y < DOCUMENTS - 12) return null;
    const above = y < PIECES - 3, pieces = this.grain(above ? "document" : by);
    if (!pieces || (above && by === "document")) return null;
    const { start } = unitsBetween(this.at, place, place);
    return this.piece(pieces, piecesBetween(pieces, { start, stop: start + 1 }).start);
  }

  private edgeAt(x: number, y: number, lens: Lens): CurvesHit | null {
    const { edges, by } = this.data;
    if (!edges) return null;
    const toCurve = distance((y - CURVES) / (this.rowTop - CURVES), this.rowTop - CURVES);
    let best = -1, near = 7;
    for (const e of this.order) {
      const ends = this.ends(e, lens);
      if (!ends) continue;
      const away = Math.max(0, toCurve(ends[0], ends[1], x) - (THICKEST / 2) * this.part(e) * this.crowd);
      if (away <= near) [best, near] = [e, away];
    }
    return best < 0 ? null : { kind: "edge", row: edges.rows[best], group: edges.pieces[best], by, mass: this.mass(best) };
  }

  private findAside(): number {
    const pieces = this.grain(this.data.by);
    let best = -1, most = -1;
    pieces?.group.forEach((group, p) => {
      const heat = group < 0 ? this.heat(pieces, p) : -1;
      if (heat > most) [best, most] = [p, heat];
    });
    return best;
  }
}

/** The horizontal progress of a curve at a vertical progress: its y is 1.5t - 1.5t^2 + t^3, its x 3t^2 - 2t^3. */
export function progress(down: number): number {
  let low = 0, high = 1;
  for (let i = 0; i < 24; i++) {
    const t = (low + high) / 2;
    if (1.5 * t - 1.5 * t * t + t ** 3 < down) low = t;
    else high = t;
  }
  return 3 * low * low - 2 * low ** 3;
}

/** For curves `tall` pixels high, at one vertical progress: the distance of a point from a curve, in pixels. */
export function distance(down: number, tall: number): (from: number, to: number, x: number) => number {
  const across = progress(down), step = 1e-3;
  const slope = (progress(Math.min(1, down + step)) - progress(Math.max(0, down - step))) / (2 * step * tall);
  // For a nearly horizontal curve the horizontal distance is too large, so use the perpendicular distance.
  return (from, to, x) => Math.abs(from + (to - from) * across - x) / Math.hypot(1, (to - from) * slope);
}
