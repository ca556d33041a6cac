/** Places the pieces of the prompt along an axis, and chooses documents, sentences or tokens by the room. Pure functions. */
import { asideName, documentName } from "../model/shares";
import type { By, Span, View } from "../model/types";

/** The width of a piece along the axis: by its characters, or by its mass in the whole answer. */
export type Room = "text" | "mass";

/** Runs of units of one document or sentence (or of none), or single units; in the order of the text. */
export interface Pieces {
  by: By;
  /** (p) the first unit of each piece. */
  start: Int32Array;
  /** (p) the unit after its last. */
  stop: Int32Array;
  /** (p) its document, sentence or unit; -1 for text outside of all. */
  group: Int32Array;
  /** Document, sentence or unit -> its piece; if it has several, the one with the most units. */
  pieceOf: Int32Array;
}

/** (u + 1) the start of each unit along the axis, 0 to 1. */
export function places(view: View, room: Room): Float64Array {
  const units = view.ends.length, at = new Float64Array(units + 1);
  if (!units) return at;
  const length = view.text.length || 1;
  let sum = 0;
  // The sink is one token with most of the mass. "mass" would show nothing else, so it is excluded.
  const first = view.sink ? 1 : 0;
  for (let u = first; u < units; u++) sum += Math.max(0, view.total[u]);
  for (let u = 0; u < units; u++) {
    const text = (view.ends[u] - (u ? view.ends[u - 1] : 0)) / length;
    const mass = u >= first && sum > 0 ? Math.max(0, view.total[u]) / sum : 0;
    // A quarter of the width follows the text, so that pieces without mass stay visible.
    at[u + 1] = at[u] + (room === "mass" && sum > 0 ? 0.25 * text + 0.75 * mass : text);
  }
  const all = at[units];
  if (all > 0) for (let u = 1; u <= units; u++) at[u] = at[u] / all;
  return at;
}

/** The pieces of one granularity. O(u). */
export function piecesOf(view: View, by: By): Pieces {
  const units = view.ends.length;
  if (by === "token") {
    const start = Int32Array.from({ length: units }, (_, u) => u);
    return { by, start, stop: start.map((u) => u + 1), group: start, pieceOf: start };
  }
  const of = by === "document" ? view.documentOf : view.sentenceOf;
  const starts: number[] = [];
  for (let u = 0; u < units; u++) if (u === 0 || of[u] !== of[u - 1]) starts.push(u);
  const start = Int32Array.from(starts), stop = Int32Array.from(starts, (_, p) => starts[p + 1] ?? units);
  const group = start.map((u) => of[u]);
  const pieceOf = new Int32Array(by === "document" ? view.documents.length : view.sentences).fill(-1);
  group.forEach((g, p) => {
    if (g < 0 || g >= pieceOf.length) return;
    const now = pieceOf[g];
    const long = (q: number) => stop[q] - start[q];
    if (now < 0 || long(p) > long(now)) pieceOf[g] = p;
  });
  return { by, start, stop, group, pieceOf };
}

/** Index of the last entry that is <= value, in an ascending list that starts at or below it. */
export function lastAtMost(list: ArrayLike<number>, value: number): number {
  let low = 0, high = list.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (list[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The units between two places of the axis. */
export function unitsBetween(at: Float64Array, from: number, to: number): Span {
  const units = at.length - 1;
  if (units <= 0) return { start: 0, stop: 0 };
  const start = Math.min(lastAtMost(at, from), units - 1);
  return { start, stop: Math.max(start + 1, Math.min(units, lastAtMost(at, Math.max(from, to - 1e-12)) + 1)) };
}

/** The span of pieces that overlap these units. */
export function piecesBetween(pieces: Pieces, units: Span): Span {
  if (!pieces.start.length) return { start: 0, stop: 0 };
  return { start: lastAtMost(pieces.start, units.start), stop: lastAtMost(pieces.start, Math.max(units.start, units.stop - 1)) + 1 };
}

const ENOUGH: Record<By, number> = { document: 0, sentence: 30, token: 26 };

/** The finest granularity whose pieces are on average wide enough to read and to point at. */
export function roomFor(byGrain: readonly Pieces[], units: Span, width: number): By {
  for (const pieces of [...byGrain].reverse()) {
    const seen = piecesBetween(pieces, units);
    if (width / Math.max(1, seen.stop - seen.start) >= ENOUGH[pieces.by]) return pieces.by;
  }
  return byGrain[0].by;
}

/** The text of a run of units, on one line. */
export function textOf(view: View, units: Span, limit = 400): string {
  const start = units.start ? view.ends[units.start - 1] : 0;
  const text = view.text.slice(start, Math.min(view.ends[units.stop - 1] ?? start, start + limit));
  return oneLine(text);
}

/** A label of one line. A token of white space alone becomes a visible symbol. */
export function oneLine(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  if (line) return line;
  if (!text) return "∅";
  return text.includes("\n") ? "↵" : "␣";
}

/** The name of a piece: the document's label, or its text. */
export function nameOf(view: View, pieces: Pieces, piece: number): string {
  const group = pieces.group[piece];
  if (group < 0) return asideName(view);
  if (pieces.by === "document") return documentName(view, group);
  return textOf(view, { start: pieces.start[piece], stop: pieces.stop[piece] });
}

const MOST_AIR = 34; // largest gap between boxes in pixels

/** Widths of boxes along a line.
 *
 * If all natural widths fit, boxes have these widths with gaps between them. Otherwise the chosen boxes get theirs, up to three quarters
 * of the line, and the others share the remainder.
 */
export function shareLine(natural: readonly number[], chosen: (i: number) => boolean, width: number): { x: Float64Array; width: Float64Array } {
  const count = natural.length, widths = new Float64Array(count);
  const sum = natural.reduce((a, b) => a + b, 0);
  let left = 0, air = 0;
  if (sum <= width) {
    widths.set(natural);
    air = Math.min(MOST_AIR, Math.max(0, (0.8 * width - sum) / Math.max(1, count)));
    left = (width - sum - air * (count - 1)) / 2;
  } else {
    const wanted = natural.reduce((a, b, i) => a + (chosen(i) ? b : 0), 0);
    const others = natural.reduce((a, _, i) => a + (chosen(i) ? 0 : 1), 0);
    const forChosen = others ? Math.min(wanted, 0.75 * width) : width;
    for (let i = 0; i < count; i++) {
      widths[i] = chosen(i) ? (natural[i] / (wanted || 1)) * forChosen : (width - forChosen) / others;
    }
  }
  const x = new Float64Array(count);
  for (let i = 0, at = left; i < count; at += widths[i] + air, i++) x[i] = at;
  return { x, width: widths };
}
