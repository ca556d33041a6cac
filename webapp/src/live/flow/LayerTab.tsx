/** The attention of one layer, or of one or several heads. */
import { computed, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { LayerView } from "../../canvas/layerview";
import type { LayerData, LayerEdge, LayerHit } from "../../canvas/layerview";
import { oneLine, textOf } from "../../canvas/layout";
import { Loader } from "../../canvas/loader";
import { Choice, Stage, TextTable } from "../../canvas/Stage";
import { DASHES, HEAD_COLOURS } from "../../canvas/theme";
import { percent } from "../../model/scale";
import type { Span } from "../../model/types";
import { headName, sameHead } from "./focus";
import type { Focus } from "./focus";
import { fetchLayer } from "./requests";
import type { Head, LayerAnswer } from "./requests";

const MOST = 480;

interface Answered {
  heads: readonly Head[];
  rows: Span;
  edges: LayerEdge[];
  /** (heads) a head's attention on the requested units, summed over the rows; and its weight in this run. */
  totals: number[];
  weights: number[];
  /** The number of rows that were computed. */
  used: number;
}

/** Merges the responses for several layers into one list of edges. Heads are numbered in the order of the request. */
export function merge(heads: readonly Head[], rows: Span, answers: readonly { layer: number; heads: readonly number[]; answer: LayerAnswer }[]): Answered {
  const edges: LayerEdge[] = [], totals = heads.map(() => 0), weights = heads.map(() => 0);
  for (const { layer, heads: asked, answer } of answers) {
    const place = new Map(asked.map((head) => [head, heads.findIndex((h) => sameHead(h, [layer, head]))]));
    asked.forEach((head, i) => {
      const at = place.get(head) ?? 0;
      totals[at] = answer.totals[i];
      weights[at] = answer.relative[i];
    });
    answer.mass.forEach((mass, e) => edges.push({
      row: answer.query[e], unit: answer.key[e], head: place.get(answer.head[e]) ?? 0, mass,
    }));
  }
  return { heads, rows, edges, totals, weights, used: answers[0]?.answer.used ?? rows.stop - rows.start };
}

class Model {
  readonly loader = new Loader<Answered>();
  /** (heads) the drawn part of each head's attention. */
  readonly drawn = signal<readonly number[]>([]);
  readonly readout = signal("");
  readonly heads;
  readonly colours;
  readonly data;

  constructor(readonly focus: Focus) {
    this.heads = computed<readonly Head[]>(() => {
      const layer = focus.layer.value;
      if (layer !== null) return focus.headsOf(layer).map((head) => [layer, head] as const);
      if (focus.heads.value.length) return focus.heads.value;
      const strongest = focus.strongest();
      return strongest ? [strongest] : [];
    });
    // Eight heads have a colour: the chosen heads, or the heads of a layer with the most attention here.
    this.colours = computed<number[]>(() => {
      const found = this.loader.state.value.data;
      if (!found) return [];
      const colours = found.heads.map(() => -1);
      const order = found.heads.map((_, i) => i).sort((a, b) => (found.heads.length > HEAD_COLOURS ? found.totals[b] - found.totals[a] : a - b));
      order.slice(0, HEAD_COLOURS).forEach((i, colour) => (colours[i] = colour));
      return colours;
    });
    this.data = computed<LayerData | null>(() => {
      const found = this.loader.state.value.data;
      if (!found) return null;
      const scaled = found.edges.map((edge) => ({ ...edge, mass: edge.mass * this.factor(found, edge.head) }));
      const only = focus.only.value, alone = only ? found.heads.findIndex((head) => sameHead(head, only)) : -1;
      return {
        view: focus.view.value, edges: scaled, rows: found.rows, colours: this.colours.value, only: alone < 0 ? null : alone,
        picked: focus.units.value ? [focus.units.value] : [],
        // Absolute: the thickest curve stands for a token's whole attention.
        full: focus.relative.value === "absolute" ? 1 : null,
      };
    });
  }

  private factor(found: Answered, head: number): number {
    return this.focus.weighed.value ? found.weights[head] : 1;
  }

  /** Sums the drawn edges of each head. Their masses may be multiplied by the head's weight. */
  count(edges: readonly LayerEdge[]): void {
    const found = this.loader.state.peek().data;
    if (!found) return;
    const sums = found.heads.map(() => 0);
    for (const { head, mass } of edges) sums[head] += mass;
    this.drawn.value = sums.map((sum, head) => Math.min(1, sum / (found.totals[head] * this.factor(found, head) || 1)));
  }

  ask(): void {
    const { flow } = this.focus, rows = this.focus.rows.value, units = this.focus.units.value, heads = this.heads.value;
    if (!heads.length) return;
    const layers = [...new Set(heads.map(([layer]) => layer))];
    this.loader.ask(`${this.focus.place} ${heads.join(" ")}`, async (signal) => {
      const answers = await Promise.all(layers.map(async (layer) => {
        const asked = heads.filter(([l]) => l === layer).map(([, head]) => head);
        const limit = Math.max(asked.length, Math.floor((MOST * asked.length) / heads.length));
        return { layer, heads: asked, answer: await fetchLayer(flow, layer, asked, rows, units, limit, signal) };
      }));
      return merge(heads, rows, answers);
    });
  }

  hover(hit: LayerHit | null): void {
    const { state } = this.focus;
    this.readout.value = hit ? this.say(hit) : "";
    state.preview.value = hit && hit.kind !== "unit" ? { start: hit.kind === "row" ? hit.row : hit.edge.row, stop: (hit.kind === "row" ? hit.row : hit.edge.row) + 1 } : null;
  }

  pick(hit: LayerHit, add: boolean): void {
    const { state } = this.focus, row = hit.kind === "row" ? hit.row : hit.kind === "edge" ? hit.edge.row : null;
    if (row !== null) {
      const pinned = state.pinned.peek();
      if (add && pinned) state.pin({ start: Math.min(pinned.start, row), stop: Math.max(pinned.stop, row + 1) });
      else state.pin(pinned?.start === row && pinned.stop === row + 1 ? null : { start: row, stop: row + 1 });
    } else if (hit.kind === "unit") {
      const own = state.units.peek();
      state.select(own?.start === hit.unit && own.stop === hit.unit + 1 ? null : { by: "token", index: hit.unit }, { reveal: true });
    }
  }

  private say(hit: LayerHit): string {
    const view = this.focus.view.peek(), found = this.loader.state.peek().data;
    if (!found) return "";
    const unit = (u: number) => `“${textOf(view, { start: u, stop: u + 1 })}”`, row = (r: number) => `“${oneLine(view.answer[r])}”`;
    if (hit.kind === "edge") {
      const mine = found.edges.find((e) => e.row === hit.edge.row && e.unit === hit.edge.unit && e.head === hit.edge.head);
      return `Head ${headName(found.heads[hit.edge.head])}, for ${row(hit.edge.row)}, puts ${percent(mine?.mass ?? 0)} of its attention on ${unit(hit.edge.unit)}.`;
    }
    const isHere = (e: LayerEdge): boolean => (hit.kind === "row" ? e.row === hit.row : e.unit === hit.unit);
    const parts = found.heads.map((head, i) => ({ head, sum: found.edges.reduce((s, e) => s + (e.head === i && isHere(e) ? e.mass : 0), 0) }));
    const most = parts.filter((p) => p.sum > 0).sort((a, b) => b.sum - a.sum).slice(0, 4);
    const count = hit.kind === "unit" ? found.used : 1;
    return `${hit.kind === "row" ? row(hit.row) : unit(hit.unit)}: ${most.map((p) => `head ${headName(p.head)} ${percent(p.sum / count)}`).join(" · ") || "no curve"}`;
  }
}

/** Curves of attention from the answer's tokens to the prompt's, with one colour and dash for each head. */
export function LayerTab({ focus }: { focus: Focus }): VNode {
  const it = useMemo(() => new Model(focus), [focus]);
  const heads = it.heads.value, place = focus.place;
  useEffect(() => focus.askMaps(), [place]);
  useEffect(() => it.ask(), [it, place, heads]);
  useEffect(() => () => it.loader.stop(), [it]);
  const maps = focus.maps.state.value, own = it.loader.state.value, found = own.data;
  const layers = focus.layers(), layer = focus.layer.value ?? heads[0]?.[0] ?? 0;
  return (
    <section class="flow-layer" aria-label="One layer or a few heads">
      <div class="flow-bar">
        <label>Layer
          <select value={layer} onChange={(event) => focus.openLayer(+event.currentTarget.value, [])}>
            {layers.map((l) => <option key={l} value={l}>{l}</option>)}
          </select>
        </label>
        <label>Head
          <select value={heads.length === 1 ? heads[0]?.[1] : focus.layer.value !== null ? "all" : "several"}
            onChange={(event) => (event.currentTarget.value === "all" ? focus.openLayer(layer) : focus.open([layer, +event.currentTarget.value]))}>
            <option value="all">all of the layer</option>
            {heads.length > 1 && focus.layer.value === null && <option value="several">{heads.length} chosen</option>}
            {focus.headsOf(layer).map((h) => <option key={h} value={h}>{h}</option>)}
          </select>
        </label>
        <Choice
          label="Scale of the curves" options={[["largest", "Relative to the largest"], ["absolute", "Absolute"]]}
          value={focus.relative.value} choose={(v) => (focus.relative.value = v)}
        />
        <label>
          <input type="checkbox" checked={focus.weighed.value} onChange={(event) => (focus.weighed.value = event.currentTarget.checked)} />
          times the head's weight in this run
        </label>
      </div>
      {found && <HeadChips it={it} found={found} />}
      <Stage
        make={(canvas) => new LayerView(canvas, {
          onHover: (hit) => it.hover(hit), onPick: (hit, how) => it.pick(hit, how.add), onDrawn: (edges) => it.count(edges),
        })}
        data={it.data.value} state={own.error || own.slow ? own : maps} retry={() => (own.error ? it.loader.retry() : focus.maps.retry())} readout={it.readout}
        file={`${focus.view.value.title} - attention ${heads.slice(0, 4).map(headName).join(" ")}`}
        label={`Attention of ${heads.length === 1 ? "head" : "heads"} ${heads.slice(0, 8).map(headName).join(", ")}: ` +
          "prompt tokens above, answer tokens below. Arrow keys move, Enter selects."}
        hint={`These prompt tokens got the most attention from ${focus.rowsText(found?.used)} in the order of the text. ⋯ marks a gap. Click a token to select it.`}
        empty={found && !found.edges.length ? "None of this attention goes to the selection." : null}
      />
      <TextTable
        title="The 20 strongest curves as a table" head={["Head", "From the answer", "To the prompt", "Share of its attention"]}
        rows={found ? topEdges(found, focus) : []}
      />
    </section>
  );
}

function topEdges(found: Answered, focus: Focus): string[][] {
  const view = focus.view.value;
  return [...found.edges].sort((a, b) => b.mass - a.mass).slice(0, 20).map((e) => [
    headName(found.heads[e.head]), `“${oneLine(view.answer[e.row])}” (${e.row + 1})`, `“${textOf(view, { start: e.unit, stop: e.unit + 1 })}”`, percent(e.mass),
  ]);
}

/** The colour of each head, the drawn part of its attention, and its weight. A click shows one head alone. */
function HeadChips({ it, found }: { it: Model; found: Answered }): VNode {
  const colours = it.colours.value, rows = Math.max(1, found.used);
  const drawn = it.drawn.value, only = it.focus.only.value;
  const named = found.heads.map((head, i) => ({ head, i })).filter(({ i }) => colours[i] >= 0).sort((a, b) => colours[a.i] - colours[b.i]);
  const rest = found.heads.length - named.length;
  return (
    <ul class="flow-chips" aria-label="Heads">
      {named.map(({ head, i }) => (
        <li key={headName(head)}>
          <button
            type="button" aria-pressed={only !== null && sameHead(only, head)} title={`Weight in this run: ${percent(found.weights[i])} of the largest`}
            onClick={() => (it.focus.only.value = only && sameHead(only, head) ? null : head)}
          >
            <svg width="30" height="10" aria-hidden="true" class={`flow-series-${colours[i] + 1}`}>
              <line x1="1" x2="29" y1="5" y2="5" stroke="currentColor" stroke-width="3" stroke-dasharray={DASHES[colours[i]].join(" ") || undefined} />
            </svg>
            <b><span class="visually-hidden">Head </span>{headName(head)}</b>
            <span>{percent(found.totals[i] / rows)}<span class="visually-hidden"> of its attention on {it.focus.units.value ? "the selection" : "the prompt"}</span></span>
            {drawn[i] !== undefined && <small>{percent(drawn[i])} drawn</small>}
          </button>
        </li>
      ))}
      {rest > 0 && <li class="soft">{rest} other {rest === 1 ? "head" : "heads"} in grey</li>}
    </ul>
  );
}
