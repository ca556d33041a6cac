/** Converts a file's text to the visible text, and places in the one to places in the other. */
import { UserError } from "./types";

// Control characters, and characters that reorder or hide text. Joiners stay, because scripts and emoji need them.
// The same list as attributor/_result/view/escape.py.
const HIDDEN_BMP =
  "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb";
const HIDDEN = new RegExp(`[${HIDDEN_BMP}\\u{e0000}-\\u{e007f}]`, "gu");
const HIDDEN_ONE = new RegExp(`[${HIDDEN_BMP}\\u{e0000}-\\u{e007f}]`, "u");
/** Without any of these the visible text equals the text, and code points are UTF-16 units. */
const SPECIAL = new RegExp(`[\\r\\ud800-\\udfff${HIDDEN_BMP}]`);
const SURROGATE = /[\ud800-\udfff]/;

/** A visible text, and the map from code points of the original text. */
export interface Shown {
  text: string;
  /** Number of code points of the original text. */
  points: number;
  /** Code point indices (0 ... points) -> UTF-16 indices of `text`. */
  place(points: Int32Array): Int32Array;
}

/** The text with control and bidirectional characters spelled out, such as ⟦U+202E⟧. */
export function visible(text: string): string {
  return SPECIAL.test(text) ? text.replace(/\r\n?/g, "\n").replace(HIDDEN, spell) : text;
}

function spell(character: string): string {
  return `⟦U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟧`;
}

/** Like `visible`, and records the place of each code point. O(n); almost free for plain text. */
export function shown(text: string): Shown {
  if (!SPECIAL.test(text)) return { text, points: text.length, place: (points) => points.slice() };
  const starts = new Int32Array(text.length + 1); // at most as many code points
  const pieces: string[] = [];
  let points = 0;
  let length = 0;
  let copied = 0; // the text before this index is in `pieces`
  for (let i = 0; i < text.length; ) {
    starts[points++] = length;
    const code = text.codePointAt(i)!;
    const width = code > 0xffff ? 2 : 1;
    let replacement: string | null = null;
    if (code === 13) replacement = text.charCodeAt(i + 1) === 10 ? "" : "\n"; // keeps the \n of \r\n
    else if (isHidden(code)) replacement = spell(String.fromCodePoint(code));
    if (replacement === null) length += width;
    else {
      pieces.push(text.slice(copied, i), replacement);
      length += replacement.length;
      copied = i + width;
    }
    i += width;
  }
  pieces.push(text.slice(copied));
  starts[points] = length;
  return { text: pieces.join(""), points, place: (wanted) => wanted.map((point) => starts[point]!) };
}

function isHidden(code: number): boolean {
  // ASCII needs two comparisons only.
  if (code >= 0x20 && code < 0x7f) return false;
  return code !== 9 && code !== 10 && HIDDEN_ONE.test(String.fromCodePoint(code));
}

/** UTF-16 indices of a text, in ascending order -> code point indices. */
export function toCodePoints(text: string, places: Int32Array): Int32Array {
  if (!SURROGATE.test(text)) return places.slice();
  const out = new Int32Array(places.length);
  let points = 0;
  let at = 0;
  for (let i = 0; i < places.length; i++) {
    for (; at < places[i]!; points++) at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    out[i] = points;
  }
  return out;
}

/** Code point indices of a text, in ascending order -> UTF-16 indices of the same text. */
export function toUtf16(text: string, points: Int32Array): Int32Array {
  if (!SURROGATE.test(text)) return points.slice();
  const out = new Int32Array(points.length);
  let count = 0;
  let at = 0;
  for (let i = 0; i < points.length; i++) {
    for (; count < points[i]!; count++) at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    out[i] = at;
  }
  return out;
}

/** The number of code points of a text. */
export function countCodePoints(text: string): number {
  if (!SURROGATE.test(text)) return text.length;
  let count = 0;
  for (let i = 0; i < text.length; count++) i += text.codePointAt(i)! > 0xffff ? 2 : 1;
  return count;
}

// eslint-disable-next-line no-control-regex
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/** Escapes text for HTML or XML, between tags or in quotes. Characters that XML forbids are dropped. */
export function escaped(text: string): string {
  return text.replace(FORBIDDEN, "").replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Decodes strict UTF-8. A byte order mark is kept as a character. */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new UserError(`${what} is not utf-8`);
  }
}
