/** The other direction: what each row of the answer took from the input that is pointed at or selected. */
import { effect, type ReadonlySignal, type Signal } from "@preact/signals";
import type { FlowSource, Span } from "../model/types";
import { same } from "./fit";
import { Latest } from "./rows";

const DWELL = 140; // ms that the pointer rests before its input is asked for
const SLOW = 250; // ms after which a source is asked for clicks only: a file read in slices over a long prompt

interface Wishes {
  source: ReadonlySignal<FlowSource>;
  /** Units under the pointer, and those selected. */
  hovered: ReadonlySignal<Span | null>;
  selected: ReadonlySignal<Span | null>;
}

/** Fill `received`, and `error` with what went wrong, until the returned function is called. */
export function followInput(wishes: Wishes, received: Signal<Float32Array | null>, error: (reason: unknown) => void): () => void {
  const fetching = new Latest();
  let slow: FlowSource | null = null;
  let shown: { source: FlowSource; units: Span } | null = null;
  const stop = effect(() => {
    const source = wishes.source.value;
    const selected = wishes.selected.value;
    const hovered = slow === source ? null : wishes.hovered.value;
    const units = hovered ?? selected;
    if (shown && units && shown.source === source && same(shown.units, units)) return;
    const clear = (): void => {
      shown = null;
      received.value = null;
    };
    if (!units) {
      fetching.clear();
      clear();
      return;
    }
    if (!hovered) clear(); // of what is only pointed at the last picture stays until the next has come
    let current = true;
    const ask = (): void =>
      fetching.run(async () => {
        if (!current) return;
        const start = performance.now();
        try {
          const values = await source.received(units);
          if (performance.now() - start > SLOW) slow = source;
          if (!current) return;
          shown = { source, units };
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
