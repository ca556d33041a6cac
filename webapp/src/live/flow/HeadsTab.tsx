/** The map of layers and heads. */
import { computed, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { HeadMap } from "../../canvas/headmap";
import type { HeadHit, HeadMapData } from "../../canvas/headmap";
import { textOf } from "../../canvas/layout";
import { Choice, Stage, TextTable } from "../../canvas/Stage";
import { percent } from "../../model/scale";
import { headName, sameHead } from "./focus";
import type { Focus } from "./focus";
import { MEASURES } from "./requests";
import type { HeadMaps, Measure } from "./requests";

const NAMES: Record<Measure, string> = { mass: "Mass", entropy: "Entropy", sink: "Sink", distance: "Distance", weight: "Weight" };
const MEANING: Record<Measure, string> = {
  mass: "share of the head's attention on the prompt",
  entropy: "spread of the attention in nats; 0 means one token",
  sink: "share of the attention on the first token",
  distance: "mean distance of the attention, in tokens",
  weight: "the head's weight in this run",
};

const UNITS: Record<Measure, string> = { mass: "", entropy: " nats", sink: "", distance: " tokens", weight: "" };

/** A value of a measure as text. */
export function write(measure: Measure, value: number): string {
  if (Number.isNaN(value)) return "not recorded";
  if (measure === "entropy") return value.toFixed(2);
  if (measure === "distance") return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
  return percent(value);
}

/** The largest value of a map, NaN left out. */
export function largest(values: Float32Array): number {
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return most;
}

class Model {
  readonly measure;
  readonly several = signal(false);
  readonly at = signal<HeadHit | null>(null);
  readonly data;
  readonly readout;

  constructor(readonly focus: Focus) {
    this.measure = computed<Measure>(() => focus.measure.value ?? (focus.units.value ? "mass" : "entropy"));
    this.data = computed<HeadMapData | null>(() => {
      const maps = focus.maps.state.value.data, measure = this.measure.value;
      if (!maps) return null;
      const chosen = new Set(focus.heads.value.map(([l, h]) => l * maps.heads + h));
      return {
        layers: maps.layers, heads: maps.heads, values: maps[measure], most: largest(maps[measure]), chosen,
        sqrt: measure !== "entropy" && (measure !== "mass" || focus.units.value !== null),
        write: (value) => (measure === "entropy" || measure === "distance" ? write(measure, value) : (100 * value).toFixed(value < 0.1 ? 1 : 0)),
      };
    });
    this.readout = computed(() => {
      const maps = focus.maps.state.value.data, at = this.at.value;
      return maps && at ? this.say(maps, at) : "";
    });
  }

  say(maps: HeadMaps, { layer, head }: HeadHit): string {
    if (head < 0) return `Layer ${layer}: ${this.focus.headsOf(layer).length} of ${maps.heads} heads recorded. Enter or a click opens the layer.`;
    const i = layer * maps.heads + head;
    if (Number.isNaN(maps.mass[i])) return `Layer ${layer}, head ${head}: not recorded, because its weight in this run is 0. A run through all heads records it.`;
    const all = MEASURES.map((m) => `${NAMES[m].toLowerCase()} ${write(m, maps[m][i])}${UNITS[m]}`);
    return `Layer ${layer}, head ${head}: ${all.join(" · ")}`;
  }

  pick(hit: HeadHit, add: boolean): void {
    if (hit.head < 0) this.focus.openLayer(hit.layer);
    else if (add || this.several.value) this.focus.toggle([hit.layer, hit.head]);
    else this.focus.open([hit.layer, hit.head]);
  }
}

/** A map of cells. A click opens a head; several heads can be chosen. */
export function HeadsTab({ focus, onWeigh }: { focus: Focus; onWeigh?: ((heads: [number, number][]) => void) | undefined }): VNode {
  const it = useMemo(() => new Model(focus), [focus]);
  const place = focus.place;
  useEffect(() => focus.askMaps(), [place]);
  const found = focus.maps.state.value, maps = found.data, at = it.at.value, measure = it.measure.value, chosen = focus.heads.value;
  const units = focus.units.value, view = focus.view.value;
  const meaning = measure === "mass" && units ? `share of the head's attention on “${textOf(view, units, 60)}”` : MEANING[measure];
  const wide = maps ? 34 + maps.heads * 46 + 28 : 600;
  return (
    <section class="flow-heads" aria-label="Layers and heads">
      <div class="flow-bar">
        <Choice label="Measure" options={MEASURES.map((m) => [m, NAMES[m]] as const)} value={measure} choose={(m) => (focus.measure.value = m)} />
        <label><input type="checkbox" checked={it.several.value} onChange={(event) => (it.several.value = event.currentTarget.checked)} />Choose several</label>
      </div>
      <p class="flow-caption">
        <b>{NAMES[measure]}</b>: {meaning}; mean over {focus.rowsText(maps?.used).replace(/,$/, "")}.
        {!units && measure === "mass" && " Select a part of the prompt to see which heads attend to it."}
      </p>
      <div class="flow-mapped" style={{ gridTemplateColumns: `minmax(0, ${wide}px) minmax(14rem, 1fr)` }}>
        <div class="flow-gridbox">
          {/* One cell for screen readers: a large model has 5,000 heads, as many as the elements that the whole page may have. */}
          <div class="flow-grid" role="grid" aria-label={`${NAMES[measure]} of every head`} aria-rowcount={maps?.layers ?? 0} aria-colcount={(maps?.heads ?? 0) + 1}
            aria-multiselectable="true" tabIndex={0} aria-activedescendant="flow-cell" onKeyDown={passKey} onBlur={passBlur}>
            <div role="row" aria-rowindex={(at?.layer ?? 0) + 1} class="visually-hidden">
              {at && at.head < 0
                ? <div role="rowheader" id="flow-cell" aria-colindex={1}>{it.readout.value}</div>
                : (
                  <div role="gridcell" id="flow-cell" aria-colindex={(at?.head ?? 0) + 2} aria-selected={!!at && chosen.some((head) => sameHead(head, [at.layer, at.head]))}>
                    {it.readout.value || "Arrow keys move through the heads."}
                  </div>
                )}
            </div>
          </div>
          <Stage
            make={(canvas) => new HeadMap(canvas, {
              onHover: (hit) => (it.at.value = hit), onPick: (hit, how) => it.pick(hit, how.add),
              onToggle: (hit) => (hit.head < 0 ? focus.openLayer(hit.layer) : focus.toggle([hit.layer, hit.head])),
            })}
            data={it.data.value} role="none" label="" file={`${view.title} - heads - ${measure}`} state={found} retry={() => focus.maps.retry()}
            hint="Rows are layers, columns are heads. Click a cell to open its head, or a row's number to open its layer. Shift-click or Space chooses several. A dot marks a head that was not recorded."
          />
        </div>
        <div class="flow-aside">
          {it.data.value && <Legend most={it.data.value.most} sqrt={it.data.value.sqrt} measure={measure} />}
          {maps && (at ? <Card maps={maps} at={at} text={it.readout.value} /> : <Strongest maps={maps} measure={measure} focus={focus} />)}
          {chosen.length > 0 && (
            <div class="flow-chosen">
              <p><b>{chosen.length} {chosen.length === 1 ? "head" : "heads"} chosen</b> {chosen.slice(0, 16).map(headName).join(", ")}{chosen.length > 16 ? " …" : ""}</p>
              <button type="button" class="button" onClick={() => { focus.choose(chosen); focus.tab.value = "layer"; }}>Open {chosen.length === 1 ? "it" : "them"}</button>
              {onWeigh && (
                <button type="button" class="button primary" onClick={() => onWeigh(chosen.map(([l, h]): [number, number] => [l, h]))}>
                  Flow through {chosen.length === 1 ? "this head" : "these heads"} only
                </button>
              )}
              <button type="button" class="button quiet" onClick={() => focus.choose([])}>Clear</button>
            </div>
          )}
        </div>
      </div>
      <TextTable
        title={`The 20 heads with the largest ${NAMES[measure].toLowerCase()} as a table`} head={["Layer", "Head", ...MEASURES.map((m) => NAMES[m])]}
        rows={maps ? topHeads(maps, measure).map((i) => row(maps, i)) : []}
      />
    </section>
  );
}

/** Passes the grid's keys to the canvas, which draws its cells. */
function passKey(event: KeyboardEvent): void {
  const canvas = canvasOf(event);
  if (!canvas) return;
  const { key, ctrlKey, shiftKey, metaKey } = event;
  if (!canvas.dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey, shiftKey, metaKey, cancelable: true }))) event.preventDefault();
}

