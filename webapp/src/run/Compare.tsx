/** Compares this run with another one. */

import type { JSX } from "preact";
import { ENDINGS, ofInput } from "../open/files";
import { group } from "../open/group";
import { add, ofLocal, sources } from "../open/sources";
import { count, plural, range, signed } from "../ui/format";
import { report } from "../ui/messages";
import { UserError } from "../model/types";
import type { Comparison } from "./compare";
import { inWords } from "./Metrics";
import type { OpenRun } from "./opened";
import { CUTS } from "./ranks";
import { betterFalls, measureChange } from "./table";
import type { TableState } from "./table";

interface Props {
  source: string;
  state: TableState;
  other: OpenRun | null;
  otherMethod: string;
  comparison: Comparison | null;
  onChange: (change: Partial<TableState>) => void;
}

const NONE: Partial<TableState> = { other: "", otherMethod: "", key: "place", descending: false };

export function Compare({ source, state, other, otherMethod, comparison, onChange }: Props): JSX.Element {
  const others = sources.value.filter((one) => one.kind !== "flow" && one.id !== source);
  const chosen: Partial<TableState> = { key: "difference", descending: betterFalls("difference", state.measure), otherMethod: "" }; // the best gain first
  const open = async (files: FileList | null) => {
    try {
      const grouped = await group(ofInput(files));
      const runs = grouped.found.filter((one) => one.kind !== "flow").map(ofLocal);
      if (runs.length === 0) throw new UserError(grouped.problems[0] ?? "There is no run in these files: choose the cases.jsonl of another run, with its run.json.");
      add(runs);
      onChange({ ...chosen, other: runs[0]!.id });
    } catch (error) {
      report(error);
    }
  };
  const names = other?.cases.value?.methods.names ?? [];
  return (
    <details class="run-fold" open={state.other !== "" || undefined}>
      <summary>Compare with another run</summary>
      <div class="run-bar">
        {others.length > 0 && (
          <select
            aria-label="The other run"
            value={state.other}
            onChange={({ currentTarget: { value } }) => onChange(value ? { ...chosen, other: value } : NONE)}
          >
            <option value="">none</option>
            {others.map((one) => (
              <option value={one.id} key={one.id}>
                {one.name}
              </option>
            ))}
          </select>
        )}
        <label class="button">
          Open files of another run
          <input class="visually-hidden" type="file" multiple accept={ENDINGS.run.join(",")} onChange={(event) => void open(event.currentTarget.files)} />
        </label>
        {state.other !== "" && names.length > 1 && (
          <label class="run-label">
            Method of the other run
            <select value={otherMethod} onChange={(event) => onChange({ otherMethod: event.currentTarget.value })}>
              {names.map((name) => (
                <option value={name} key={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        )}
        {state.other !== "" && (
          <div class="choice" role="group" aria-label="Measure">
            {(["ap", "first", "hit"] as const).map((measure) => (
              <button type="button" key={measure} aria-pressed={state.measure === measure} onClick={() => onChange(measureChange(state, measure))}>
                {measure === "ap" ? "AP" : measure === "first" ? "First rank" : `hit@${CUTS.find((k) => k === state.k) ?? 1}`}
              </button>
            ))}
          </div>
        )}
        {state.other !== "" && (
          <button type="button" class="button quiet" onClick={() => onChange(NONE)}>
            End the comparison
          </button>
        )}
      </div>
      {state.other !== "" && other === null && <p class="error">That run is not open any more; open its files again.</p>}
      {other?.problem.value && <p class="error">{other.problem.value}</p>}
      {comparison !== null && <Words comparison={comparison} state={state} />}
    </details>
  );
}

function Words({ comparison, state }: { comparison: Comparison; state: TableState }): JSX.Element {
  const { mean, higher, same, lower, otherGold, onlyFirst, onlySecond } = comparison;
  if (mean.n === 0) return <p>There is no case whose evidence both runs rank.</p>;
  const less = state.measure === "first";
  const places = less ? 2 : 3;
  const [better, worse] = less ? [lower, higher] : [higher, lower];
  const interval = range(mean, places, true);
  return (
    <>
      <p class="run-finding">
        The other run minus this one: <b>{signed(mean.value, places)}</b>
        {interval && ` (${interval})`} over {plural(mean.n, "case")}, {inWords(mean, less)}. Case by case the other is better in{" "}
        <b>{count(better)}</b>, the same in <b>{count(same)}</b>, worse in <b>{count(worse)}</b>.
      </p>
      <p class="soft">
        95% bootstrap interval of the paired mean.
        {onlyFirst > 0 && ` ${plural(onlyFirst, "case is", "cases are")} only in this run.`}
        {onlySecond > 0 && ` ${plural(onlySecond, "case is", "cases are")} only in the other.`}
        {otherGold > 0 && ` ${plural(otherGold, "case has", "cases have")} other gold in that run, and ${otherGold === 1 ? "is" : "are"} left out.`}
      </p>
    </>
  );
}
