/** What pieces and rows are called. */
import { documentName, type Piece, sharesBy, type Row } from "../model/shares";
import { percent } from "../model/scale";
import type { By, Span, View } from "../model/types";
import type { Layout } from "./layout";

const NAME_LIMIT = 300; // characters of a sentence that are shown in a bar

/** The text of units. */
export function textOf(view: View, { start, stop }: Span): string {
  return view.text.slice(start > 0 ? view.ends[start - 1]! : 0, view.ends[stop - 1]!);
}

/** A document's label, a sentence's text, a token with its white space shown. */
export function nameOf(view: View, layout: Layout, { by, index }: Piece): string {
  if (by === "document") return documentName(view, index);
  const units = layout.unitsOf({ by, index });
  if (!units) return `${by} ${index + 1}`;
  const text = textOf(view, units);
  if (by === "token") return text.trim() === "" ? text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅" : text.trim();
  const short = text.trim().replace(/\s+/g, " ");
  return short.length > NAME_LIMIT ? `${short.slice(0, NAME_LIMIT).trimEnd()}…` : short;
}

/** Where a piece lies: a sentence's document, a token's surroundings. */
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

/** The tooltip of a unit: its share, and that of the piece that it lies in. */
export function describe(view: View, layout: Layout, row: Row, unit: number, by: By, hideSink: boolean): string {
  const tokens = sharesBy(view, row, "token", hideSink);
  const own = tokens.whole > 0 ? Math.max(0, row.scores[unit]! || 0) / tokens.whole : 0;
  if (unit === 0 && view.sink && hideSink) return `first token, left out: ${percent(tokens.sinkOfAll)} of everything`;
  const unitName = view.kind === "token" ? "token" : "piece";
  const lines = [];
  const index = by === "document" ? view.documentOf[unit]! : by === "sentence" ? view.sentenceOf[unit]! : -1;
  if (index >= 0) {
    const share = sharesBy(view, row, by, hideSink).values[index]!;
    const gold = by === "sentence" && view.gold?.has(index) ? ", gold" : "";
    lines.push(`${percent(share)}  ${by === "document" ? documentName(view, index) : `sentence ${index + 1}${gold}`}`);
  }
  const document = view.documentOf[unit]!;
  lines.push(`${percent(own)}  ${unitName} ${nameOf(view, layout, { by: "token", index: unit })}`);
  if (by !== "document" && document >= 0) lines.push(`in ${documentName(view, document)}`);
  else if (document < 0 && view.documents.length) lines.push("template or question");
  return lines.join("\n");
}
