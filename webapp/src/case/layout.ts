/** Cuts a prompt into blocks (a document, or the text between two) and these into chunks of about 256 units. */
import { countOf, type Piece } from "../model/shares";
import type { By, Span, View } from "../model/types";

const CHUNK = 256; // units in a chunk: small enough to colour fast, large enough to need few elements

/** A span of units that is one text node. */
export interface Chunk {
  units: Span;
  /** Start and stop of its text in view.text. White space at the edges of a block is not shown. */
  start: number;
  stop: number;
}

export interface Block {
  /** The index of the document, -1 for text outside of documents. */
  document: number;
  /** Indices into Layout.chunks. */
  chunks: Span;
}

/** Everything about a view that does not depend on scores. */
export interface Layout {
  chunks: Chunk[];
  blocks: Block[];
  /** The units of a piece, from its first to its last; null if it has none. */
  unitsOf(piece: Piece): Span | null;
  /** The document of the sentence's first unit. */
  documentOfSentence(sentence: number): number;
  /** The unit at a UTF-16 index of the text. */
  unitAt(index: number): number;
  /** The chunk that shows a unit, or the nearest chunk before it. */
  chunkOf(unit: number): number;
}

/** Cut a view. O(u). */
export function layOut(view: View): Layout {
  const { ends, documentOf, documents } = view;
  const blocks: Block[] = [];
  const chunks: Chunk[] = [];
  for (let u = 0; u < ends.length; ) {
    const document = documents.length ? documentOf[u]! : 0;
    let stop = u + 1;
    while (stop < ends.length && (documents.length ? documentOf[stop]! : 0) === document) stop++;
    const first = chunks.length;
    cut(view, { start: u, stop }, chunks);
    if (chunks.length > first) blocks.push({ document: documents.length ? document : -1, chunks: { start: first, stop: chunks.length } });
    u = stop;
  }
  const sentenceSpans = spans(view, "sentence");
  const documentSpans = spans(view, "document");
  return {
    chunks,
    blocks,
    unitsOf({ by, index }) {
      if (by === "token") return index >= 0 && index < ends.length ? { start: index, stop: index + 1 } : null;
      const [starts, stops] = by === "sentence" ? sentenceSpans : documentSpans;
      return index >= 0 && index < starts.length && stops[index]! > 0 ? { start: starts[index]!, stop: stops[index]! } : null;
    },
    documentOfSentence: (sentence) => (sentenceSpans[1][sentence]! > 0 ? documentOf[sentenceSpans[0][sentence]!]! : -1),
    unitAt: (index) => upper(ends, index),
    chunkOf: (unit) => {
      let low = 0;
      let high = chunks.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (chunks[middle]!.units.start <= unit) low = middle;
        else high = middle - 1;
      }
      return low;
    },
  };
}

/** The first i with ends[i] > index, at most the last one. */
function upper(ends: Int32Array, index: number): number {
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle]! > index) high = middle;
    else low = middle + 1;
  }
  return low;
}

function spans(view: View, by: By): [Int32Array, Int32Array] {
  const of = by === "sentence" ? view.sentenceOf : view.documentOf;
  const starts = new Int32Array(countOf(view, by));
  const stops = new Int32Array(starts.length); // 0: no unit yet
  for (let u = 0; u < of.length; u++) {
    const piece = of[u]!;
    if (piece < 0 || piece >= starts.length) continue;
    if (stops[piece] === 0) starts[piece] = u;
    stops[piece] = u + 1;
  }
  return [starts, stops];
}

function cut(view: View, { start, stop }: Span, chunks: Chunk[]): void {
  const { text, ends } = view;
  const startOf = (u: number): number => (u > 0 ? ends[u - 1]! : 0);
  // Drop blank lines at the edges of a block, but keep the indentation of its first line.
  const from = startOf(start) + /^(\s*\n)? ?/.exec(text.slice(startOf(start), ends[stop - 1]!))![0].length;
  const to = from + text.slice(from, ends[stop - 1]!).trimEnd().length;
  if (to <= from) return;
  for (let u = start; u < stop; ) {
    const next = stop - u <= CHUNK * 1.5 ? stop : border(view, u);
    const chunk = { units: { start: u, stop: next }, start: Math.max(from, startOf(u)), stop: Math.min(to, ends[next - 1]!) };
    if (chunk.stop > chunk.start) chunks.push(chunk);
    u = next;
  }
}

/** The end of the chunk that starts at unit u: a line end near 256 units, else a sentence end, else a space. */
function border(view: View, u: number): number {
  const { text, ends, sentenceOf } = view;
  let sentence = 0;
  let space = 0;
  for (let away = 0; away <= CHUNK / 2; away++) {
    for (const next of [u + CHUNK - away, u + CHUNK + away]) {
      if (next <= u + CHUNK / 2 || next >= ends.length) continue;
      const before = text[ends[next - 1]! - 1]!;
      if (before === "\n") return next;
      if (!sentence && sentenceOf[next] !== sentenceOf[next - 1]) sentence = next;
      if (!space && (before.trim() === "" || text[ends[next - 1]!]?.trim() === "")) space = next;
    }
  }
  return sentence || space || u + CHUNK;
}
