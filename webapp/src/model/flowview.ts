/** The units, sentences, documents and visible texts of a Flow file. */
import type { FlowParts } from "./flowparts";
import { assignTokens, splitSentences, wholeCharacters } from "./segments";
import { shown, toCodePoints, toUtf16, visible } from "./text";
import type { View } from "./types";

/** The parts of a view that do not depend on the scores. */
export type Layout = Omit<View, "total" | "base" | "onAnswer" | "missing">;

/** Ids of tokens `start` ... `stop` - 1, for flows without text. */
export type ReadIds = (start: number, stop: number) => Promise<string[]>;

/** Equal to the result of attributor/_result/view/units.py for the same flow, except for sentences that the file lacks. */
export async function layOut(parts: FlowParts, readIds: ReadIds): Promise<Layout & { firstToken: Int32Array }> {
  const { text: raw, spans } = await prompt(parts, readIds);
  const text = shown(raw);
  const first = wholeCharacters(spans);
  const u = first.length;
  const ends = new Int32Array(u);
  const unitSpans = new Int32Array(2 * u);
  for (let unit = 0; unit < u; unit++) {
    let end = 0;
    const stop = unit + 1 < u ? first[unit + 1]! : parts.k;
    for (let token = first[unit]!; token < stop; token++) end = Math.max(end, spans[2 * token + 1]!);
    ends[unit] = unit + 1 < u ? end : text.points; // the last unit covers the rest of the text
    unitSpans[2 * unit] = spans[2 * first[unit]!]!;
    unitSpans[2 * unit + 1] = ends[unit]!;
  }
  const firstToken = new Int32Array(u + 1);
  firstToken.set(first);
  firstToken[u] = parts.k;
  const sentences = parts.sentences ?? (parts.text === null ? new Int32Array(0) : found(raw, parts.documents));
  return {
    title: title(parts.answer),
    text: text.text,
    kind: "token",
    ends: text.place(ends),
    firstToken,
    sentenceOf: assignTokens(unitSpans, sentences),
    documentOf: assignTokens(unitSpans, parts.documents),
    sentences: sentences.length / 2,
    documents: parts.labels.map(visible),
    gold: null,
    goldDocuments: null,
    answer: await rows(parts, readIds),
    normalized: parts.normalized,
    sink: true,
    question: null,
    expected: null,
    // fromEntries makes own properties of all names, including __proto__
    meta: Object.fromEntries(parts.meta.map(([key, value]) => [visible(key), visible(value)])),
    notes: notes(parts),
  };
}

async function prompt(parts: FlowParts, readIds: ReadIds): Promise<{ text: string; spans: Int32Array }> {
  if (parts.text !== null && parts.offsets !== null) return { text: parts.text, spans: parts.offsets };
  const words = (await readIds(0, parts.k)).map((id) => `${id} `);
  const spans = new Int32Array(2 * parts.k);
  let at = 0;
  words.forEach((word, token) => {
    spans[2 * token] = at;
    spans[2 * token + 1] = at += word.length;
  });
  return { text: words.join(""), spans };
}

function found(text: string, documents: Int32Array): Int32Array {
  const places = toUtf16(text, documents.slice().sort()); // spans do not overlap, so sorting keeps starts and stops paired
  return toCodePoints(text, splitSentences(text, places));
}

function title(answer: string | null): string {
  const line = (answer ?? "").trim().split(/\s+/).join(" ");
  if (!line) return "attributor: a flow";
  const points = [...line.slice(0, 200)];
  return visible(`attributor: ${points.length <= 60 ? line : `${points.slice(0, 59).join("")}…`}`);
}

async function rows(parts: FlowParts, readIds: ReadIds): Promise<string[]> {
  if (!parts.answered) return ["(the next token)"];
  if (parts.answer === null || parts.answerOffsets === null)
    return (await readIds(parts.k, parts.k + parts.o)).map((id) => `${id} `);
  const answer = shown(parts.answer);
  const ends = new Int32Array(parts.o);
  let reached = 0;
  for (let row = 0; row < parts.o; row++) ends[row] = reached = Math.max(reached, parts.answerOffsets[2 * row + 1]!);
  ends[parts.o - 1] = answer.points;
  const places = answer.place(ends);
  return Array.from(places, (stop, row) => answer.text.slice(row ? places[row - 1]! : 0, stop));
}

function notes(parts: FlowParts): string[] {
  const out: string[] = [];
  const source = parts.documents.length ? "came from the documents" : "reached the prompt";
  if (!parts.normalized) out.push(`Percentages are shares of what ${source}; the rest of each row is not known.`);
  if (parts.text === null) out.push("The flow carries no text, so token ids are shown; flow.with_text(tokenizer) attaches it.");
  return out;
}
