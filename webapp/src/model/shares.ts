/** What each piece of the prompt took of a row of the flow: the numbers behind bars, heat and precision. */
import type { By, Span, View } from "./types";

/** A document, a sentence or a unit (by "token") of the prompt. */
export interface Piece {
  by: By;
  index: number;
}

/** The scores of a row, or the mean of several: (u), and where known the mean shares that did not reach the prompt. */
export interface Row {
  rows: Span;
  scores: Float32Array;
  onAnswer: number | null;
  missing: number | null;
}

/** Put the row's other shares beside its scores. */
export function toRow(view: View, rows: Span, scores: Float32Array): Row {
  const known = view.normalized && view.onAnswer !== null && view.missing !== null;
  return { rows, scores, onAnswer: known ? mean(view.onAnswer!, rows) : null, missing: known ? mean(view.missing!, rows) : null };
}

function mean(values: Float32Array, { start, stop }: Span): number {
  let sum = 0;
  for (let i = start; i < stop; i++) sum += Math.max(0, values[i]! || 0); // float noise may lie below 0
  return stop > start ? sum / (stop - start) : 0;
}

/** Shares of one whole: values, outside, sink, onAnswer and missing add up to 1 (all are 0 if there is nothing). */
export interface Shares {
  by: By;
  /** (d, s or u) of each piece. */
  values: Float64Array;
  /** Of units that lie in no piece: template and question. */
  outside: number;
  /** Of the first token, where it has a row of its own and is not hidden. */
  sink: number;
  onAnswer: number;
  missing: number;
  /** What the scores were divided by; a unit's share is its score / whole. */
  whole: number;
  /** The share of the first token in everything, also if hidden. */
  sinkOfAll: number;
}

/** The units' pieces: by "token" each unit, but only those inside of documents (or sentences), where there are any. */
export function pieceOf(view: View, by: By): (unit: number) => number {
  if (by === "document") return (u) => view.documentOf[u]!;
  if (by === "sentence") return (u) => view.sentenceOf[u]!;
  const inside = view.documents.length ? view.documentOf : view.sentences ? view.sentenceOf : null;
  return inside ? (u) => (inside[u]! >= 0 ? u : -1) : (u) => u;
}

/** A document's label, or its number. */
export function documentName(view: View, document: number): string {
  return view.documents[document] || `Document ${document + 1}`;
}

/** What lies in no piece. */
export const asideName = (view: View): string => (view.documents.length ? "Template and question" : "Between sentences");

/** The pieces that a view can be shown by, coarse to fine. Pieces of an evaluation are its sentences: showing both would show the same twice. */
export function granularities(view: View): By[] {
  const all: By[] = [];
  if (view.documents.length) all.push("document");
  if (view.sentences) all.push("sentence");
  if (view.kind === "token" || !view.sentences) all.push("token");
  return all;
}

/** How many pieces there are. */
export function countOf(view: View, by: By): number {
  return by === "document" ? view.documents.length : by === "sentence" ? view.sentences : view.ends.length;
}

/** Sum a row over its pieces, as shares of everything. Scores below 0, which some methods give, count as 0.
 *
 * With `hideSink` the first token is left out, and the shares are of what remains.
 */
export function sharesBy(view: View, row: Row, by: By, hideSink: boolean): Shares {
  const { scores } = row;
  const piece = pieceOf(view, by);
  const values = new Float64Array(countOf(view, by));
  const sink = view.sink ? Math.max(0, scores[0]! || 0) : 0;
  let outside = 0;
  let reached = 0;
  for (let u = view.sink ? 1 : 0; u < scores.length; u++) {
    const score = scores[u]!;
    if (!(score > 0)) continue;
    reached += score;
    const p = piece(u);
    if (p >= 0) values[p]! += score;
    else outside += score;
  }
  const onAnswer = row.onAnswer ?? 0;
  const missing = row.missing ?? 0;
  const all = reached + sink + onAnswer + missing;
  const whole = hideSink ? all - sink : all;
  const part = whole > 0 ? 1 / whole : 0;
  for (let p = 0; p < values.length; p++) values[p]! *= part;
  return {
    by,
    values,
    outside: outside * part,
    sink: hideSink ? 0 : sink * part,
    onAnswer: onAnswer * part,
    missing: missing * part,
    whole,
    sinkOfAll: all > 0 ? sink / all : 0,
  };
}

/** The largest of values, 0 at least. */
export function largestOf(values: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) if (values[i]! > largest) largest = values[i]!;
  return largest;
}

/** The indices of the n largest values above 0, largest first, the earlier first where equal. O(n log k), no sort of all. */
export function top(values: ArrayLike<number>, n: number): number[] {
  const heap: number[] = []; // of indices; the one to lose first is on top
  const loses = (a: number, b: number): boolean => values[a]! < values[b]! || (values[a] === values[b] && a > b);
  const sink = (i: number): void => {
    for (;;) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) if (child < heap.length && loses(heap[child]!, heap[least]!)) least = child;
      if (least === i) return;
      [heap[i], heap[least]] = [heap[least]!, heap[i]!];
      i = least;
    }
  };
  for (let i = 0; i < values.length; i++) {
    if (!(values[i]! > 0)) continue;
    if (heap.length < n) {
      heap.push(i);
      if (heap.length === n) for (let j = n >> 1; j >= 0; j--) sink(j);
    } else if (n > 0 && loses(heap[0]!, i)) {
      heap[0] = i;
      sink(0);
    }
  }
  return heap.sort((a, b) => (loses(a, b) ? 1 : -1));
}

/** The pieces that people marked as evidence; by token, the units of gold sentences; null where nobody marked any. */
export function goldOf(view: View, by: By): ReadonlySet<number> | null {
  let known = goldKnown.get(view);
  if (!known) goldKnown.set(view, (known = {}));
  if (known[by] === undefined) known[by] = findGold(view, by);
  return known[by];
}

const goldKnown = new WeakMap<View, Partial<Record<By, ReadonlySet<number> | null>>>(); // bars ask for each piece

function findGold(view: View, by: By): ReadonlySet<number> | null {
  if (by === "document") return view.goldDocuments ?? documentsOfGold(view);
  if (!view.gold || by === "sentence") return view.gold;
  const units = new Set<number>();
  for (let u = 0; u < view.ends.length; u++) if (view.gold.has(view.sentenceOf[u]!)) units.add(u);
  return units;
}

function documentsOfGold(view: View): ReadonlySet<number> | null {
  if (!view.gold || !view.documents.length) return null;
  const documents = new Set<number>();
  for (let u = 0; u < view.ends.length; u++) if (view.gold.has(view.sentenceOf[u]!) && view.documentOf[u]! >= 0) documents.add(view.documentOf[u]!);
  return documents;
}

export interface Found {
  k: number;
  hits: number;
  gold: number;
  /** hits / k. */
  precision: number;
  /** hits / gold. */
  recall: number;
}

/** How much of the gold the k largest pieces hold. Pieces with no share are never among them, but count in k. */
export function precisionAt(values: ArrayLike<number>, gold: ReadonlySet<number>, k: number): Found {
  let hits = 0;
  for (const p of top(values, k)) if (gold.has(p)) hits++;
  return { k, hits, gold: gold.size, precision: k ? hits / k : 0, recall: gold.size ? hits / gold.size : 0 };
}
