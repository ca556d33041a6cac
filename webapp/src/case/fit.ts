/** Fits the settings of a link to a view, and compares spans. */
import type { Settings } from "../model/link";
import { countOf, granularities, type Piece } from "../model/shares";
import type { By, Span, View } from "../model/types";

/** All rows. */
export function whole(view: View): Span {
  return { start: 0, stop: view.answer.length };
}

/** Whether two spans are the same rows or units. */
export function same(a: Span | null, b: Span | null): boolean {
  return a === b || (a !== null && b !== null && a.start === b.start && a.stop === b.stop);
}

/** The default granularity of a view. */
export function usual(view: View): By {
  return view.sentences ? "sentence" : view.documents.length ? "document" : "token";
}

/** The settings that apply to a view. Rows and pieces that it lacks are dropped. */
export function fit(settings: Settings, view: View): { by: By; rows: Span | null; piece: Piece | null } {
  const { by, rows, piece } = settings;
  const o = view.answer.length;
  const stop = Math.min(rows?.stop ?? 0, o);
  return {
    by: by && granularities(view).includes(by) ? by : usual(view),
    rows: rows && rows.start < stop && stop - rows.start < o ? { start: rows.start, stop } : null,
    piece: piece && piece.index < countOf(view, piece.by) ? piece : null,
  };
}

/** The settings that carry over to the next case: display options without the selection. */
export function lasting(settings: Settings): Settings {
  return { ...settings, rows: null, piece: null };
}

const versions = new WeakMap<View, number>();
let last = 0;

/** One number for each view. It is the key of elements that code outside of Preact changes, so another view gets new elements. */
export function versionOf(view: View): number {
  const known = versions.get(view) ?? ++last;
  versions.set(view, known);
  return known;
}
