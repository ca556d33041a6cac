/** Delivers the scores of the requested rows: at once if they are cached, otherwise fetched. Only the newest request is fetched. */
import { effect, type ReadonlySignal } from "@preact/signals";
import { type Row, toRow } from "../model/shares";
import type { Span, Variant, View } from "../model/types";
import { same, whole } from "./fit";
import type { Layout } from "./layout";
import { Latest, type RowCache } from "./rows";

const PREVIEW_WAIT = 20; // ms: a pointer that crosses the answer must not fetch every token

/** A variant with its loaded view. */
export interface Loaded {
  variant: Variant;
  view: View;
  layout: Layout;
  cache: RowCache;
}

interface Wishes {
  loaded: ReadonlySignal<Loaded>;
  rows: ReadonlySignal<Span>;
  preview: ReadonlySignal<Span | null>;
}

/** Call `arrive` for each row and `error` for each failure (null clears it), until the returned function is called. */
export function followRows(wishes: Wishes, arrive: (row: Row) => void, error: (reason: unknown) => void): () => void {
  const fetching = new Latest();
  const stop = effect(() => {
    const loaded = wishes.loaded.value;
    const rows = wishes.rows.value;
    const known = same(rows, whole(loaded.view)) ? loaded.view.total : loaded.cache.get(rows);
    if (known) {
      fetching.clear();
      error(null);
      arrive(toRow(loaded.view, rows, known));
      return;
    }
    const ask = (): void =>
      fetching.run(async () => {
        try {
          const scores = await loaded.variant.source.rows(rows);
          loaded.cache.set(rows, scores);
          if (loaded !== wishes.loaded.peek()) return;
          arrive(toRow(loaded.view, rows, scores));
          error(null);
        } catch (reason) {
          if (same(rows, wishes.rows.peek())) error(reason);
        }
      });
    const timer = setTimeout(ask, wishes.preview.peek() ? PREVIEW_WAIT : 0);
    return () => clearTimeout(timer);
  });
  return () => {
    stop();
    fetching.clear();
  };
}
