/** The share of each piece of the prompt in a row of the flow: the numbers of bars, heat and precision.
 *
 * A share is a part of what came from the documents, as in attributor/_cite: all text of the documents has 100%. If a view
 * has no documents, it is a part of what came from the prompt.
 */
import type { By, Span, View } from "./types";

/** A document, a sentence or a unit (by "token") of the prompt. */
export interface Piece {
  by: By;
  index: number;
}

/** The scores of a row, or the mean of several: (u), and if known the mean parts that did not reach the prompt. */
export interface Row {
  rows: Span;
  scores: Float32Array;
  onAnswer: number | null;
  missing: number | null;
}

/** A row with its scores, its part on answer tokens and its missing mass. */
export function toRow(view: View, rows: Span, scores: Float32Array): Row {
  const known = view.normalized && view.onAnswer !== null && view.missing !== null;
  return { rows, scores, onAnswer: known ? mean(view.onAnswer!, rows) : null, missing: known ? mean(view.missing!, rows) : null };
}

function mean(values: Float32Array, { start, stop }: Span): number {
  let sum = 0;
  for (let i = start; i < stop; i++) sum += Math.max(0, values[i]! || 0); // rounding may give values below 0
  return stop > start ? sum / (stop - start) : 0;
}

/** Shares of what came from the documents, or from the prompt without documents. Values, outside and sink add up to 1
 * (or all are 0 if nothing came from there). */
export interface Shares {
  by: By;
  /** (d, s or u) of each piece. */
  values: Float64Array;
  /** The share of units of no piece: titles, and line breaks between sentences. */
  outside: number;
  /** The share of the first token, if it has its own bar and is not hidden. */
  sink: number;
  /** The divisor of the scores. The share of a unit that `hasShare` is its score / whole. */
  whole: number;
  /** The share of the first token, even if hidden. */
  sinkOfAll: number;
}

/** The origin of a whole row: parts that add up to 1, as `Origin` of attributor/_cite/citations.py. */
export interface Origin {
  documents: number;
  /** The rest of the prompt: question and template. */
  prompt: number;
  /** Earlier tokens of the answer. */
  answer: number;
  /** The missing mass: the part that was not followed. */
  missing: number;
}

/** True if the first token, an attention sink, has its own bar: only if shares are parts of the whole prompt. */
export const hasSink = (view: View): boolean => view.sink && !view.documents.length;

/** True if a unit can have a share: it is in a document, or there are no documents. */
export const hasShare = (view: Pick<View, "documents" | "documentOf">, unit: number): boolean => !view.documents.length || view.documentOf[unit]! >= 0;

/** The whole of a row's shares: its sum over the documents, or over the prompt without documents. */
export function baseOf(view: Pick<View, "documents" | "documentOf">, scores: ArrayLike<number>): number {
  let sum = 0;
  for (let u = 0; u < scores.length; u++) if (scores[u]! > 0 && hasShare(view, u)) sum += scores[u]!;
  return sum;
}

/** The origin of a row; null if it is unknown. */
export function originOf(view: View, row: Row): Origin | null {
  if (row.onAnswer === null || row.missing === null) return null;
  const documents = view.documents.length ? baseOf(view, row.scores) : 0;
  return { documents, prompt: Math.max(0, 1 - documents - row.onAnswer - row.missing), answer: row.onAnswer, missing: row.missing };
}

/** The piece of each unit, -1 for none. By "token" a piece is a unit inside of documents (or sentences), if there are any. */
export function pieceOf(view: View, by: By): (unit: number) => number {
  if (by === "document") return (u) => view.documentOf[u]!;
  if (by === "sentence") {
    const sentenceOf = bodySentences(view);
    return (u) => sentenceOf[u]!;
  }
  const inside = view.documents.length ? view.documentOf : view.sentences ? view.sentenceOf : null;
  return inside ? (u) => (inside[u]! >= 0 ? u : -1) : (u) => u;
}

const bodySentencesKnown = new WeakMap<View, Int32Array>();

/** (u) the sentence of each unit; -1 in a document's title line, "label:", which is no source of an answer. */
function bodySentences(view: View): Int32Array {
  const known = bodySentencesKnown.get(view);
  if (known) return known;
  const { sentenceOf, documentOf } = view;
  const out = sentenceOf.slice();
  let last = -1;
  for (let u = 0; u < out.length; u++) {
    const document = documentOf[u]!;
    if (document < 0 || document === last) continue;
    last = document;
    let stop = u + 1;
    while (stop < out.length && sentenceOf[stop] === sentenceOf[u] && documentOf[stop] === document) stop++;
    const first = view.text.slice(u ? view.ends[u - 1]! : 0, view.ends[stop - 1]!).trim();
    if (view.documents[document] && first === `${view.documents[document]}:`) out.fill(-1, u, stop);
  }
  bodySentencesKnown.set(view, out);
  return out;
}

