/** The metrics of a run as a table: rows are methods, columns are metrics with intervals. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { visible } from "../model/text";
import { count, digits, plural, range, signed } from "../ui/format";
import type { Interval } from "./compare";
import type { Column, Digest, MethodRow, Slice } from "./digest";
import { COLUMNS, MAIN_COLUMNS } from "./digest";
import { best } from "./headline";

interface Props {
  digest: Digest | null;
  /** Metrics computed from the cases, for runs without stored metrics. */
  rows: readonly MethodRow[];
  unit: "sentence" | "document";
  method: string;
  onMethod: (name: string) => void;
}

const FEW = 6; // methods shown before expanding

export function Metrics({ digest, rows: own, unit, method, onMethod }: Props): JSX.Element | null {
  const slice = useSignal<Slice>({ unit, stratum: "all" });
  const all = useSignal(false);
  const wide = useSignal(false);
  const known = digest !== null && digest.hasMetrics;
  const rows = known ? digest.methods(slice.value) : own;
  if (rows.length === 0) return null;
  const columns = COLUMNS.filter((column) => (wide.value || !known || MAIN_COLUMNS.has(column.key)) && rows.some((row) => row.values.has(column.key)));
  const shown = all.value ? rows : rows.filter((row, i) => i < FEW || row.name === method);
  const bests = new Map(columns.map((column) => [column.key, best(rows, column)]));
  const n = rows.find((row) => row.values.has("ap"))?.values.get("ap")?.n ?? 0;
  return (
    <section class="run-metrics" aria-labelledby="run-metrics">
      <div class="run-bar">
        <h2 id="run-metrics">Metrics</h2>
        {known && <SliceChoice digest={digest} slice={slice.value} onSlice={(next) => (slice.value = next)} />}
      </div>
      {columns.length === 0 ? (
        <p class="soft">This part of the rows has no metrics.</p>
      ) : (
        <div class="run-scroll" tabIndex={0} role="region" aria-label="Metrics by method">
          <table>
            <thead>
              <tr>
                <th scope="col">Method</th>
                {columns.map((column) => (
                  <th scope="col" key={column.key} title={column.means}>
                    {column.label}
                    {column.less && <span class="visually-hidden"> (lower is better)</span>}
                  </th>
                ))}
                <th scope="col">n</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((row) => (
                <tr key={row.name} class={row.name === method ? "run-chosen" : ""}>
                  <th scope="row">
                    <button type="button" aria-pressed={row.name === method} onClick={() => onMethod(row.name)} title="Show this method in the table of cases">
                      {row.name}
                    </button>
                    <span class="soft"> {row.aggregation}</span>
                  </th>
                  {columns.map((column) => (
                    <Cell key={column.key} column={column} interval={row.values.get(column.key)} best={bests.get(column.key)!.has(row.name)} />
                  ))}
                  <td class="soft">{count(row.values.get("ap")?.n ?? 0)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <div class="run-bar run-under">
        {rows.length > FEW && (
          <button type="button" class="button quiet" aria-expanded={all.value} onClick={() => (all.value = !all.value)}>
            {all.value ? "Show the first methods only" : `Show all ${rows.length} methods`}
          </button>
        )}
        {known && (
          <button type="button" class="button quiet" aria-expanded={wide.value} onClick={() => (wide.value = !wide.value)}>
            {wide.value ? "Show the main metrics only" : "Show every metric"}
          </button>
        )}
        <p class="soft">
          {known
            ? `${digest.interval}${slice.value.stratum === "all" ? "" : `, ${visible(slice.value.stratum)}`}. ${digest.ablations}`
            : `Computed from ${plural(n, "case")}; 95% percentile bootstrap over cases.`}
        </p>
      </div>
    </section>
  );
}

function Cell({ column, interval, best: top }: { column: Column; interval: Interval | undefined; best: boolean }): JSX.Element {
  const title = `n = ${count(interval?.n ?? 0)}`;
  if (interval === undefined || interval.value === null) return <td class="soft" title={title}>–</td>;
  return (
    <td title={title}>
      <span class="run-value">
        {digits(interval.value, column.digits)}
        {top && <span class="badge">best</span>}
      </span>
      <span class="run-range">{range(interval, column.digits)}</span>
    </td>
  );
}

function SliceChoice({ digest, slice, onSlice }: { digest: Digest; slice: Slice; onSlice: (slice: Slice) => void }): JSX.Element {
  return (
    <div class="run-choices">
      <div class="choice" role="group" aria-label="Ranked pieces">
        {(["sentence", "document"] as const).map((unit) => (
          <button type="button" key={unit} aria-pressed={slice.unit === unit} onClick={() => onSlice({ ...slice, unit })}>
            By {unit}
          </button>
        ))}
      </div>
      {digest.strata.length > 1 && (
        <select aria-label="Part of the rows" value={slice.stratum} onChange={(event) => onSlice({ ...slice, stratum: event.currentTarget.value })}>
          {digest.strata.map(([name, rows]) => (
            <option value={name} key={name}>
              {name === "all" ? "all rows" : visible(name).replace(":", ": ")} ({count(rows)})
            </option>
          ))}
        </select>
      )}
    </div>
  );
}

/** One method against each of the others, in one metric. */
export function Differences({ digest, method }: { digest: Digest; method: string }): JSX.Element | null {
  const metric = useSignal("ap");
  const there = COLUMNS.filter((column) => digest.differences(method, column.key).length > 0);
  if (there.length === 0) return null;
  const column = there.find((one) => one.key === metric.value) ?? there[0]!;
  const rows = digest.differences(method, column.key).sort((a, b) => bestFirst(a, b, column.less));
  return (
    <details class="run-fold">
      <summary>{method} against the other methods</summary>
      <div class="run-bar">
        <select aria-label="Metric of the differences" value={column.key} onChange={(event) => (metric.value = event.currentTarget.value)}>
          {there.map((one) => (
            <option value={one.key} key={one.key}>
              {one.label}
            </option>
          ))}
        </select>
        <p class="soft">Paired differences over the rows that both methods have, with 95% intervals.</p>
      </div>
      <div class="run-scroll" tabIndex={0} role="region" aria-label="Differences between methods">
        <table>
          <thead>
            <tr>
              <th scope="col">minus</th>
              <th scope="col">{column.label}</th>
              <th scope="col">result</th>
              <th scope="col">n</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.other}>
                <th scope="row">{row.other}</th>
                <td>
                  <span class="run-value">{signed(row.value, column.digits)}</span>
                  <span class="run-range">{range(row, column.digits, true)}</span>
                </td>
                <td class="run-words">{inWords(row, column.less)}</td>
                <td class="soft">{count(row.n)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** Sorts the best difference first, missing ones last. */
function bestFirst({ value: a }: Interval, { value: b }: Interval, less: boolean): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  return less ? a - b : b - a;
}

/** The result of a difference, from its interval. */
export function inWords({ low, high }: Interval, less: boolean): string {
  if (low === null || high === null) return "too few rows";
  if (low <= 0 && high >= 0) return "no clear difference";
  return low > 0 !== less ? "better" : "worse";
}
