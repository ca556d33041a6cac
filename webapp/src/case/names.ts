/** Names of pieces and rows. */
import { documentName, hasShare, hasSink, type Piece, pieceOf, sharesBy, type Row } from "../model/shares";
import { showShare } from "../model/scale";
import type { By, Span, View } from "../model/types";
import type { Layout } from "./layout";

const NAME_LIMIT = 300; // characters of a sentence that are shown in a bar

/** The text of units. */
export function textOf(view: View, { start, stop }: Span): string {
  return view.text.slice(start > 0 ? view.ends[start - 1]! : 0, view.ends[stop - 1]!);
}

/** A document's label, a sentence's text, or a token with visible white space. */
export function nameOf(view: View, layout: Layout, { by, index }: Piece): string {
  if (by === "document") return documentName(view, index);
  const units = layout.unitsOf({ by, index });
  if (!units) return `${by} ${index + 1}`;
  const text = textOf(view, units);
  if (by === "token") return text.trim() === "" ? text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅" : text.trim();
  const short = text.trim().replace(/\s+/g, " ");
  return short.length > NAME_LIMIT ? `${short.slice(0, NAME_LIMIT).trimEnd()}…` : short;
}

/** The place of a piece: a sentence's document, or the text around a token. */
export function whereOf(view: View, layout: Layout, { by, index }: Piece): string {
  if (by === "token") {
    const around = textOf(view, { start: Math.max(0, index - 5), stop: Math.min(view.ends.length, index + 6) });
    return `…${around.replace(/\s+/g, " ")}…`;
  }
  const document = by === "sentence" ? layout.documentOfSentence(index) : -1;
  return document >= 0 ? documentName(view, document) : "";
}

/** "documents", "sentences", "tokens" or "pieces". */
export function plural(view: View, by: By): string {
  return by === "token" && view.kind === "piece" ? "pieces" : `${by}s`;
}

/** "answer token 5", "answer tokens 5 to 9", "the whole answer (12 tokens)". */
export function rowsName(view: View, { start, stop }: Span): string {
  const o = view.answer.length;
  if (stop - start >= o) return o > 1 ? `the whole answer (${o.toLocaleString("en")} tokens)` : "the answer";
  return stop - start > 1 ? `answer tokens ${start + 1} to ${stop}` : `answer token ${start + 1}`;
}

/** The tooltip of a unit: its share and the share of its piece; outside of documents its share of the whole flow. */
export function describe(view: View, layout: Layout, row: Row, unit: number, by: By, hideSink: boolean): string {
  const unitName = `${view.kind === "token" ? "token" : "piece"} ${nameOf(view, layout, { by: "token", index: unit })}`;
  const score = Math.max(0, row.scores[unit]! || 0);
  if (!hasShare(view, unit)) return [view.normalized ? `${showShare(score)} of the whole flow  ${unitName}` : unitName, "question and template"].join("\n");
  const tokens = sharesBy(view, row, "token", hideSink);
  if (unit === 0 && hasSink(view) && hideSink) return `first token, left out: ${showShare(tokens.sinkOfAll)} of the prompt's part`;
  const lines = [];
  const index = by === "token" ? -1 : pieceOf(view, by)(unit);
  if (index >= 0) {
    const share = sharesBy(view, row, by, hideSink).values[index]!;
    const gold = by === "sentence" && view.gold?.has(index) ? ", gold" : "";
    lines.push(`${showShare(share)}  ${by === "document" ? documentName(view, index) : `sentence ${index + 1}${gold}`}`);
  }
  lines.push(`${showShare(tokens.whole > 0 ? score / tokens.whole : 0)}  ${unitName}`);
  const document = view.documentOf[unit]!;
  if (by !== "document" && document >= 0) lines.push(`in ${documentName(view, document)}`);
  return lines.join("\n");
}
