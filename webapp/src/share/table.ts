/** What the case page shows now, as a table: the pieces with their shares, and what did not come from a piece. */

import type { CaseState } from "../case/state";
import { asideName, documentName, goldOf, top } from "../model/shares";
import type { By, View } from "../model/types";

/** One line of the table. */
export interface Line {
  /** 1 for the largest; null for what is no piece. */
  rank: number | null;
  what: By | "outside" | "first token" | "earlier answer tokens" | "not followed";
  share: number;
  document: string;
  text: string;
  gold: boolean | null;
}

/** What stands above it. */
export interface Shown {
  title: string;
  question: string | null;
  answer: string;
  /** The answer's tokens that were asked about. */
  asked: string;
  by: By;
  method: string;
  meta: Record<string, string>;
  lines: Line[];
}

/** All pieces with a share, largest first, then the rest; the shares add up to 1. */
export function shownNow(state: CaseState): Shown {
  const view = state.view.value;
  const shares = state.shares.value;
  const { rows } = state.row.value;
  const by = shares.by;
  const gold = goldOf(view, by);
  const bounds = pieceBounds(view, by);
  const lines: Line[] = top(shares.values, shares.values.length).map((index, i) => ({
    rank: i + 1,
    what: by,
    share: shares.values[index]!,
    document: bounds.document(index),
    text: bounds.text(index),
    gold: gold === null ? null : gold.has(index),
  }));
  const rest: [Line["what"], number, string][] = [
    ["outside", shares.outside, asideName(view).toLowerCase()],
    ["first token", shares.sink, "attention sink"],
    ["earlier answer tokens", shares.onAnswer, ""],
    ["not followed", shares.missing, ""],
  ];
  for (const [what, share, text] of rest) {
    if (share > 0) lines.push({ rank: null, what, share, document: "", text, gold: null });
  }
  return {
    title: view.title,
    question: view.question,
    answer: view.answer.join(""),
    asked: view.answer.slice(rows.start, rows.stop).join(""),
    by,
    method: state.variant.value.label,
    meta: view.meta,
    lines,
  };
}

/** Where the pieces lie in the text: one pass over the units. */
function pieceBounds(view: View, by: By): { text: (index: number) => string; document: (index: number) => string } {
  const label = (d: number): string => (d < 0 ? "" : documentName(view, d));
  if (by === "token") {
    return {
      text: (u) => view.text.slice(u > 0 ? view.ends[u - 1]! : 0, view.ends[u]!),
      document: (u) => label(view.documentOf[u]!),
    };
  }
  const of = by === "document" ? view.documentOf : view.sentenceOf;
  const count = by === "document" ? view.documents.length : view.sentences;
  const first = new Int32Array(count).fill(-1);
  const last = new Int32Array(count);
  for (let u = 0; u < of.length; u++) {
    const piece = of[u]!;
    if (piece < 0) continue;
    if (first[piece] === -1) first[piece] = u;
    last[piece] = u;
  }
  return {
    text: (p) => (first[p]! < 0 ? "" : view.text.slice(first[p]! > 0 ? view.ends[first[p]! - 1]! : 0, view.ends[last[p]!]!).trim()),
    document: (p) => label(by === "document" ? p : first[p]! < 0 ? -1 : view.documentOf[first[p]!]!),
  };
}
