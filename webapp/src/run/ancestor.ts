/** Reads the JSON list of the previous tool as a run whose pieces are whole documents:
 * [{case: {documents, expected_output, supporting_documents}, generated_output, attributed_documents,
 *   attributed_document_scores, verification}, ...]. Unreadable entries are left out and reported.
 */

import type { Bytes } from "../model/bytes";
import { shown, visible } from "../model/text";
import type { Case, View } from "../model/types";
import { UserError } from "../model/types";
import { rank, rankable, WIDTH } from "./ranks";
import { oneRow } from "./record";
import { isObject, Methods, number, told, words } from "./summary";
import type { Json, Summary } from "./summary";

/** A list is read whole, unlike a run. This limits its memory. */
export const MOST_BYTES = 256 * 1024 * 1024;
const METHOD = "documents";

interface Document {
  title: string;
  text: string;
}

/** A readable entry. */
interface Entry {
  documents: Document[];
  scores: Float64Array;
  scored: boolean;
  gold: number[];
  answer: string;
  expected: string;
  question: string;
  verdict: boolean | null;
  said: string;
}

/** The list as a run: summaries for the table, and each case on demand. */
export class AncestorList {
  readonly cases: Summary[] = [];
  readonly methods = new Methods();
  readonly problems: string[] = [];
  private readonly entries: Entry[] = [];
  private readonly places = new Map<string, number>();

  constructor(list: readonly unknown[]) {
    this.methods.place(METHOD, "document");
    const problems: number[] = [];
    list.forEach((given, i) => {
      const entry = entryOf(given, (problem) => this.tell(`Entry ${i + 1}: ${problem}`));
      if (entry === null) problems.push(i + 1);
      else this.add(entry, given as Json, i);
    });
    if (problems.length > 0) {
      const named = problems.slice(0, 5).join(", ") + (problems.length > 5 ? " …" : "");
      this.problems.unshift(`${problems.length} of ${list.length} entries have no case with documents and are left out: ${named}.`);
    }
    if (this.cases.length === 0 && list.length > 0) {
      throw new UserError("This JSON list has no entry with a case and its documents; it is not a list of attributions.");
    }
  }

  /** The data of the case page for the case at a place of `cases`. */
  caseAt(place: number): Case {
    const entry = this.entries[place]!;
    const source = oneRow(viewOf(entry, this.cases[place]!.id));
    return { id: this.cases[place]!.id, variants: [{ name: METHOD, label: "documents", source }] };
  }

  /** The place of a case in `cases`, -1 for none. */
  find(id: string): number {
    return this.places.get(id) ?? -1;
  }

  private tell(problem: string): void {
    if (this.problems.length < 20) this.problems.push(problem);
  }

  private add(entry: Entry, given: Json, i: number): void {
    const inner = given["case"] as Json;
    const id = words(inner["id"]) || words(given["id"]) || `case ${i + 1}`;
    const ranks = new Float64Array(WIDTH).fill(NaN);
    if (entry.scored && rankable(entry.gold, entry.documents.length)) rank(entry.scores, entry.gold, ranks);
    const name = this.places.has(id) ? `${id} (entry ${i + 1})` : id;
    this.places.set(name, this.entries.push(entry) - 1);
    this.cases.push({
      id: name,
      place: { part: 0, start: i, stop: i + 1 },
      status: "done",
      reason: "",
      kind: told(inner["kind"]) || told(inner["type"]),
      level: told(inner["level"]),
      question: visible(entry.question),
      expected: visible(entry.expected),
      answer: visible(entry.answer),
      right: entry.verdict,
      tokens: null,
      ranks,
      gold: entry.gold.join(","),
    });
  }
}

