/** Converts a record of an evaluation to a case: one variant for each method and aggregation. */

import { MemoryFlow, PlainRows } from "../model/memory";
import { baseOf } from "../model/shares";
import { shown, visible } from "../model/text";
import type { Case, FlowSource, Variant, View } from "../model/types";
import { OWN_ANSWER, UserError } from "../model/types";
import { usable } from "./ranks";
import { isObject, number, told, words } from "./summary";
import type { Json } from "./summary";

/** A note for each aggregation, in the words of eval/README.md. */
const AGGREGATIONS: Record<string, string> = {
  sum: "A sentence's score is the sum over its tokens.",
  mean: "A sentence's score is the mean over its tokens.",
  top5: "A sentence's score is the sum of its five largest tokens.",
  max: "A sentence's score is that of its largest token.",
};

/** A text with its units: sentences and the gaps between them. */
interface Layout {
  text: string;
  ends: Int32Array;
  sentenceOf: Int32Array;
  documentOf: Int32Array;
}

/** Make the case of a record.
 *
 * @param flow the saved token-level flow of the case, or null; it is the first variant.
 * @throws UserError if the record has no prompt, or its spans do not fit the text.
 */
export function caseOfRecord(record: Json, flow: FlowSource | null = null): Case {
  const id = words(record["id"]);
  const variants: Variant[] = flow === null ? [] : [{ name: "flow", label: "every token", source: flow }];
  if (typeof record["text"] === "string") {
    const layout = layOut(record["text"], spans(record["segments"]), spans(record["documents"]));
    const methods = Object.entries(isObject(record["methods"]) ? record["methods"] : {});
    const sentences = spans(record["segments"]).length;
    for (const [raw, method] of methods) {
      const name = visible(raw);
      const scores = isObject(method) && isObject(method["scores"]) ? method["scores"] : {};
      for (const [how, values] of Object.entries(scores)) {
        if (!usable(values, sentences)) continue;
        const label = how === "segment" ? name : `${name} · ${how}`;
        const view = viewOf(record, layout, values, how, label);
        variants.push({ name: `${name}/${how}`, label, source: oneRow(view) });
      }
    }
    if (variants.length === 0) {
      const view = viewOf(record, layout, new Array<number>(sentences).fill(0), "none", "no scores");
      variants.push({ name: "none", label: "no scores", source: oneRow(view) });
    }
  }
  if (variants.length === 0) throw new UserError(`The record of case ${visible(id)} has no text: ${told(record["reason"]) || "there is nothing to show"}.`);
  return { id, variants };
}

/** The flow of a view with one row, the whole answer, which is its total. */
export function oneRow(view: View): FlowSource {
  return new MemoryFlow(view, new PlainRows(view.total, view.ends.length));
}

function viewOf(record: Json, layout: Layout, scores: readonly number[], how: string, label: string): View {
  const total = new Float32Array(layout.ends.length);
  let negative = 0;
  for (let unit = 0; unit < total.length; unit++) {
    const sentence = layout.sentenceOf[unit]!;
    if (sentence >= 0) total[unit] = Math.max(0, scores[sentence]!);
  }
  for (const score of scores) if (score < 0) negative += 1;
  const documents = spans(record["documents"]).map((span, i) => visible(span.label) || `document ${i + 1}`);
  const gold = indices(record["gold"], scores.length);
  return {
    title: told(record["question"]) || told(record["id"]),
    text: layout.text,
    kind: "piece",
    ends: layout.ends,
    firstToken: null,
    sentenceOf: layout.sentenceOf,
    documentOf: layout.documentOf,
    sentences: scores.length,
    documents,
    gold,
    goldDocuments: indices(record["gold_documents"], documents.length),
    answer: [shown(told(record["answer"]) || told(record["generated"]) || "no answer").text],
    total,
    base: Float32Array.of(baseOf({ documents, documentOf: layout.documentOf }, total)),
    onAnswer: null,
    missing: null,
    normalized: false,
    sink: false,
    question: textOrNull(record["question"]),
    expected: textOrNull(record["expected"]),
    meta: metaOf(record, label),
    notes: notesOf(record, how, negative),
  };
}

