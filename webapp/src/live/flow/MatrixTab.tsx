/** The whole attention matrix of one head. */
import { computed, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { isGone, Loader } from "../../canvas/loader";
import { oneLine, lastAtMost, textOf } from "../../canvas/layout";
import { Choice, Stage, TextTable } from "../../canvas/Stage";
import { Tiles } from "../../canvas/tiles";
import type { CellHit, TilesData } from "../../canvas/tiles";
import type { TileSource } from "../../canvas/tilestore";
import { percent } from "../../model/scale";
import type { View } from "../../model/types";
import { headName } from "./focus";
import type { Focus } from "./focus";
import { fetchTiles } from "./requests";
import type { Head } from "./requests";

/** The text of a token of the prompt or the answer, by its position. */
export function tokenText(view: View, position: number): string {
  const { firstToken } = view, units = view.ends.length, prompt = firstToken ? firstToken[units] : units;
  if (position >= prompt) return view.answer[position - prompt] === undefined ? `token ${position}` : oneLine(view.answer[position - prompt]);
  const unit = firstToken ? lastAtMost(firstToken.subarray(0, units), position) : position;
  return textOf(view, { start: unit, stop: unit + 1 });
}

class Model {
  readonly loader = new Loader<TileSource>();
  readonly cell = signal<CellHit | null>(null);
  readonly scale = signal({ largest: 1, missing: 0, every: 1 });
  readonly failure = signal<{ error: string; gone: boolean } | null>(null);
  readonly slow = signal(false);
  readonly table = signal<CellHit[]>([]);
  readonly head;
  readonly data;
  readonly readout;
  tiles: Tiles | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly focus: Focus) {
    this.head = computed<Head | null>(() => focus.heads.value[focus.heads.value.length - 1] ?? focus.strongest());
    this.data = computed<TilesData | null>(() => {
      const source = this.loader.state.value.data, view = focus.view.value;
      return source && { source, mode: focus.cells.value, label: (position) => tokenText(view, position) };
    });
    this.readout = computed(() => (this.cell.value ? this.say(this.cell.value) : ""));
  }

  ask(): void {
    const head = this.head.value;
    if (!head) return;
    this.failure.value = null;
    this.loader.ask(`${this.focus.flow} ${head.join()}`, (signal) => fetchTiles(this.focus.flow, head, signal));
  }

  fail(error: unknown): void {
    this.failure.value = { error: error instanceof Error ? error.message : "A tile could not be loaded.", gone: isGone(error) };
  }

  scaled(largest: number, missing: number, every: number): void {
    this.scale.value = { largest, missing, every };
    clearTimeout(this.timer);
    if (!missing) {
      this.slow.value = false;
      this.failure.value = null;
      this.table.value = this.tiles?.top(20) ?? [];
    } else this.timer = setTimeout(() => (this.slow.value = true), 200);
  }

  retry(): void {
    this.failure.value = null;
    if (this.loader.state.peek().error) this.loader.retry();
    else this.tiles?.retry();
  }

  say(cell: CellHit): string {
    const view = this.focus.view.peek(), at = (position: number) => `“${tokenText(view, position)}” (${position.toLocaleString("en")})`;
    const where = cell.span === 1 ? `${at(cell.query)} attends to ${at(cell.key)}` : `${cell.span} tokens from ${at(cell.query)} attend to ${cell.span} tokens from ${at(cell.key)}`;
    if (cell.key > cell.query + cell.span - 1) return `${at(cell.query)} cannot attend to the later token ${at(cell.key)}.`;
    if (cell.max === null) return `${where}: not loaded yet.`;
    return cell.span === 1 ? `${where}: ${percent(cell.max)} of its attention.` : `${where}: at most ${percent(cell.max)}, on average ${percent(cell.mean ?? 0)}.`;
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.loader.stop();
  }
}

