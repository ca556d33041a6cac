/** The cases of a run as a table of any length. Only the visible rows are in the page. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { visible } from "../model/text";
import { count, digits, rankText, signed } from "../ui/format";
import { AP, FIRST } from "./ranks";
import { rankValue } from "./summary";
import type { Summary } from "./summary";
import { fieldOf } from "./table";
import type { Key, Other, TableState } from "./table";
import { inSight, moved, scrolledTo } from "./virtual";

interface Props {
  cases: readonly Summary[];
  shown: Int32Array;
  /** Counts the changes inside `cases`. */
  version: number;
  state: TableState;
  method: number;
  other: Other | null;
  /** The last opened case and the scroll position. */
  memory: { active: string; scroll: number };
  href: (summary: Summary) => string;
  onOpen: (summary: Summary) => void;
  onSort: (key: Key) => void;
}

interface Column {
  key: Key;
  label: string;
  class: string;
  show: (summary: Summary) => JSX.Element | string;
}

const NARROW = "(max-width: 46rem)";

export function CaseTable({ cases, shown, state, method, other, memory, href, onOpen, onSort }: Props): JSX.Element {
  const grid = useRef<HTMLDivElement>(null);
  const sight = useSignal({ scroll: 0, height: 600 });
  const active = useSignal(memory.active);
  const narrow = useMedia(NARROW);
  const row = narrow ? 60 : 36;
  const columns = columnsOf(state, method, other);
  const at = Math.max(0, shown.findIndex((place) => cases[place]!.id === active.value));

  const measure = () => {
    const element = grid.current;
    if (element === null) return;
    memory.scroll = element.scrollTop;
    const head = element.firstElementChild?.clientHeight ?? 0;
    sight.value = { scroll: element.scrollTop, height: element.clientHeight - head };
  };
  useLayoutEffect(() => {
    if (grid.current !== null) grid.current.scrollTop = memory.scroll;
    measure();
    const watcher = new ResizeObserver(measure);
    watcher.observe(grid.current!);
    return () => watcher.disconnect();
  }, []);
  // A shorter list or taller rows may change the visible part.
  useLayoutEffect(measure, [shown.length, row]);

  const go = (index: number) => {
    const element = grid.current;
    const place = shown[index];
    if (element === null || place === undefined) return;
    active.value = cases[place]!.id;
    memory.active = active.value;
    element.scrollTop = scrolledTo(index, element.scrollTop, sight.value.height, row);
    measure();
  };
  const key = (event: KeyboardEvent) => {
    if (event.target !== grid.current || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && shown.length > 0) {
      event.preventDefault();
      onOpen(cases[shown[at]!]!);
      return;
    }
    const to = moved(event.key, at, shown.length, Math.max(1, Math.floor(sight.value.height / row) - 1));
    if (to === null) return;
    event.preventDefault();
    go(to);
  };
  const { first, last } = inSight(sight.value.scroll, sight.value.height, row, shown.length);
  const lines = Array.from(shown.subarray(first, last), (place, i) => ({ index: first + i, summary: cases[place]! }));
  return (
    <div
      ref={grid}
      class={`run-grid${other === null ? "" : " run-two"}`}
      role="grid"
      aria-label="Cases"
      aria-rowcount={shown.length + 1}
      {...(at >= first && at < last ? { "aria-activedescendant": `run-row-${at}` } : {})}
      tabIndex={0}
      onScroll={measure}
      onKeyDown={key}
    >
      <div class="run-head" role="row" aria-rowindex={1}>
        {columns.map((column) => (
          <div key={column.key} role="columnheader" class={column.class} aria-sort={state.key === column.key ? (state.descending ? "descending" : "ascending") : "none"}>
            <button type="button" onClick={() => onSort(column.key)}>
              {column.label}
              <span aria-hidden="true" class="run-arrow">
                {state.key === column.key ? (state.descending ? "↓" : "↑") : ""}
              </span>
            </button>
          </div>
        ))}
      </div>
      {shown.length > 0 && (
        <div role="rowgroup" class="run-rows" style={{ height: `${shown.length * row}px` }}>
          {lines.map(({ index, summary }) => (
            <div
              key={summary.id}
              id={`run-row-${index}`}
              role="row"
              aria-rowindex={index + 2}
              aria-selected={index === at}
              class={`run-row${index === at ? " run-active" : ""}`}
              style={{ top: `${index * row}px`, height: `${row}px` }}
              onClick={(event) => {
                // A click with a modifier opens the link in another tab.
                if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
                event.preventDefault();
                go(index);
                onOpen(summary);
              }}
            >
              {columns.map((column) => (
                <div key={column.key} role="gridcell" class={column.class}>
                  {column.key === "question" ? (
                    <a href={href(summary)} tabIndex={-1}>
                      {summary.question || visible(summary.id)}
                    </a>
                  ) : (
                    column.show(summary)
                  )}
                </div>
              ))}
            </div>
          ))}
        </div>
      )}
    </div>
  );
}

function columnsOf(state: TableState, method: number, other: Other | null): Column[] {
  const hit = fieldOf("hit", state.k);
  const columns: Column[] = [
    { key: "question", label: "Question", class: "run-text", show: (one) => one.question },
    { key: "answer", label: "Model's answer", class: "run-text run-wide", show: (one) => one.answer ?? <span class="soft">none</span> },
    { key: "expected", label: "Expected", class: "run-text run-wide", show: (one) => one.expected },
    { key: "right", label: "Right?", class: "run-wide", show: (one) => yes(one.right) },
    { key: "hit", label: `hit@${state.k}`, class: "", show: (one) => chance(rankValue(one, method, hit)) },
    { key: "first", label: "First rank", class: "run-number", show: (one) => rankText(rankValue(one, method, FIRST)) },
    { key: "ap", label: "AP", class: "run-number", show: (one) => digits(rankValue(one, method, AP), 3) },
    { key: "tokens", label: "Tokens", class: "run-number run-wide", show: (one) => (one.tokens === null ? "–" : count(one.tokens)) },
    { key: "status", label: "Status", class: "run-wide", show: (one) => <span title={one.reason}>{one.status}</span> },
  ];
  if (other !== null) {
    const places = state.measure === "ap" ? 3 : state.measure === "hit" ? 2 : 1;
    columns.push(
      { key: "other", label: `Other: ${MEASURES[state.measure]}`, class: "run-number", show: (one) => digits(other.values.get(one.id) ?? null, places) },
      { key: "difference", label: "Difference", class: "run-number", show: (one) => signed(other.differences.get(one.id) ?? null, places) },
    );
  }
  return columns;
}

const MEASURES = { ap: "AP", first: "rank", hit: "hit" };

function yes(value: boolean | null): JSX.Element {
  if (value === null) return <span class="soft">–</span>;
  return value ? <span class="run-good">right</span> : <span class="run-bad">wrong</span>;
}

function chance(value: number): JSX.Element {
  if (Number.isNaN(value)) return <span class="soft">–</span>;
  if (value > 1 - 1e-9) return <span class="run-good">hit</span>;
  return value < 1e-9 ? <span class="run-bad">miss</span> : <span title="Tied: the chance over all orders of the tied pieces">{Math.round(value * 100)}%</span>;
}

function useMedia(query: string): boolean {
  const found = useSignal(matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const change = () => (found.value = list.matches);
    list.addEventListener("change", change);
    return () => list.removeEventListener("change", change);
  }, [query]);
  return found.value;
}
