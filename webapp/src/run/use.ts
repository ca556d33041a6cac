/** The state that the run page and the case page derive from a run and the link. */

import { useMemo } from "preact/hooks";
import { amend, place } from "../model/link";
import { find } from "../open/sources";
import type { Comparison } from "./compare";
import { compare } from "./compare";
import { OpenRun } from "./opened";
import { rankValue } from "./summary";
import { decodeState, encodeState, fieldOf, shownCases } from "./table";
import type { Other, TableState } from "./table";

/** A run under the state of the link. */
export interface Shown {
  state: TableState;
  /** The place of the chosen method; -1 without methods. */
  method: number;
  /** Places in `cases`, in order. */
  shown: Int32Array;
  otherRun: OpenRun | null;
  otherMethod: number;
  comparison: Comparison | null;
  other: Other | null;
}

/** Change the table's state in the link. */
export function changeState(change: Partial<TableState>): void {
  amend(encodeState({ ...decodeState(place.peek().query), ...change }));
}

/** The derived state. It is computed again only if the link or the cases read so far change. */
export function useShown(run: OpenRun): Shown {
  const encoded = JSON.stringify(encodeState(decodeState(place.value.query)));
  const state = useMemo(() => decodeState(place.peek().query), [encoded]);
  const cases = run.cases.value;
  const version = run.version.value;
  const methods = cases?.methods ?? null;
  // Without a choice the table shows the first method of the metrics.
  const chosen = state.method || (run.digest.value?.leading ?? "");
  const method = methods === null ? -1 : Math.max(methods.find(chosen), Math.min(0, methods.names.length - 1));
  const otherRun = state.other ? (find(state.other)?.run?.(OpenRun) ?? null) : null;
  const otherCases = otherRun?.cases.value ?? null;
  const otherVersion = otherRun?.version.value ?? 0;
  const sameName = methods?.names[method] ?? "";
  const otherMethod = otherCases === null ? -1 : Math.max(otherCases.methods.find(state.otherMethod || sameName), Math.min(0, otherCases.methods.names.length - 1));
  const field = fieldOf(state.measure, state.k);
  const comparison = useMemo(() => {
    if (cases === null || otherCases === null) return null;
    return compare(cases.cases, otherCases.cases, { first: method, second: otherMethod }, field);
  }, [cases, version, otherCases, otherVersion, method, otherMethod, field]);
  const other = useMemo<Other | null>(() => {
    if (comparison === null || otherCases === null) return null;
    return { differences: comparison.byCase, values: new Map(otherCases.cases.map((one) => [one.id, rankValue(one, otherMethod, field)])) };
  }, [comparison]);
  const shown = useMemo(() => (cases === null ? new Int32Array(0) : shownCases(cases.cases, state, method, other)), [cases, version, state, method, other]);
  return { state, method, shown, otherRun, otherMethod, comparison, other };
}
