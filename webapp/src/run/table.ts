/** The table's cases and their order, and its state in the link. Pure functions. */

import type { Query } from "../model/link";
import { AP, CUTS, FIRST, HITS } from "./ranks";
import { rankValue } from "./summary";
import type { Summary } from "./summary";

/** The sort keys. */
export type Key = "place" | "question" | "answer" | "expected" | "right" | "hit" | "first" | "ap" | "tokens" | "status" | "other" | "difference";

/** Measures for the comparison of two runs. */
export type Measure = "ap" | "first" | "hit";

export interface TableState {
  key: Key;
  descending: boolean;
  search: string;
  /** null: both. */
  right: boolean | null;
  hit: boolean | null;
  /** "" for all; also for kind and level. */
  status: string;
  kind: string;
  level: string;
  /** k of hit@k. */
  k: number;
  /** The method's name; "" for the first. */
  method: string;
  /** The source of the other run, and its method; "" for none. */
  other: string;
  otherMethod: string;
  measure: Measure;
}

export const START: TableState = {
  key: "place",
  descending: false,
  search: "",
  right: null,
  hit: null,
  status: "",
  kind: "",
  level: "",
  k: 1,
  method: "",
  other: "",
  otherMethod: "",
  measure: "ap",
};

const KEYS: readonly Key[] = ["place", "question", "answer", "expected", "right", "hit", "first", "ap", "tokens", "status", "other", "difference"];

const FALLING: ReadonlySet<Key> = new Set(["ap", "hit", "right"]);

/** True if a column in descending order has its best values first. For ranks lower is better. */
export function betterFalls(key: Key, measure: Measure): boolean {
  return key === "other" || key === "difference" ? measure !== "first" : FALLING.has(key);
}

/** The change of state for another measure. Best first stays best first, worst first stays worst first. */
export function measureChange({ key, descending, measure }: TableState, next: Measure): Partial<TableState> {
  return betterFalls(key, next) === betterFalls(key, measure) ? { measure: next } : { measure: next, descending: !descending };
}

/** The field of ranks.ts for a measure. */
export function fieldOf(measure: Measure, k: number): number {
  if (measure === "hit") return HITS + Math.max(0, CUTS.indexOf(k as (typeof CUTS)[number]));
  return measure === "first" ? FIRST : AP;
}

/** True (hit) if the chance that a gold piece is among the first k is half or more; null if unknown. */
export function hits(summary: Summary, method: number, k: number): boolean | null {
  const chance = rankValue(summary, method, fieldOf("hit", k));
  return Number.isNaN(chance) ? null : chance >= 0.5;
}

/** The other run's numbers by case id. */
export interface Other {
  values: ReadonlyMap<string, number>;
  differences: ReadonlyMap<string, number>;
}

/** The places in `cases` to show, in order. Cases without a value come last in both directions. */
export function shownCases(cases: readonly Summary[], state: TableState, method: number, other: Other | null): Int32Array {
  const wanted = state.search.trim().toLowerCase().split(/\s+/).filter((word) => word !== "");
  const found: number[] = [];
  cases.forEach((summary, i) => {
    if (fits(summary, state, method) && holds(summary, wanted)) found.push(i);
  });
  if (state.key === "place") {
    if (state.descending) found.reverse();
    return Int32Array.from(found);
  }
  const values = found.map((i) => valueOf(cases[i]!, state, method, other));
  const order = Int32Array.from(found.keys());
  const sign = state.descending ? -1 : 1;
  order.sort((a, b) => against(values[a]!, values[b]!, sign) || a - b);
  return order.map((i) => found[i]!);
}

type Value = number | string | null;

function against(a: Value, b: Value, sign: number): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  if (typeof a === "string" || typeof b === "string") return sign * ORDER.compare(String(a), String(b));
  return sign * (a - b);
}

const ORDER = new Intl.Collator("en", { numeric: true });

