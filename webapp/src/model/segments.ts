/** Maps tokens to units, sentences and documents by their places in the text. Spans are flat: start, stop, start, stop ... */

/** The units of a prompt. Tokens that share a character are one unit.
 *
 * @param offsets (k, 2) the characters of each token.
 * @returns (u) the first token of each unit, as attributor/_result/view/units.py finds them.
 */
export function wholeCharacters(offsets: Int32Array): Int32Array {
  const first: number[] = [];
  let reached = -1;
  for (let token = 0; 2 * token < offsets.length; token++) {
    const [start, stop] = [offsets[2 * token]!, offsets[2 * token + 1]!];
    // A token without characters belongs to the unit before it.
    if (token === 0 || (start >= reached && stop > start)) first.push(token);
    reached = Math.max(reached, stop);
  }
  return Int32Array.from(first);
}

/** The segment of each token: the one with the largest overlap, the first of several equal ones; -1 for none.
 *
 * A token without characters belongs to the segment around its place. Equal to attributor/_text/segments.py.
 *
 * @param offsets (k, 2) the characters of each token.
 * @param segments (s, 2) spans that do not overlap, in any order.
 */
export function assignTokens(offsets: Int32Array, segments: Int32Array): Int32Array {
  const count = segments.length / 2;
  const order = Array.from({ length: count }, (_, i) => i).sort((a, b) => segments[2 * a]! - segments[2 * b]!);
  const starts = Int32Array.from(order, (i) => segments[2 * i]!);
  const stops = Int32Array.from(order, (i) => segments[2 * i + 1]!);
  const out = new Int32Array(offsets.length / 2).fill(-1);
  for (let token = 0; token < out.length; token++) {
    const low = offsets[2 * token]!;
    const high = Math.max(offsets[2 * token + 1]!, low + 1);
    let largest = 0;
    for (let i = firstAbove(stops, low); i < count && starts[i]! < high; i++) {
      const overlap = Math.min(stops[i]!, high) - Math.max(starts[i]!, low);
      if (overlap <= largest) continue;
      largest = overlap;
      out[token] = order[i]!;
    }
  }
  return out;
}

/** The first index whose value is larger; values ascend. */
function firstAbove(values: Int32Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

const BLANK_LINE = /(?:\r\n|\r|\n)[^\S\r\n]*(?:\r\n|\r|\n)\s*/g;
/** A line break that only wraps a long line: without a full stop before it, with a word after it. */
const WRAP = /(?<=[^\n]{39}[\p{L}\p{N}_,])\n(?=[ \t]*\p{Ll})|(?<=[^\n]{59}[\p{L}\p{N}_,)])\n(?=[\p{L}\p{N}_])/gu;
/** Characters per call of the segmenter. */
const BLOCK = 50_000;
/** Abbreviations whose full stop ends no sentence: titles, initials, and words before a name or a number. */
const ABBREVIATIONS =
  "Dr Mr Mrs Ms Prof Rev Hon Gen Col Capt Lt Sgt Gov Sen Rep Pres St Mt Jr Sr No Nos Fig Vol p pp vs cf al e.g i.e approx ca";
const ABBREVIATION = new RegExp(
  `(?:^|[\\s("'“‘[])(?:${ABBREVIATIONS.replaceAll(".", "\\.").replaceAll(" ", "|")}|\\p{Lu})\\.\\s*$`,
  "u",
);
const WORD = /[\p{L}\p{N}]/u;

/** The sentences of a text in order, without surrounding white space: (s, 2) UTF-16 indices.
 *
 * A sentence never crosses a document's border or a blank line. Only documents are split; without documents the whole text.
 * The rules are the browser's, so some borders may differ from those of attributor.Flow.sentences.
 *
 * @param documents (d, 2) UTF-16 indices of spans that do not overlap.
 */
export function splitSentences(text: string, documents: Int32Array): Int32Array {
  const found: number[] = [];
  const areas = Array.from({ length: documents.length / 2 }, (_, i) => [documents[2 * i]!, documents[2 * i + 1]!] as const);
  areas.sort((a, b) => a[0] - b[0]);
  for (const [start, stop] of areas.length ? areas : [[0, text.length] as const]) {
    let at = start;
    const area = text.slice(start, stop);
    for (const blank of area.matchAll(BLANK_LINE)) {
      paragraph(text, at, start + blank.index, found);
      at = start + blank.index + blank[0].length;
    }
    paragraph(text, at, stop, found);
  }
  return Int32Array.from(found);
}

function paragraph(text: string, start: number, stop: number, found: number[]): void {
  while (stop - start > BLOCK) {
    const end = start + BLOCK;
    const line = Math.max(text.lastIndexOf("\n", end - 1), text.lastIndexOf(". ", end - 2)) + 1;
    const cut = line > start ? line : end - (isLow(text, end) ? 1 : 0);
    sentences(text.slice(start, cut), start, found);
    start = cut;
  }
  if (start < stop) sentences(text.slice(start, stop), start, found);
}

/** True if a place is inside a surrogate pair. */
function isLow(text: string, place: number): boolean {
  return (text.charCodeAt(place) & 0xfc00) === 0xdc00;
}

let segmenter: Intl.Segmenter | null = null;

function sentences(block: string, base: number, found: number[]): void {
  if (typeof Intl.Segmenter !== "function") {
    trimmed(block, 0, block.length, base, found); // an old browser: paragraphs stay whole
    return;
  }
  segmenter ??= new Intl.Segmenter("en", { granularity: "sentence" });
  const joined = block.replace(WRAP, " ");
  let from = 0;
  let before = "";
  for (const { segment, index } of segmenter.segment(joined)) {
    if (index && !continues(before, segment)) {
      trimmed(block, from, index, base, found);
      from = index;
    }
    before = segment;
  }
  trimmed(block, from, block.length, base, found);
}

/** True if a piece continues the previous sentence: after an abbreviation, in lower case, or of punctuation only. */
function continues(before: string, piece: string): boolean {
  if (before.endsWith("\n")) return false;
  return /^\s*\p{Ll}/u.test(piece) || !WORD.test(piece) || ABBREVIATION.test(before);
}

function trimmed(block: string, start: number, stop: number, base: number, found: number[]): void {
  const piece = block.slice(start, stop);
  const left = piece.length - piece.trimStart().length;
  const right = piece.trimEnd().length;
  if (left < right) found.push(base + start + left, base + start + right);
}
