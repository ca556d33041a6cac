/** What of a link a view has, and small facts of spans. */
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

/** How a view is shown unless told otherwise. */
export function usual(view: View): By {
  return view.sentences ? "sentence" : view.documents.length ? "document" : "token";
}

/** Settings as far as a view has what they name. */
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

/** The part of a link that goes along to the next case: how things are shown, not what is picked. */
export function lasting(settings: Settings): Settings {
  return { ...settings, rows: null, piece: null };
}

const versions = new WeakMap<View, number>();
let last = 0;

/** A number a view, as the key of elements that code outside of the framework changes: another view gets new ones. */
export function versionOf(view: View): number {
  const known = versions.get(view) ?? ++last;
  versions.set(view, known);
  return known;
}