/** Passes the grid's blur to the canvas, which then removes the outline of the cell. */
function passBlur(event: FocusEvent): void {
  canvasOf(event)?.dispatchEvent(new FocusEvent("blur"));
}

function canvasOf(event: Event): HTMLCanvasElement | null {
  return (event.currentTarget as HTMLElement).parentElement?.querySelector("canvas") ?? null;
}

/** The numbers of one head. */
function Card({ maps, at, text }: { maps: HeadMaps; at: HeadHit; text: string }): VNode {
  const i = at.layer * maps.heads + at.head;
  if (at.head < 0 || Number.isNaN(maps.mass[i])) return <p class="flow-card">{text}</p>;
  return (
    <div class="flow-card">
      <h3>Layer {at.layer}, head {at.head}</h3>
      <dl>{MEASURES.map((m) => <div key={m}><dt>{NAMES[m]}</dt><dd>{write(m, maps[m][i])}{UNITS[m]}</dd></div>)}</dl>
    </div>
  );
}

/** The heads with the largest values, as buttons that open them. */
function Strongest({ maps, measure, focus }: { maps: HeadMaps; measure: Measure; focus: Focus }): VNode {
  return (
    <div class="flow-card">
      <h3>Largest {NAMES[measure].toLowerCase()}</h3>
      <ol>
        {topHeads(maps, measure).slice(0, 8).map((i) => (
          <li key={i}>
            <button type="button" onClick={() => focus.open([Math.floor(i / maps.heads), i % maps.heads])}>
              <span>Layer {Math.floor(i / maps.heads)}, head {i % maps.heads}</span><b>{write(measure, maps[measure][i])}</b>
            </button>
          </li>
        ))}
      </ol>
    </div>
  );
}

function row(maps: HeadMaps, i: number): string[] {
  return [`${Math.floor(i / maps.heads)}`, `${i % maps.heads}`, ...MEASURES.map((m) => write(m, maps[m][i]))];
}

/** The 20 recorded heads with the largest values, as layer * heads + head. */
function topHeads(maps: HeadMaps, measure: Measure): number[] {
  const values = maps[measure], recorded = Array.from(values.keys()).filter((i) => !Number.isNaN(maps.mass[i]));
  return recorded.sort((a, b) => values[b] - values[a]).slice(0, 20);
}

/** The values of the colours. */
function Legend({ most, sqrt, measure }: { most: number; sqrt: boolean; measure: Measure }): VNode {
  const marks = [0, 0.5, 1].map((at) => (sqrt ? at * at : at) * most);
  return (
    <span class="flow-legend" role="img" aria-label={`Colours from ${write(measure, 0)} to ${write(measure, most)}`}>
      <i aria-hidden="true" />
      <span aria-hidden="true">{marks.map((value, i) => <b key={i}>{write(measure, value)}</b>)}</span>
    </span>
  );
}
