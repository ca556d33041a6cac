/** The shared state of the tabs: run, rows, units, chosen heads, and all other settings of the link. */
import { batch, computed, effect, signal } from "@preact/signals";
import type { ReadonlySignal } from "@preact/signals";

import type { CaseState } from "../../case/state";
import { followLink } from "../../case/sync";
import { Loader } from "../../canvas/loader";
import { oneLine } from "../../canvas/layout";
import { place } from "../../model/link";
import type { Span, View } from "../../model/types";
import { decodeFlow, encodeFlow } from "./link";
import type { FlowSettings, Tab } from "./link";
import { fetchHeads } from "./requests";
import type { Head, HeadMaps } from "./requests";

export const sameHead = (a: Head, b: Head): boolean => a[0] === b[0] && a[1] === b[1];
export const headName = ([layer, head]: Head): string => `${layer}.${head}`;

/** One object for each shown run. It starts with the settings of the link. */
export class Focus {
  readonly tab;
  readonly grain;
  readonly room;
  /** The measure of the map's colours. Null until the user chooses one: without a selection mass is close to 1 for every head, so the map shows entropy. */
  readonly measure;
  readonly relative;
  readonly weighed;
  readonly only;
  readonly cells;
  readonly keep;
  readonly nodes;
  /** The chosen heads that were recorded, in the order of choice; none until the recorded heads are known. */
  readonly heads: ReadonlySignal<readonly Head[]>;
  /** The layer that is shown as a whole; null if single heads are shown. */
  readonly layer: ReadonlySignal<number | null>;
  /** The rows of the pictures: the pinned ones, or the whole answer. Previews are not used, as each would send a request. */
  readonly rows: ReadonlySignal<Span>;
  readonly units: ReadonlySignal<Span | null>;
  readonly view: ReadonlySignal<View>;
  /** The numbers of all heads. The layer and matrix tabs read from them which heads were recorded, and their weights. */
  readonly maps = new Loader<HeadMaps>();
  // As chosen by the user or named in a link, recorded or not.
  private readonly wantedHeads;
  private readonly wantedLayer;
  private readonly lead;

  constructor(readonly flow: string, readonly state: CaseState) {
    const linked = decodeFlow(place.peek().query);
    this.tab = signal<Tab>(linked.tab);
    this.grain = signal(linked.grain);
    this.room = signal(linked.room);
    this.measure = signal(linked.measure);
    this.relative = signal(linked.relative);
    this.weighed = signal(linked.weighed);
    this.only = signal(linked.only);
    this.cells = signal(linked.cells);
    this.keep = signal(linked.keep);
    this.nodes = signal(linked.nodes);
    this.wantedHeads = signal(linked.heads);
    this.wantedLayer = signal(linked.layer);
    this.lead = signal(linked.lead);
    const known = computed(() => this.maps.state.value.data);
    this.heads = computed(() => (known.value ? this.wantedHeads.value.filter((head) => this.recorded(head)) : []));
    this.layer = computed(() => (this.wantedLayer.value !== null && this.headsOf(this.wantedLayer.value).length ? this.wantedLayer.value : null));
    this.view = state.view;
    this.rows = computed(() => state.pinned.value ?? { start: 0, stop: state.view.value.answer.length });
    this.units = computed(() => state.units.value);
  }

  /** Part of the keys of all requests. */
  get place(): string {
    const rows = this.rows.value, units = this.units.value;
    return [this.flow, rows.start, rows.stop, units?.start, units?.stop].join();
  }

  askMaps(): void {
    const rows = this.rows.value, units = this.units.value;
    this.maps.ask(this.place, (signal) => fetchHeads(this.flow, rows, units, signal));
  }

  /** True if this head was recorded. */
  recorded([layer, head]: Head): boolean {
    const maps = this.maps.state.peek().data;
    return maps !== null && layer < maps.layers && head >= 0 && head < maps.heads && !Number.isNaN(maps.mass[layer * maps.heads + head]);
  }

  /** The recorded heads of a layer. */
  headsOf(layer: number): number[] {
    const maps = this.maps.state.value.data;
    return maps ? Array.from({ length: maps.heads }, (_, h) => h).filter((h) => this.recorded([layer, h])) : [];
  }