/** Read a list. @throws UserError if it is too large, not JSON, or not a list. */
export async function readAncestor(bytes: Bytes, name: string): Promise<AncestorList> {
  if (bytes.size > MOST_BYTES) {
    const size = `${Math.round(bytes.size / 1024 / 1024).toLocaleString("en")} MB`;
    throw new UserError(`${name} has ${size}; JSON lists are read up to ${MOST_BYTES / 1024 / 1024} MB. Split the list into several files.`);
  }
  let found: unknown;
  try {
    found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await bytes.read(0, bytes.size)));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${name} is not whole JSON: ${error instanceof Error ? error.message : "it cannot be read"}.`);
  }
  // Some writers store the list under a key.
  if (isObject(found)) found = Object.values(found).find((value) => Array.isArray(value) && value.some((one) => isObject(one) && "case" in one));
  if (!Array.isArray(found)) throw new UserError(`${name} is JSON, but no list of attributions: entries with a "case" were expected.`);
  return new AncestorList(found);
}

function entryOf(given: unknown, tell: (problem: string) => void): Entry | null {
  if (!isObject(given) || !isObject(given["case"])) return null;
  const inner = given["case"];
  const documents = Array.isArray(inner["documents"]) ? inner["documents"].map(documentOf) : [];
  if (documents.length === 0) return null;
  const attributed = Array.isArray(given["attributed_documents"]) ? given["attributed_documents"] : [];
  const values = Array.isArray(given["attributed_document_scores"]) ? given["attributed_document_scores"] : [];
  const scores = new Float64Array(documents.length);
  let scored = false;
  attributed.forEach((one, i) => {
    const place = find(one, documents);
    // Without scores use the order: the first document is the most important.
    const score = values.length > 0 ? number(values[i]) : attributed.length - i;
    if (place < 0) tell(`attributed document ${i + 1} is none of the case's documents`);
    else if (score === null) tell(`attributed document ${i + 1} has no score that is a number`);
    else {
      scores[place] = score;
      scored = true;
    }
  });
  // Scores without names belong to all documents in their order.
  if (attributed.length === 0 && values.length === documents.length) {
    values.forEach((value, i) => {
      scores[i] = number(value) ?? 0;
    });
    scored = true;
  }
  const supporting = Array.isArray(inner["supporting_documents"]) ? inner["supporting_documents"] : [];
  const gold = new Set<number>();
  for (const one of supporting) {
    const place = find(one, documents);
    if (place < 0) tell("a supporting document is none of the case's documents");
    else gold.add(place);
  }
  const question = ["question", "query", "input", "prompt"].map((key) => words(inner[key])).find((text) => text) ?? "";
  return {
    documents,
    scores,
    scored,
    gold: [...gold].sort((a, b) => a - b),
    answer: words(given["generated_output"]),
    expected: words(inner["expected_output"]),
    question,
    verdict: verdictOf(given["verification"]),
    said: isObject(given["verification"]) ? JSON.stringify(given["verification"]) : words(given["verification"]),
  };
}

function documentOf(value: unknown): Document {
  if (!isObject(value)) return { title: "", text: words(value) };
  const first = (keys: string[]) => keys.map((key) => words(value[key])).find((text) => text) ?? "";
  return { title: first(["title", "name", "id"]), text: first(["text", "content", "body", "page_content", "document"]) };
}

/** An index, a text, or an object with one of these -> the place of that document, -1 for none. */
function find(value: unknown, documents: readonly Document[]): number {
  if (typeof value === "number") return Number.isInteger(value) && value >= 0 && value < documents.length ? value : -1;
  const wanted = documentOf(value);
  const same = documents.findIndex((one) => one.text === wanted.text && (!wanted.title || one.title === wanted.title));
  if (same >= 0) return same;
  return documents.findIndex((one) => one.title !== "" && one.title === (wanted.title || wanted.text));
}

const YES = new Set(["true", "yes", "correct", "right", "pass", "passed", "verified", "1"]);
const NO = new Set(["false", "no", "incorrect", "wrong", "fail", "failed", "0"]);

function verdictOf(value: unknown): boolean | null {
  if (isObject(value)) return Object.values(value).find((one): one is boolean => typeof one === "boolean") ?? null;
  const said = words(value).trim().toLowerCase();
  return YES.has(said) ? true : NO.has(said) ? false : null;
}

function viewOf(entry: Entry, id: string): View {
  let text = "";
  const ends: number[] = [];
  const documentOf: number[] = [];
  const close = (document: number) => {
    if (text.length === (ends.at(-1) ?? 0)) return;
    ends.push(text.length);
    documentOf.push(document);
  };
  entry.documents.forEach((one, i) => {
    if (i > 0) text += "\n\n";
    close(-1);
    text += shown(one.text).text;
    close(i);
  });
  const positive = entry.scores.map((score) => Math.max(0, score));
  const notes = ["This list scores whole documents and has no sentences."];
  if (!entry.scored) notes.push("This case has no scores.");
  if (entry.scores.some((score) => score < 0)) notes.push("Scores below zero, which speak against the answer, are shown as zero.");
  const total = Float32Array.from(documentOf, (document) => (document < 0 ? 0 : positive[document]!));
  return {
    title: visible(entry.question || id),
    text,
    kind: "piece",
    ends: Int32Array.from(ends),
    firstToken: null,
    sentenceOf: new Int32Array(ends.length).fill(-1),
    documentOf: Int32Array.from(documentOf),
    sentences: 0,
    documents: entry.documents.map((one, i) => shown(one.title).text || `document ${i + 1}`),
    gold: null,
    goldDocuments: entry.gold.length > 0 ? new Set(entry.gold) : null,
    answer: [shown(entry.answer).text || "no answer"],
    total,
    base: Float32Array.of(total.reduce((sum, score) => sum + score, 0)),
    onAnswer: null,
    missing: null,
    normalized: false,
    sink: false,
    question: entry.question ? shown(entry.question).text : null,
    expected: entry.expected ? shown(entry.expected).text : null,
    meta: { ...(entry.question && { case: visible(id) }), ...(entry.said && { verification: shown(entry.said).text }) },
    notes,
  };
}
