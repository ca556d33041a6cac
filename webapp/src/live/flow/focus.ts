/** What the tabs share: which run, which rows and units, which heads were chosen. */
import { computed, signal } from "@preact/signals";
import type { ReadonlySignal } from "@preact/signals";

import type { CaseState } from "../../case/state";
import { Loader } from "../../canvas/loader";
import { oneLine } from "../../canvas/layout";
import type { Span, View } from "../../model/types";
import { fetchHeads } from "./requests";
import type { Head, HeadMaps } from "./requests";

export type Tab = "whole" | "heads" | "layer" | "trace" | "matrix";

export const sameHead = (a: Head, b: Head): boolean => a[0] === b[0] && a[1] === b[1];
export const headName = ([layer, head]: Head): string => `${layer}.${head}`;

/** One set for each run that is shown. */
export class Focus {
  readonly tab = signal<Tab>("whole");
  /** The heads that are looked at, in the order in which they were chosen. */
  readonly heads = signal<readonly Head[]>([]);
  /** The layer that is looked at as a whole; null where single heads are. */
  readonly layer = signal<number | null>(null);
  /** The rows that pictures are made for: pinned, or the whole answer. Previews would be a storm of requests. */
  readonly rows: ReadonlySignal<Span>;
  readonly units: ReadonlySignal<Span | null>;
  readonly view: ReadonlySignal<View>;
  /** The numbers of all heads; the layer, trace and matrix tabs need the weights and what was recorded from it. */
  readonly maps = new Loader<HeadMaps>();
  private lead: Head | null = null;

  constructor(readonly flow: string, readonly state: CaseState) {
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

  /** Whether the recording holds this head. */
  recorded([layer, head]: Head): boolean {
    const maps = this.maps.state.peek().data;
    return maps !== null && layer < maps.layers && head >= 0 && head < maps.heads && !Number.isNaN(maps.mass[layer * maps.heads + head]);
  }

  /** The heads of a layer that were recorded. */
  headsOf(layer: number): number[] {
    const maps = this.maps.state.value.data;
    return maps ? Array.from({ length: maps.heads }, (_, h) => h).filter((h) => this.recorded([layer, h])) : [];
  }

  /** The recorded layers. */
  layers(): number[] {
    const maps = this.maps.state.value.data;
    return maps ? Array.from({ length: maps.layers }, (_, l) => l).filter((l) => this.headsOf(l).length > 0) : [];
  }

  /** The recorded head that counted most when it was first asked for. It stays: a click on a token must not exchange the head that is looked at. */
  strongest(): Head | null {
    const maps = this.maps.state.value.data;
    if (!maps || this.lead) return this.lead;
    let best: Head | null = null, most = -1;
    for (let i = 0; i < maps.mass.length; i++) {
      const value = maps.weight[i] * (1 + maps.mass[i]);
      if (value > most) [best, most] = [[Math.floor(i / maps.heads), i % maps.heads], value];
    }
    return (this.lead = best);
  }

  toggle(head: Head): void {
    if (!this.recorded(head)) return;
    const now = this.heads.value;
    this.layer.value = null;
    this.heads.value = now.some((h) => sameHead(h, head)) ? now.filter((h) => !sameHead(h, head)) : [...now, head];
  }

  open(head: Head): void {
    if (!this.recorded(head)) return;
    this.heads.value = [head];
    this.layer.value = null;
    this.tab.value = "layer";
  }

  openLayer(layer: number): void {
    this.layer.value = layer;
    this.tab.value = "layer";
  }

  /** The rows in words: "the whole answer", "“Paris”", "4 tokens of the answer"; `used` of them, where not all were looked at. */
  rowsText(used?: number): string {
    const rows = this.rows.value, view = this.view.value, count = rows.stop - rows.start;
    if (used !== undefined && used < count) return `${used} of ${count} tokens of the answer, evenly chosen,`;
    if (count === view.answer.length && count > 1) return "the whole answer";
    return count === 1 ? `“${oneLine(view.answer[rows.start])}”` : `${count} tokens of the answer`;
  }

  dispose(): void {
    this.maps.stop();
  }
}