function valueOf(summary: Summary, state: TableState, method: number, other: Other | null): Value {
  const known = (value: number | undefined): Value => (value === undefined || Number.isNaN(value) ? null : value);
  switch (state.key) {
    case "question":
      return summary.question || summary.id;
    case "answer":
      return summary.answer;
    case "expected":
      return summary.expected || null;
    case "right":
      return summary.right === null ? null : Number(summary.right);
    case "hit":
      return known(rankValue(summary, method, fieldOf("hit", state.k)));
    case "first":
      return known(rankValue(summary, method, FIRST));
    case "ap":
      return known(rankValue(summary, method, AP));
    case "tokens":
      return summary.tokens;
    case "status":
      return summary.status;
    case "other":
      return known(other?.values.get(summary.id));
    case "difference":
      return known(other?.differences.get(summary.id));
    case "place":
      return 0;
  }
}

function fits(summary: Summary, state: TableState, method: number): boolean {
  if (state.right !== null && summary.right !== state.right) return false;
  if (state.status && summary.status !== state.status) return false;
  if (state.kind && summary.kind !== state.kind) return false;
  if (state.level && summary.level !== state.level) return false;
  return state.hit === null || hits(summary, method, state.k) === state.hit;
}

function holds(summary: Summary, wanted: readonly string[]): boolean {
  if (wanted.length === 0) return true;
  const text = `${summary.id}\n${summary.question}\n${summary.expected}\n${summary.answer ?? ""}\n${summary.reason}`.toLowerCase();
  return wanted.every((word) => text.includes(word));
}

/** The values of one property with their numbers of cases, the most frequent first. */
export function facet(cases: readonly Summary[], property: "status" | "kind" | "level"): [string, number][] {
  const counts = new Map<string, number>();
  for (const summary of cases) if (summary[property]) counts.set(summary[property], (counts.get(summary[property]) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || ORDER.compare(a[0], b[0]));
}

const YES = { yes: true, no: false } as Record<string, boolean>;
const said = (value: boolean | null): string | undefined => (value === null ? undefined : value ? "yes" : "no");

/** The prefix of the table's keys in a link. */
export const PREFIX = "t.";

/** Read the state from a link. Invalid values become those of START. */
export function decodeState(query: Query): TableState {
  const get = (name: string) => query[PREFIX + name] ?? "";
  const sort = get("sort");
  const key = KEYS.find((one) => one === sort.replace(/^-/, ""));
  const measure = get("measure");
  return {
    key: key ?? START.key,
    descending: key !== undefined && sort.startsWith("-"),
    search: get("find"),
    right: YES[get("right")] ?? null,
    hit: YES[get("hit")] ?? null,
    status: get("status"),
    kind: get("kind"),
    level: get("level"),
    k: CUTS.find((cut) => String(cut) === get("k")) ?? START.k,
    method: get("method"),
    other: get("with"),
    otherMethod: get("with-method"),
    measure: measure === "first" || measure === "hit" ? measure : "ap",
  };
}

/** The keys for a link; undefined for values equal to START. */
export function encodeState(state: TableState): Record<string, string | undefined> {
  const sort = state.key === "place" && !state.descending ? undefined : `${state.descending ? "-" : ""}${state.key}`;
  const pairs: [string, string | undefined][] = [
    ["sort", sort],
    ["find", state.search || undefined],
    ["right", said(state.right)],
    ["hit", said(state.hit)],
    ["status", state.status || undefined],
    ["kind", state.kind || undefined],
    ["level", state.level || undefined],
    ["k", state.k === START.k ? undefined : String(state.k)],
    ["method", state.method || undefined],
    ["with", state.other || undefined],
    ["with-method", state.otherMethod || undefined],
    ["measure", state.measure === START.measure ? undefined : state.measure],
  ];
  return Object.fromEntries(pairs.map(([name, value]) => [PREFIX + name, value]));
}

/** The table's keys of a query, passed from the table to a case and back. */
export function tableQuery(query: Query): Record<string, string> {
  return Object.fromEntries(Object.entries(query).filter(([key]) => key.startsWith(PREFIX)));
}