/** A zoomable matrix. */
export function MatrixTab({ focus }: { focus: Focus }): VNode {
  const it = useMemo(() => new Model(focus), [focus]);
  const place = focus.place, head = it.head.value, key = head?.join();
  useEffect(() => focus.askMaps(), [place]);
  useEffect(() => it.ask(), [it, key]);
  useEffect(() => () => it.dispose(), [it]);
  const found = it.loader.state.value, maps = focus.maps.state.value, { largest, every, missing } = it.scale.value, failure = it.failure.value;
  const asked = found.error ? found : found.data ? { ...found, slow: it.slow.value && missing > 0 } : maps;
  const state = failure ? { ...found, error: failure.error, gone: failure.gone } : asked;
  const layers = focus.layers(), view = focus.view.value;
  const open = (layer: number, h: number): void => focus.choose([[layer, h]]);
  return (
    <section class="flow-matrix" aria-label="Attention matrix">
      <div class="flow-bar">
        <label>Layer
          <select value={head?.[0]} onChange={(event) => open(+event.currentTarget.value, focus.headsOf(+event.currentTarget.value)[0] ?? 0)}>
            {layers.map((l) => <option key={l} value={l}>{l}</option>)}
          </select>
        </label>
        <label>Head
          <select value={head?.[1]} onChange={(event) => head && open(head[0], +event.currentTarget.value)}>
            {head && focus.headsOf(head[0]).map((h) => <option key={h} value={h}>{h}</option>)}
          </select>
        </label>
        <Choice label="A cell of many tokens shows" options={[["max", "Largest"], ["mean", "Mean"]]} value={focus.cells.value} choose={(cells) => (focus.cells.value = cells)} />
        <span class="flow-steps">
          <button type="button" class="button" aria-label="Zoom in" onClick={() => it.tiles?.zoomBy(2)}>+</button>
          <button type="button" class="button" aria-label="Zoom out" onClick={() => it.tiles?.zoomBy(0.5)}>−</button>
          <button type="button" class="button" onClick={() => it.tiles?.showAll()}>All</button>
        </span>
      </div>
      <div class="flow-two flow-square">
        <Stage
          make={(canvas) => (it.tiles = new Tiles(canvas, {
            onHover: (cell) => (it.cell.value = cell), onFail: (error) => it.fail(error), onScale: (most, lacking, step) => it.scaled(most, lacking, step),
            onPick: (cell) => { if (cell.span === 1 && view.kind === "token") pickCell(focus, cell); },
          }))}
          data={it.data.value} state={state} retry={() => it.retry()}
          file={`${view.title} - matrix ${head ? headName(head) : ""}`}
          label={`Attention of head ${head ? headName(head) : ""}: a row for each token, a column for each token that it attends to. Arrow keys move, plus and minus zoom.`}
          hint="Ctrl + wheel zooms, drag moves. Click a cell of single tokens to select them."
        />
        <div class="flow-aside">
          <p class="flow-legend flow-tall" role="img" aria-label={`Colours from 0 to ${percent(largest)}`}>
            <i aria-hidden="true" />
            <span aria-hidden="true"><b>0</b><b>{percent(largest / 4)}</b><b>{percent(largest)}</b></span>
          </p>
          <p>Each row is a token, each column a token that it attends to. Tokens attend only to themselves and to earlier ones: there is nothing above the diagonal.</p>
          {every > 1 && (
            <p class="flow-partly">
              Only every {ordinal(every)} row was computed here, because all rows would take too long. The largest value is a lower bound. Zoom in for exact numbers.
            </p>
          )}
          <p class="flow-cell" aria-live="polite">{it.readout.value || "Point at a cell to read it."}</p>
        </div>
      </div>
      <TextTable title="The 20 strongest cells in view as a table" head={["Token", "Attends to", "Largest"]}
        rows={it.table.value.map((cell) => [`“${tokenText(view, cell.query)}” (${cell.query})`, `“${tokenText(view, cell.key)}” (${cell.key})`, percent(cell.max ?? 0)])} />
    </section>
  );
}

/** 2nd, 3rd, 4th ... 11th, 21st. */
export function ordinal(n: number): string {
  const last = n % 100 > 10 && n % 100 < 14 ? 0 : n % 10;
  return `${n.toLocaleString("en")}${["th", "st", "nd", "rd"][last] ?? "th"}`;
}

function pickCell(focus: Focus, cell: CellHit): void {
  const view = focus.view.peek(), units = view.ends.length, first = view.firstToken, prompt = first ? first[units] : units;
  if (cell.key < prompt) focus.state.select({ by: "token", index: first ? lastAtMost(first.subarray(0, units), cell.key) : cell.key }, { reveal: true });
  // The position before a token predicts it, so a query's row is that of the next token.
  const row = cell.query + 1 - prompt;
  if (row >= 0 && row < view.answer.length) focus.state.pin({ start: row, stop: row + 1 });
}
