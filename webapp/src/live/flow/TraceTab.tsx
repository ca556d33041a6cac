/** The strongest routes from the answer through the layers to the prompt. */
import { computed, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { Loader } from "../../canvas/loader";
import { Network } from "../../canvas/routes";
import type { Route } from "../../canvas/routes";
import { Stage, TextTable } from "../../canvas/Stage";
import { nodeText, Trace } from "../../canvas/trace";
import type { TraceData, TraceHit } from "../../canvas/trace";
import { showShare } from "../../model/scale";
import type { View } from "../../model/types";
import type { Focus } from "./focus";
import { LEAST_KEEP, MOST_KEEP, NODES } from "./link";
import { fetchTrace } from "./requests";
import { headsText, routeText } from "./routetext";

class Model {
  readonly loader = new Loader<Network>();
  /** Node ids are valid in their own network only, hence `of`. */
  private readonly chosen = signal<{ of: Network; hit: TraceHit | null; route: readonly number[] } | null>(null);
  readonly picked;
  readonly route;
  readonly readout = signal("");
  readonly routes;
  readonly data;

  constructor(readonly focus: Focus) {
    const chosen = computed(() => (this.chosen.value?.of === this.loader.state.value.data ? this.chosen.value : null));
    this.picked = computed<TraceHit | null>(() => chosen.value?.hit ?? null);
    this.route = computed<readonly number[]>(() => chosen.value?.route ?? []);
    this.routes = computed<Route[]>(() => {
      const network = this.loader.state.value.data, picked = this.picked.value;
      if (!network) return [];
      if (picked?.kind === "node") return network.through([picked.id]);
      if (picked?.kind === "edge") return network.through([picked.from, picked.to]);
      return network.moving();
    });
    this.data = computed<TraceData | null>(() => {
      const network = this.loader.state.value.data;
      return network && { view: focus.view.value, network, route: this.route.value };
    });
  }

  ask(): void {
    const { flow } = this.focus, rows = this.focus.rows.value, units = this.focus.units.value, keep = this.focus.keep.value / 100, nodes = this.focus.nodes.value;
    this.loader.ask(`${this.focus.place} ${keep} ${nodes}`, async (signal) => new Network(await fetchTrace(flow, rows, units, keep, nodes, signal)));
  }

  pick(hit: TraceHit): void {
    const same = JSON.stringify(hit) === JSON.stringify(this.picked.peek());
    this.choose(same ? null : hit);
    const node = hit.kind === "node" ? this.loader.state.peek().data?.node.get(hit.id) : undefined;
    if (!same && node && node.unit !== null) this.focus.state.select({ by: "token", index: node.unit }, { reveal: true });
  }

  /** Highlights a node or a step, a route, or nothing. */
  choose(hit: TraceHit | null, route: readonly number[] = []): void {
    const of = this.loader.state.peek().data;
    this.chosen.value = of && { of, hit, route };
  }

  say(hit: TraceHit | null): string {
    const network = this.loader.state.peek().data, view = this.focus.view.peek();
    if (!hit || !network) return "";
    const all = network.trace.exact || 1, { levels } = network.trace;
    const text = (id: number) => `“${nodeText(view, network, id)}”`;
    if (hit.kind === "node") {
      const node = network.node.get(hit.id), layer = levels[network.levelOf.get(hit.id) ?? 0]?.layer ?? 0;
      return node ? `${text(hit.id)}, ${layer ? `after layer ${layer - 1}` : "in the prompt"}: ${showShare(node.mass / all)} of this flow passes here.` : "";
    }
    const step = network.step(hit.from, hit.to);
    if (!step) return "";
    const how = step.head === null ? "along the residual connection" : `by ${headsText(network, step)}`;
    return `${text(hit.from)} ← ${text(hit.to)}: ${showShare(step.mass / all)} of this flow, ${how}.`;
  }
}

/** Routes as a picture and as a list. */
export function TraceTab({ focus }: { focus: Focus }): VNode {
  const it = useMemo(() => new Model(focus), [focus]);
  const place = focus.place, keep = focus.keep.value, nodes = focus.nodes.value;
  useEffect(() => it.ask(), [it, place, keep, nodes]);
  useEffect(() => () => it.loader.stop(), [it]);
  const found = it.loader.state.value, network = found.data, view = focus.view.value, routes = it.routes.value;
  const all = network?.trace.exact || 1, question = network?.trace.levels[0]?.nodes.some((node) => node.row === null);
  return (
    <section class="flow-trace" aria-label="Strongest routes">
      <div class="flow-bar">
        <label>
          Keep{" "}
          <input
            type="range" min={LEAST_KEEP} max={MOST_KEEP} step={1} value={keep} aria-valuetext={`${keep}% of the flow`}
            onInput={(event) => (focus.keep.value = +event.currentTarget.value)}
          />{" "}
          <b class="flow-number">{keep}%</b>
        </label>
        <label>Maximum nodes per layer
          <select value={nodes} onChange={(event) => (focus.nodes.value = +event.currentTarget.value)}>{NODES.map((n) => <option key={n} value={n}>{n}</option>)}</select>
        </label>
        {network && !found.stale && (
          <span class="flow-said flow-push">
            shows <b>{showShare(network.trace.shown)}</b> of the flow from {focus.rowsText(network.trace.rows?.length)} to{" "}
            {focus.units.value ? "the selection" : "the prompt"}
          </span>
        )}
      </div>
      {network && !focus.units.value && sinkShare(network, view) > 0.5 && (
        <p class="flow-caption">
          {showShare(sinkShare(network, view))} of the shown flow ends at the first token, an attention sink. Select a part of the prompt to see the routes to it.
        </p>
      )}
      <div class="flow-two">
        <Stage
          make={(canvas) => new Trace(canvas, { onHover: (hit) => (it.readout.value = it.say(hit)), onPick: (hit) => it.pick(hit) })}
          data={it.data.value} state={found} retry={() => it.loader.retry()} readout={it.readout}
          file={`${view.title} - routes`}
          label="Routes of the flow: the answer at the top, layers as rows, the prompt at the bottom. Arrow keys move from node to node, Enter lists the routes through a node."
          hint={`${question ? "With these weights the flow starts at the question too. " : ""}From the answer (top) through the layers to the prompt ` +
            "(bottom). Orange curves move by attention, grey curves stay at their position. Click a node or a curve to list the routes through it."}
          empty={network && !network.node.size ? "No route from these answer tokens reaches the selection." : null}
        />
        <div class="flow-routes">
          <h3>
            {it.picked.value ? "Routes through what you picked" : "Strongest routes that move"}
            {it.picked.value && <button type="button" class="button quiet" onClick={() => it.choose(null)}>All</button>}
          </h3>
          {network && !it.picked.value && <Staying network={network} />}
          <ol>
            {network && routes.map((route) => {
              const on = it.route.value === route.nodes;
              return (
                <li key={route.nodes.join()}>
                  <button type="button" aria-pressed={on} onClick={() => it.choose(it.picked.peek(), on ? [] : route.nodes)}>
                    <b>{showShare(route.mass / all)}</b> <span>{routeText(view, network, route.nodes)}</span>
                  </button>
                </li>
              );
            })}
          </ol>
        </div>
      </div>
      <TextTable title="The 20 strongest steps as a table" head={["Layer", "From", "To", "By", "Share"]} rows={network ? topSteps(network, view) : []} />
    </section>
  );
}

/** The part of the drawn flow that ends at the first token, if that is an attention sink. */
function sinkShare(network: Network, view: View): number {
  const { levels } = network.trace, last = levels[levels.length - 1]?.nodes ?? [];
  const all = last.reduce((sum, node) => sum + node.mass, 0);
  return view.sink && all > 0 ? (last.find((node) => node.unit === 0)?.mass ?? 0) / all : 0;
}

/** One line for the routes that never change position, which have much of the mass. */
function Staying({ network }: { network: Network }): VNode | null {
  const { mass, count } = network.staying();
  return count ? <p class="flow-staying"><b>{showShare(mass / (network.trace.exact || 1))}</b> <span>stays where it starts, on the residual connections.</span></p> : null;
}

function topSteps(network: Network, view: View): string[][] {
  const { edges, exact } = network.trace;
  const name = (id: number) => `“${nodeText(view, network, id)}”`;
  return [...edges].filter((e) => e.head !== null).sort((a, b) => b.mass - a.mass).slice(0, 20).map((e) => [
    `${network.layerBelow(network.levelOf.get(e.from) ?? 0)}`, name(e.from), name(e.to), headsText(network, e), showShare(e.mass / (exact || 1)),
  ]);
}
