/** The top of a run's page: its metrics, the best of each column, and the ranks of first gold pieces. Pure functions. */

import { bootstrap } from "./compare";
import type { Interval } from "./compare";
import type { Column, MethodRow } from "./digest";
import { AP, BINS, BIN_LABELS, FIRST, HITS, RECIPROCAL } from "./ranks";
import { rankValue } from "./summary";
import type { Methods, Summary } from "./summary";

const COMPUTED: readonly [string, number][] = [
  ["ap", AP],
  ["mrr", RECIPROCAL],
  ["first_is_gold", HITS],
  ["first_rank", FIRST],
];

const DRAWS = 20_000_000; // limit for all intervals together: a fraction of a second

/** Metrics computed from the table of cases, for runs without stored metrics.
 *
 * @param whole true if all cases are read. Before that, means have no intervals.
 */
export function computed(cases: readonly Summary[], methods: Methods, whole: boolean): MethodRow[] {
  const columns = methods.names.length * COMPUTED.length;
  const resamples = Math.max(200, Math.min(1_000, Math.floor(DRAWS / Math.max(1, cases.length * columns))));
  const rows = methods.names.map((name, place): MethodRow => {
    const values = new Map<string, Interval>();
    for (const [key, field] of COMPUTED) {
      const known = cases.map((one) => rankValue(one, place, field)).filter((value) => !Number.isNaN(value));
      if (known.length > 0) values.set(key, bootstrap(known, whole ? resamples : 0));
    }
    return { name, aggregation: methods.aggregations[place]!, values };
  });
  const ap = (row: MethodRow) => row.values.get("ap")?.value ?? -1;
  return rows.sort((a, b) => ap(b) - ap(a));
}

/** The best methods of a column, several if they tie. None for costs, because low cost alone is no merit. */
export function best(rows: readonly MethodRow[], column: Column): ReadonlySet<string> {
  if (column.group === "cost") return new Set();
  let top = NaN;
  for (const row of rows) {
    const value = row.values.get(column.key)?.value ?? NaN;
    if (Number.isNaN(value)) continue;
    if (Number.isNaN(top) || (column.less ? value < top : value > top)) top = value;
  }
  const found = rows.filter((row) => row.values.get(column.key)?.value === top).map((row) => row.name);
  return new Set(found.length < rows.length ? found : []);
}

/** The number of cases with their first gold piece in each bin, expected over ties; and the number of cases with a rank. */
export function histogram(cases: readonly Summary[], method: number): { counts: number[]; n: number } {
  const counts = BIN_LABELS.map(() => 0);
  let n = 0;
  for (const summary of cases) {
    if (Number.isNaN(rankValue(summary, method, AP))) continue;
    n += 1;
    for (let bin = 0; bin < counts.length; bin++) counts[bin]! += rankValue(summary, method, BINS + bin);
  }
  return { counts, n };
}