  /** The recorded layers. */
  layers(): number[] {
    const maps = this.maps.state.value.data;
    return maps ? Array.from({ length: maps.layers }, (_, l) => l).filter((l) => this.headsOf(l).length > 0) : [];
  }

  /** The recorded head with the largest weight * (1 + mass) when it was first shown. It stays, so that a click on a token does not change the head. */
  strongest(): Head | null {
    const maps = this.maps.state.value.data, lead = this.lead.value;
    if (!maps || (lead && this.recorded(lead))) return maps && lead;
    let best: Head | null = null, most = -1;
    for (let i = 0; i < maps.mass.length; i++) {
      const value = maps.weight[i] * (1 + maps.mass[i]);
      if (value > most) [best, most] = [[Math.floor(i / maps.heads), i % maps.heads], value];
    }
    return best;
  }

  /** Shows these heads, and no layer as a whole. */
  choose(heads: readonly Head[]): void {
    batch(() => {
      this.wantedLayer.value = null;
      this.wantedHeads.value = heads;
    });
  }

  toggle(head: Head): void {
    if (!this.recorded(head)) return;
    const now = this.heads.value;
    this.choose(now.some((h) => sameHead(h, head)) ? now.filter((h) => !sameHead(h, head)) : [...now, head]);
  }

  open(head: Head): void {
    if (!this.recorded(head)) return;
    batch(() => {
      this.choose([head]);
      this.tab.value = "layer";
    });
  }

  /** Shows a whole layer, and chooses `heads` if given. Does nothing if no head of the layer was recorded. */
  openLayer(layer: number, heads?: readonly Head[]): void {
    if (!this.headsOf(layer).length) return;
    batch(() => {
      this.wantedLayer.value = layer;
      if (heads) this.wantedHeads.value = heads;
      this.tab.value = "layer";
    });
  }

  /** The rows as text: "the whole answer", "“Paris”", "4 tokens of the answer". `used` is the number of computed rows if not all were computed. */
  rowsText(used?: number): string {
    const rows = this.rows.value, view = this.view.value, count = rows.stop - rows.start;
    if (used !== undefined && used < count) return `${used} of ${count} tokens of the answer, evenly chosen,`;
    if (count === view.answer.length && count > 1) return "the whole answer";
    return count === 1 ? `“${oneLine(view.answer[rows.start])}”` : `${count} tokens of the answer`;
  }

  /** Synchronizes the link with the settings until the returned function is called, which also aborts the requests. */
  follow(): () => void {
    const keep = effect(() => {
      if (this.tab.value !== "layer" && this.tab.value !== "matrix") return;
      const head = this.heads.value.length || (this.tab.value === "layer" && this.layer.value !== null) ? null : this.strongest();
      if (head) this.lead.value = head;
    });
    const stop = followLink({ encode: encodeFlow, decode: decodeFlow }, () => this.settings(), (settings) => this.apply(settings));
    return () => {
      keep();
      stop();
      this.maps.stop();
    };
  }

  private settings(): FlowSettings {
    const known = this.maps.state.value.data !== null; // heads that were not recorded are then removed from the link
    const { tab, grain, room, measure, relative, weighed, only, cells, keep, nodes } = this;
    return {
      tab: tab.value, grain: grain.value, room: room.value, heads: known ? this.heads.value : this.wantedHeads.value, lead: this.lead.value, layer: known ? this.layer.value : this.wantedLayer.value,
      measure: measure.value, relative: relative.value, weighed: weighed.value, only: only.value, cells: cells.value, keep: keep.value, nodes: nodes.value,
    };
  }

  private apply(settings: FlowSettings): void {
    batch(() => {
      this.tab.value = settings.tab;
      this.grain.value = settings.grain;
      this.room.value = settings.room;
      this.wantedHeads.value = settings.heads;
      this.wantedLayer.value = settings.layer;
      this.lead.value = settings.lead;
      this.measure.value = settings.measure;
      this.relative.value = settings.relative;
      this.weighed.value = settings.weighed;
      this.only.value = settings.only;
      this.cells.value = settings.cells;
      this.keep.value = settings.keep;
      this.nodes.value = settings.nodes;
    });
  }
}
