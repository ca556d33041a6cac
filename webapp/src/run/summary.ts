/** The summary of a record for the table of cases: some texts, some numbers, and the record's place in its file. */

import { visible } from "../model/text";
import { mainAggregation, rank, rankable, usable, WIDTH } from "./ranks";

/** The place of a record: the part's index, and a half-open range of bytes. */
export interface Place {
  part: number;
  start: number;
  stop: number;
}

/** One case of a run. */
export interface Summary {
  id: string;
  place: Place;
  status: string;
  reason: string;
  kind: string;
  level: string;
  question: string;
  expected: string;
  /** The model's own answer; null if none was generated. */
  answer: string | null;
  /** True if that answer holds the expected one; null if unknown. */
  right: boolean | null;
  tokens: number | null;
  /** (methods, WIDTH) numbers of ranks.ts, NaN if missing; methods by their place in `Methods`. */
  ranks: Float64Array;
  /** The gold pieces as text, to check that two runs have the same gold. */
  gold: string;
}

/** The methods of a run in the order of their first record, each with its main aggregation. */
export class Methods {
  readonly names: string[] = [];
  readonly aggregations: string[] = [];
  private readonly places = new Map<string, number>();

  /** The place of a method. A new method is added. */
  place(name: string, aggregation: string): number {
    let found = this.places.get(name);
    if (found === undefined) {
      found = this.names.push(name) - 1;
      this.aggregations.push(aggregation);
      this.places.set(name, found);
    }
    return found;
  }

  /** The place of a method, -1 if there is none with that name. */
  find(name: string): number {
    return this.places.get(name) ?? -1;
  }
}

/** A JSON object. */
export type Json = Record<string, unknown>;

/** True if a value is a JSON object. */
export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A string unchanged, a number or boolean as text, "" for other values. */
export function words(value: unknown): string {
  return typeof value === "string" ? value : typeof value === "number" || typeof value === "boolean" ? String(value) : "";
}

/** A value as visible text: characters that hide or reorder text are spelled out. Not for ids, which are keys. */
export function told(value: unknown): string {
  return visible(words(value));
}

/** A finite number, or null. */
export function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** One number of a case under a method; NaN if missing. */
export function rankValue(summary: Summary, method: number, field: number): number {
  return summary.ranks[method * WIDTH + field] ?? NaN;
}

/** The summary of a record; null if it is not a case record. */
export function summarise(record: unknown, methods: Methods, place: Place): Summary | null {
  if (!isObject(record) || typeof record["id"] !== "string") return null;
  const own = record["generated"];
  const judged = number(record["says"]) ?? number(record["em"]);
  return {
    id: record["id"],
    place,
    status: told(record["status"]),
    reason: told(record["reason"]),
    kind: told(record["kind"]),
    level: told(record["level"]),
    question: told(record["question"]),
    expected: told(record["expected"]),
    answer: typeof own === "string" ? visible(own) : null,
    right: judged === null ? null : judged >= 1,
    tokens: number(record["tokens"]),
    ranks: ranksOf(record, methods),
    gold: Array.isArray(record["gold"]) ? record["gold"].join(",") : "",
  };
}

function ranksOf(record: Json, methods: Methods): Float64Array {
  const found: [number, number[]][] = [];
  const pieces = Array.isArray(record["segments"]) ? record["segments"].length : 0;
  const gold = record["gold"];
  if (record["status"] !== "done" || !isObject(record["methods"])) return new Float64Array(0);
  const fine = rankable(gold, pieces);
  for (const [name, method] of Object.entries(record["methods"])) {
    const scores = isObject(method) && isObject(method["scores"]) ? method["scores"] : {};
    const how = mainAggregation(Object.keys(scores));
    const at = methods.place(visible(name), how ?? "segment");
    if (fine && how !== null && usable(scores[how], pieces)) found.push([at, scores[how]]);
  }
  const ranks = new Float64Array(methods.names.length * WIDTH).fill(NaN);
  for (const [at, scores] of found) rank(scores, gold as number[], ranks, at * WIDTH);
  return ranks;
}