/** The name of text outside of sentences. */
export const betweenName = (view: View): string => (view.documents.length ? "Titles and line breaks" : "Between sentences");

/** A document's label, or its number. */
export function documentName(view: View, document: number): string {
  return view.documents[document] || `Document ${document + 1}`;
}

/** The name of prompt text outside of all pieces. */
export const asideName = (view: View): string => (view.documents.length ? "Question and template" : "Between sentences");

/** The granularities of a view, coarse to fine. Pieces of an evaluation are its sentences, so only one of the two is offered. */
export function granularities(view: View): By[] {
  const all: By[] = [];
  if (view.documents.length) all.push("document");
  if (view.sentences) all.push("sentence");
  if (view.kind === "token" || !view.sentences) all.push("token");
  return all;
}

/** The number of pieces. */
export function countOf(view: View, by: By): number {
  return by === "document" ? view.documents.length : by === "sentence" ? view.sentences : view.ends.length;
}

/** Sum a row over its pieces, as shares. Scores below 0, which some methods give, count as 0.
 *
 * With `hideSink` a first token with its own bar is left out, and shares are parts of the remainder.
 */
export function sharesBy(view: View, row: Row, by: By, hideSink: boolean): Shares {
  const { scores } = row;
  const piece = pieceOf(view, by);
  const values = new Float64Array(countOf(view, by));
  const first = hasSink(view) ? 1 : 0;
  const sink = first ? Math.max(0, scores[0]! || 0) : 0;
  let outside = 0;
  let listed = 0;
  for (let u = first; u < scores.length; u++) {
    const score = scores[u]!;
    if (!(score > 0) || !hasShare(view, u)) continue;
    listed += score;
    const p = piece(u);
    if (p >= 0) values[p]! += score;
    else outside += score;
  }
  const all = listed + sink;
  const whole = hideSink ? listed : all;
  const part = whole > 0 ? 1 / whole : 0;
  for (let p = 0; p < values.length; p++) values[p]! *= part;
  return { by, values, outside: outside * part, sink: hideSink ? 0 : sink * part, whole, sinkOfAll: all > 0 ? sink / all : 0 };
}

/** (o) the amount that each row took from units, as a share of its `base`; of the whole row for units outside of documents.
 *
 * @param taken (o) the sums of the rows' scores over the units.
 * @param sink (o) the amount that each row took from a left-out first token; null if none is left out.
 */
export function sharesOfRows(view: View, taken: Float32Array, units: Span, sink: Float32Array | null): Float32Array {
  const isShare = hasShare(view, units.start);
  return taken.map((value, row) => {
    const left = Math.max(0, sink?.[row] ?? 0);
    const whole = isShare ? view.base[row]! - left : 1;
    return whole > 0 ? Math.min(1, Math.max(0, value - (units.start === 0 ? left : 0)) / whole) : 0;
  });
}

/** The largest of values, 0 at least. */
export function largestOf(values: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) if (values[i]! > largest) largest = values[i]!;
  return largest;
}

/** The indices of the n largest values above 0, largest first, of equal values the earlier first. A heap, not a full sort. */
export function top(values: ArrayLike<number>, n: number): number[] {
  const heap: number[] = []; // indices; the first one to drop is on top
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

/** The gold pieces; by token, the units of gold sentences; null if the case has no gold. */
export function goldOf(view: View, by: By): ReadonlySet<number> | null {
  let known = goldKnown.get(view);
  if (!known) goldKnown.set(view, (known = {}));
  if (known[by] === undefined) known[by] = findGold(view, by);
  return known[by];
}

const goldKnown = new WeakMap<View, Partial<Record<By, ReadonlySet<number> | null>>>(); // cached, because every bar reads it

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

/** Precision and recall of the k largest pieces. Pieces without a share are never among them, but count in k. */
export function precisionAt(values: ArrayLike<number>, gold: ReadonlySet<number>, k: number): Found {
  let hits = 0;
  for (const p of top(values, k)) if (gold.has(p)) hits++;
  return { k, hits, gold: gold.size, precision: k ? hits / k : 0, recall: gold.size ? hits / gold.size : 0 };
}
