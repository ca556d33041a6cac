/** The current content of the case page as a table: pieces with their shares, and the origin of the whole flow. */

import type { CaseState } from "../case/state";
import { originSentence } from "../model/origin";
import { betweenName, documentName, goldOf, type Origin, originOf, top } from "../model/shares";
import type { By, View } from "../model/types";

/** One line of the table. */
export interface Line {
  /** 1 for the largest piece; null for a line that is not a piece. */
  rank: number | null;
  what: By | "outside" | "first token";
  /** A part of what came from the documents, or from the prompt without documents. */
  share: number;
  document: string;
  text: string;
  gold: boolean | null;
}

/** The table with its heading data. */
export interface Shown {
  title: string;
  question: string | null;
  answer: string;
  /** The text of the shown answer tokens. */
  asked: string;
  by: By;
  method: string;
  meta: Record<string, string>;
  /** The whole of the lines' shares. */
  of: "documents" | "prompt";
  lines: Line[];
  /** Parts of the whole flow; null if they are unknown. */
  origin: Origin | null;
  /** The origin as a sentence. */
  originLine: string | null;
}

/** All pieces with a share, largest first, then the share of no piece. The shares add up to 1. */
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
    ["outside", shares.outside, betweenName(view).toLowerCase()],
    ["first token", shares.sink, "attention sink"],
  ];
  for (const [what, share, text] of rest) {
    if (share > 0) lines.push({ rank: null, what, share, document: "", text, gold: null });
  }
  const origin = originOf(view, state.row.value);
  return {
    title: view.title,
    question: view.question,
    answer: view.answer.join(""),
    asked: view.answer.slice(rows.start, rows.stop).join(""),
    by,
    method: state.variant.value.label,
    meta: view.meta,
    of: view.documents.length ? "documents" : "prompt",
    lines,
    origin,
    originLine: origin && originSentence(view, origin),
  };
}

/** Finds the pieces' text and document in one pass over the units. */
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

/** The table as rows of a CSV with a header. `of` names the whole of each share. */
export function tableRows({ of, lines, origin }: Shown): { header: string[]; rows: (string | number | null)[][] } {
  const header = ["rank", "what", "share", "of", "document", "text", "gold"];
  const rows: (string | number | null)[][] = lines.map((line) => [
    line.rank, line.what, line.share, of, line.document, line.text, line.gold === null ? "" : line.gold ? "gold" : "",
  ]); // prettier-ignore
  const parts: [string, number | undefined][] =
    of === "documents" ? [["documents", origin?.documents], ["question and template", origin?.prompt]] : [["prompt", origin?.prompt]];
  parts.push(["answer's own words", origin?.answer], ["not followed", origin?.missing]);
  for (const [what, share] of parts) if (share !== undefined) rows.push([null, what, share, "whole flow", "", "", ""]);
  return { header, rows };
}
