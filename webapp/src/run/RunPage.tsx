/** The page of a run: its metrics and its cases. */

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo } from "preact/hooks";
import { format, navigate, place } from "../model/link";
import { fileName, save } from "../share/download";
import { bytes, count } from "../ui/format";
import { Meter } from "../ui/Meter";
import { CaseTable } from "./CaseTable";
import { Compare } from "./Compare";
import { casesCsv } from "./export";
import { Filters } from "./Filters";
import { computed, histogram } from "./headline";
import { Histogram } from "./Histogram";
import { Differences, Metrics } from "./Metrics";
import type { OpenRun } from "./opened";
import { Counts, SettingsFold } from "./Settings";
import type { Summary } from "./summary";
import { betterFalls, tableQuery } from "./table";
import type { Key } from "./table";
import { changeState, useShown } from "./use";
import "./run.css";

/** The state of each run's page, restored when the user returns from a case. */
const memories = new Map<string, { active: string; scroll: number; page: number }>();

/** The stored state of a run's page. The case page writes the last seen case into it. */
export function memoryOf(source: string): { active: string; scroll: number; page: number } {
  let found = memories.get(source);
  if (found === undefined) memories.set(source, (found = { active: "", scroll: 0, page: 0 }));
  return found;
}

export function RunPage({ source, run }: { source: string; run: OpenRun }): JSX.Element {
  const { state, method, shown, otherRun, otherMethod, comparison, other } = useShown(run);
  const memory = memoryOf(source);
  const digest = run.digest.value;
  const cases = run.cases.value;
  const version = run.version.value;
  const progress = run.progress.value;
  const title = digest?.title ?? run.name;
  useEffect(() => {
    document.title = `${title} · attributor`;
  }, [title]);
  useLayoutEffect(() => scrollTo(0, memory.page), []);
  const name = cases?.methods.names[method] ?? "";
  const rows = useMemo(() => (cases === null || digest?.hasMetrics ? [] : computed(cases.cases, cases.methods, progress === null)), [cases, version, digest, progress === null]);
  const bars = useMemo(() => (cases === null ? { counts: [], n: 0 } : histogram(cases.cases, method)), [cases, version, method]);
  const notes = [run.problem.value, run.note.value, ...(cases?.notes() ?? [])].filter((note) => note !== null);
  const unit = cases?.unit ?? "sentence";

  const caseRoute = (summary: Summary) => ({ page: "case", source, id: summary.id }) as const;
  // Pass the method if the user chose one in the table. Otherwise the case starts with its token-level flow, if it has one.
  const caseQuery = () => ({ ...tableQuery(place.peek().query), ...(state.method && name ? { method: `${name}/${cases!.methods.aggregations[method]}` } : {}) });
  const open = (summary: Summary) => {
    memory.active = summary.id;
    memory.page = scrollY;
    navigate(caseRoute(summary), { query: caseQuery() });
  };
  const sort = (key: Key) => {
    const falls = betterFalls(key, state.measure);
    if (state.key !== key) changeState({ key, descending: falls });
    else if (state.descending === falls) changeState({ descending: !state.descending });
    else changeState({ key: "place", descending: false });
  };
  return (
    <div class="run-page">
      <div class="run-title">
        <h1>{title}</h1>
        {digest !== null && <Counts digest={digest} />}
        {title !== run.name && <p class="soft">{run.name}</p>}
      </div>
      {progress !== null && (
        <Meter
          label={progress.size ? `Reading cases: ${bytes(progress.read)} of ${bytes(progress.size)}` : "Reading …"}
          done={progress.read}
          total={progress.size}
          cancel={() => run.cancel()}
        />
      )}
      {notes.map((note) => (
        <p class="run-note" key={note} role="status">
          {note}
        </p>
      ))}
      <div class="run-top">
        <Metrics key={unit} digest={digest} rows={rows} unit={unit} method={name} onMethod={(chosen) => changeState({ method: chosen })} />
        <Histogram counts={bars.counts} n={bars.n} unit={unit} method={name} />
      </div>
      <div class="run-folds">
        {digest !== null && <Differences digest={digest} method={name} />}
        {digest !== null && <SettingsFold digest={digest} />}
        {cases !== null && cases.cases.length > 0 && (
          <Compare
            source={source}
            state={state}
            other={otherRun}
            otherMethod={otherRun?.cases.value?.methods.names[otherMethod] ?? ""}
            comparison={comparison}
            onChange={changeState}
          />
        )}
      </div>
      {cases !== null && cases.cases.length > 0 && (
        <section class="run-cases" aria-labelledby="run-cases">
          <h2 id="run-cases">Cases</h2>
          <Filters
            cases={cases.cases}
            methods={cases.methods}
            method={method}
            state={state}
            shown={shown.length}
            onChange={changeState}
            onExport={() => save(fileName(run.name.replace(/\.jsonl?$/, ""), "csv"), casesCsv(cases.cases, shown, method, name, other), "text/csv")}
          />
          {shown.length === 0 && <p class="run-none soft">No case matches; {count(cases.cases.length)} are hidden by the filters.</p>}
          <CaseTable
            cases={cases.cases}
            shown={shown}
            version={version}
            state={state}
            method={method}
            other={other}
            memory={memory}
            href={(summary) => format(caseRoute(summary), caseQuery())}
            onOpen={open}
            onSort={sort}
          />
        </section>
      )}
    </div>
  );
}