function notesOf(record: Json, how: string, negative: number): string[] {
  const notes: string[] = [];
  if (record["status"] !== "done") {
    notes.push(`This case was ${told(record["status"]) || "not done"}: ${told(record["reason"]) || "no reason is given"}.`);
  }
  if (how !== "none") {
    notes.push("The evaluation scored sentences, and the answer as a whole; the template and the question have no score.");
  }
  if (AGGREGATIONS[how] !== undefined) notes.push(AGGREGATIONS[how]);
  if (AGGREGATIONS[how] !== undefined && how !== "sum") {
    notes.push("Here the bar of a document is the sum over its sentences. With this aggregation the run scored documents in another way.");
  }
  if (negative > 0) {
    const are = negative === 1 ? "1 sentence has a score" : `${negative} sentences have scores`;
    notes.push(`${are} below zero, which speak against the answer; they are shown as zero.`);
  }
  return notes;
}

function metaOf(record: Json, label: string): Record<string, string> {
  const meta: Record<string, string> = { case: told(record["id"]), method: label };
  const own = record["generated"];
  if (typeof own === "string") {
    const says = number(record["says"]) ?? number(record["em"]);
    meta[OWN_ANSWER] = visible(own) + (says === null ? "" : says >= 1 ? " (right)" : " (wrong)");
  }
  for (const key of ["kind", "level"]) if (told(record[key])) meta[key] = told(record[key]);
  const tokens = number(record["tokens"]);
  if (tokens !== null) meta["prompt tokens"] = tokens.toLocaleString("en");
  const log = number(record["log_prob"]);
  if (log !== null) meta["log-probability of the answer"] = log.toFixed(3);
  return meta;
}

interface Labelled {
  start: number;
  stop: number;
  label: string;
}

function spans(value: unknown): Labelled[] {
  if (!Array.isArray(value)) return [];
  return value.map((one) => {
    const [start, stop, label] = Array.isArray(one) ? (one as unknown[]) : [];
    if (!Number.isInteger(start) || !Number.isInteger(stop)) throw new UserError("A record's segments are not pairs of places.");
    return { start: start as number, stop: stop as number, label: typeof label === "string" ? label : "" };
  });
}

/** Cut a text at the borders of sentences and documents. Places are code points of the stored text. */
function layOut(raw: string, sentences: readonly Labelled[], documents: readonly Labelled[]): Layout {
  const text = shown(raw);
  const cuts = new Set<number>([text.points]);
  for (const { start, stop } of [...sentences, ...documents]) {
    if (start < 0 || stop < start || stop > text.points) {
      throw new UserError(`A record's places ${start} to ${stop} do not lie in its text of ${text.points} characters.`);
    }
    cuts.add(start);
    cuts.add(stop);
  }
  const points = Int32Array.from(cuts).sort().filter((point) => point > 0);
  const sentenceOf = cover(points, sentences);
  const documentOf = cover(points, documents);
  return { text: text.text, ends: text.place(points), sentenceOf, documentOf };
}

/** The span of each unit, -1 for none. Units end at `points`, which include all ends of the spans. */
function cover(points: Int32Array, given: readonly Labelled[]): Int32Array {
  const found = new Int32Array(points.length).fill(-1);
  const first = new Map<number, number>([[0, 0]]);
  points.forEach((point, unit) => first.set(point, unit + 1));
  given.forEach(({ start, stop }, i) => {
    for (let unit = first.get(start)!; unit < points.length && points[unit]! <= stop; unit++) {
      if (found[unit] === -1) found[unit] = i;
    }
  });
  return found;
}

function indices(value: unknown, most: number): ReadonlySet<number> | null {
  if (!Array.isArray(value)) return null;
  const found = value.filter((one): one is number => Number.isInteger(one) && one >= 0 && one < most);
  return found.length > 0 ? new Set(found) : null;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? shown(value).text : null;
}
