/** From input to answer: the share that each row of the answer took from the hovered or selected input. */
import { effect, type ReadonlySignal, type Signal } from "@preact/signals";
import { sharesOfRows } from "../model/shares";
import type { FlowSource, Span, View } from "../model/types";
import { same } from "./fit";
import { Latest } from "./rows";

const DWELL = 140; // ms that the pointer must rest before its input is fetched
const SLOW = 250; // ms: a slower source (a file read in slices, a long prompt) is fetched on clicks only

interface Wishes {
  source: ReadonlySignal<FlowSource>;
  /** The view of the source. */
  view: ReadonlySignal<View>;
  /** Units under the pointer, and selected units. */
  hovered: ReadonlySignal<Span | null>;
  selected: ReadonlySignal<Span | null>;
  /** True if the first token (the attention sink) is left out. Shares are then parts of the remainder. */
  hidden: ReadonlySignal<boolean>;
}

/** Set `received`, and call `error` on failures, until the returned function is called. */
export function followInput(wishes: Wishes, received: Signal<Float32Array | null>, error: (reason: unknown) => void): () => void {
  const fetching = new Latest();
  let slow: FlowSource | null = null;
  let shown: { source: FlowSource; units: Span; hidden: boolean } | null = null;
  const stop = effect(() => {
    const source = wishes.source.value;
    const selected = wishes.selected.value;
    const hovered = slow === source ? null : wishes.hovered.value;
    const units = hovered ?? selected;
    const hidden = wishes.hidden.value;
    if (shown && units && shown.source === source && shown.hidden === hidden && same(shown.units, units)) return;
    const clear = (): void => {
      shown = null;
      received.value = null;
    };
    if (!units) {
      fetching.clear();
      clear();
      return;
    }
    if (!hovered) clear(); // while the pointer moves, the last picture stays until the next one arrives
    let current = true;
    const ask = (): void =>
      fetching.run(async () => {
        if (!current) return;
        const start = performance.now();
        try {
          const taken = await source.received(units);
          if (performance.now() - start > SLOW) slow = source;
          const values = sharesOfRows(wishes.view.peek(), taken, units, hidden ? await sinkOf(source) : null);
          if (!current) return;
          shown = { source, units, hidden };
          received.value = values;
        } catch (reason) {
          if (current) error(reason);
        }
      });
    const timer = setTimeout(ask, hovered ? DWELL : 0);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  });
  return () => {
    stop();
    fetching.clear();
  };
}

const FIRST: Span = { start: 0, stop: 1 };
const sinks = new WeakMap<FlowSource, Float32Array>();

/** (o) what each row took from the first token; fetched once. */
async function sinkOf(source: FlowSource): Promise<Float32Array> {
  const known = sinks.get(source) ?? (await source.received(FIRST));
  sinks.set(source, known);
  return known;
}
