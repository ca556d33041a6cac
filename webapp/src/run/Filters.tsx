/** The filters of the table of cases. */

import type { JSX } from "preact";
import { count, plural } from "../ui/format";
import { CUTS } from "./ranks";
import type { Methods, Summary } from "./summary";
import { facet } from "./table";
import type { TableState } from "./table";

interface Props {
  cases: readonly Summary[];
  methods: Methods;
  method: number;
  state: TableState;
  shown: number;
  onChange: (change: Partial<TableState>) => void;
  onExport: () => void;
}

export function Filters({ cases, methods, method, state, shown, onChange, onExport }: Props): JSX.Element {
  const judged = cases.some((one) => one.right !== null);
  const filtered = shown !== cases.length;
  return (
    <div class="run-filters">
      <div class="run-bar">
        <input
          type="search"
          class="run-search"
          aria-label="Search in questions and answers"
          placeholder="Search questions and answers"
          value={state.search}
          onInput={(event) => onChange({ search: event.currentTarget.value })}
        />
        {methods.names.length > 1 && (
          <label class="run-label">
            Method
            <select value={methods.names[method]} onChange={(event) => onChange({ method: event.currentTarget.value })}>
              {methods.names.map((name) => (
                <option value={name} key={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        )}
        <div class="choice" role="group" aria-label="k of hit@k">
          {CUTS.map((k) => (
            <button type="button" key={k} aria-pressed={state.k === k} onClick={() => onChange({ k })}>
              hit@{k}
            </button>
          ))}
        </div>
        <button type="button" class="button quiet run-right" onClick={onExport}>
          Export CSV
        </button>
      </div>
      <div class="run-bar run-chips" role="group" aria-label="Filters">
        {judged && <Chip label="right" on={state.right === true} onClick={() => onChange({ right: state.right === true ? null : true })} />}
        {judged && <Chip label="wrong" on={state.right === false} onClick={() => onChange({ right: state.right === false ? null : false })} />}
        <Chip label={`hit@${state.k}`} on={state.hit === true} onClick={() => onChange({ hit: state.hit === true ? null : true })} />
        <Chip label="missed" on={state.hit === false} onClick={() => onChange({ hit: state.hit === false ? null : false })} />
        {(["status", "kind", "level"] as const).map((property) => (
          <Facet key={property} property={property} values={facet(cases, property)} chosen={state[property]} onChange={(value) => onChange({ [property]: value })} />
        ))}
        <p class="soft run-count" role="status">
          {filtered ? `${count(shown)} of ${plural(cases.length, "case")}` : plural(cases.length, "case")}
        </p>
        {filtered && (
          <button type="button" class="button quiet" onClick={() => onChange({ search: "", right: null, hit: null, status: "", kind: "", level: "" })}>
            Show all
          </button>
        )}
      </div>
    </div>
  );
}

function Chip({ label, on, onClick }: { label: string; on: boolean; onClick: () => void }): JSX.Element {
  return (
    <button type="button" class="run-chip" aria-pressed={on} onClick={onClick}>
      {label}
    </button>
  );
}

const MANY = 4; // up to this many values are chips, more are a list

function Facet(props: { property: string; values: [string, number][]; chosen: string; onChange: (value: string) => void }): JSX.Element | null {
  const { property, values, chosen, onChange } = props;
  // A single value is no choice, unless a link chose another.
  if (values.length < 2 && chosen === "") return null;
  if (values.length <= MANY) {
    return (
      <>
        {values.map(([value, cases]) => (
          <Chip key={value} label={`${value} ${count(cases)}`} on={chosen === value} onClick={() => onChange(chosen === value ? "" : value)} />
        ))}
      </>
    );
  }
  return (
    <select aria-label={property} value={chosen} onChange={(event) => onChange(event.currentTarget.value)}>
      <option value="">any {property}</option>
      {values.map(([value, cases]) => (
        <option value={value} key={value}>
          {value} ({count(cases)})
        </option>
      ))}
    </select>
  );
}
