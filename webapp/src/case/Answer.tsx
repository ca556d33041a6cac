/** The answer, one span for each row. Pointing previews a row, clicking pins it, dragging or Shift with arrows pins several. */
import { effect } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { leveller, showShare } from "../model/scale";
import { hasShare, largestOf } from "../model/shares";
import { levelsOf } from "./heat";
import { same, versionOf } from "./fit";
import { nameOf } from "./names";
import { type CaseState, useCase } from "./state";

const HINT_NAME = 90; // characters of the input's name: the hint is a line

export function Answer(): VNode {
  const state = useCase();
  const view = state.view.value;
  const box = useRef<HTMLDivElement>(null);
  // Rows are rendered once. Changes on hover are set on the elements directly.
  const spans = useMemo(
    () =>
      view.answer.map((text, row) => (
        <span
          key={row}
          id={`row-${row}`}
          role="option"
          data-row={row}
          aria-label={text.trim() ? undefined : "white space"} // the role "option" requires a name
          aria-selected="false"
          tabIndex={row ? -1 : 0}
        >
          {rowText(text)}
        </span>
      )),
    [view],
  );
  useLayoutEffect(() => {
    if (!box.current) return;
    const strip = new Strip(box.current, state);
    return () => strip.dispose();
  }, [state, view]);
  const many = view.answer.length > 1;
  return (
    <div class="case-answer card">
      <div
        ref={box}
        key={versionOf(view)}
        class={many ? "case-strip" : "case-strip still"}
        role="listbox"
        aria-multiselectable="true"
        aria-label={many ? "Answer, token by token" : "Answer"}
        aria-describedby="case-hint"
      >
        {spans}
      </div>
      <p id="case-hint" class="case-hint">
        <Hint state={state} />
      </p>
    </div>
  );
}

function Hint({ state }: { state: CaseState }): VNode {
  const view = state.view.value;
  const many = view.answer.length > 1;
  const received = state.received.value;
  const piece = state.hovered.value ?? state.selected.value;
  if (received && piece && many) {
    const name = nameOf(view, state.layout.value, piece);
    const units = state.layout.value.unitsOf(piece);
    const isShare = units === null || hasShare(view, units.start);
    const source = isShare ? `what the word took from the ${view.documents.length ? "documents" : "prompt"}` : "everything the word took";
    return (
      <>
        Coloured by what each word took from “<bdi>{name.length > HINT_NAME ? `${name.slice(0, HINT_NAME)}…` : name}</bdi>”
        {isShare || view.normalized ? `; at most ${showShare(largestOf(received))} of ${source}.` : "."}
      </>
    );
  }
  if (!many) return <>The answer is scored as a whole. Point at a bar to mark its text in the prompt, or click the prompt to mark its bar.</>;
  return (
    <>
      Point at a word to see its sources, click to keep it, drag to keep several. Click the prompt to see which words took from it. Esc
      shows the whole answer.
    </>
  );
}

/** The text shown for a row. White space and the empty text are made visible. */
export function rowText(text: string): string {
  if (text === "") return "∅";
  return text.trim() === "" ? text.replace(/\n/g, "↵\n") : text;
}

/** Handles the strip's events and updates its elements. */
class Strip {
  private readonly stops: (() => void)[] = [];
  private readonly abort = new AbortController();
  private anchor = -1; // the row where a drag or a Shift selection started
  private dragging = false;
  private shown = "";

  private readonly box: HTMLElement;
  private readonly state: CaseState;
  private readonly options: readonly HTMLElement[];

  constructor(box: HTMLElement, state: CaseState) {
    this.box = box;
    this.state = state;
    this.options = Array.from(box.children) as HTMLElement[];
    this.stops.push(effect(() => this.showPins()), effect(() => this.showReceived()));
    const { signal } = this.abort;
    box.addEventListener("pointerover", (event) => this.over(rowAt(event)), { signal });
    box.addEventListener("pointerleave", () => this.state.preview.peek() && !this.dragging && (this.state.preview.value = null), { signal });
    box.addEventListener("pointerdown", (event) => this.down(event), { signal });
    document.addEventListener("pointerup", (event) => this.up(event), { signal });
    document.addEventListener("pointercancel", () => this.cancel(), { signal });
    box.addEventListener("focusin", (event) => (event.target as Element).matches(":focus-visible") && this.over(rowAt(event)), { signal });
    box.addEventListener("focusout", () => (this.state.preview.value = null), { signal });
    box.addEventListener("keydown", (event) => this.key(event), { signal });
    const pinned = state.pinned.peek();
    if (pinned) this.options[pinned.start]?.scrollIntoView?.({ block: "nearest" });
  }

  dispose(): void {
    this.abort.abort();
    for (const stop of this.stops) stop();
  }

  private over(row: number): void {
    if (row < 0 || this.options.length < 2) return;
    const next = this.dragging ? between(this.anchor, row) : { start: row, stop: row + 1 };
    if (!same(next, this.state.preview.peek())) this.state.preview.value = next;
  }

  private down(event: PointerEvent): void {
    const row = rowAt(event);
    if (row < 0 || event.button !== 0 || this.options.length < 2) return;
    if (event.shiftKey) {
      this.anchor = this.state.pinned.peek()?.start ?? row;
      this.dragging = true;
      this.over(row);
    } else if (event.pointerType !== "touch") { // on a touch screen a move scrolls
      this.anchor = row;
      this.dragging = true;
    } else this.anchor = row;
    this.roam(row);
    if (event.pointerType === "touch") return;
    event.preventDefault(); // a drag must not select text; focus() below lets the arrow keys continue from this row
    this.options[row]!.focus({ preventScroll: true });
  }

  private up(event: PointerEvent): void {
    if (this.anchor < 0) return;
    const row = rowAt(event);
    const rows = this.dragging ? (row >= 0 ? between(this.anchor, row) : this.state.preview.peek()) : row === this.anchor ? between(row, row) : null;
    this.cancel();
    if (rows) this.state.pin(same(rows, this.state.pinned.peek()) && rows.stop - rows.start === 1 ? null : rows);
  }

  private cancel(): void {
    this.dragging = false;
    this.anchor = -1;
  }

  private key(event: KeyboardEvent): void {
    const row = rowAt(event);
    if (row < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.options.length - 1;
    const moves: Record<string, number> = { ArrowRight: row + 1, ArrowDown: row + 1, ArrowLeft: row - 1, ArrowUp: row - 1, Home: 0, End: last };
    const to = moves[event.key];
    if (to !== undefined) {
      if (to >= 0 && to <= last) {
        if (event.shiftKey) {
          const pinned = this.state.pinned.peek();
          if (this.anchor < 0 || !pinned) this.anchor = row;
          this.roam(to);
          this.options[to]!.focus();
          this.state.pin(between(this.anchor, to));
        } else {
          this.anchor = -1;
          this.roam(to);
          this.options[to]!.focus();
        }
      }
    } else if (event.key === "Enter" || event.key === " ") {
      const rows = between(row, row);
      this.state.pin(same(rows, this.state.pinned.peek()) ? null : rows);
    } else return;
    event.preventDefault();
  }

  /** Make this row the one that Tab returns to. */
  private roam(row: number): void {
    for (const option of this.box.querySelectorAll<HTMLElement>('[tabindex="0"]')) option.tabIndex = -1;
    this.options[row]!.tabIndex = 0;
  }

  private showPins(): void {
    const pinned = this.state.pinned.value;
    const preview = this.state.preview.value;
    for (let row = 0; row < this.options.length; row++) {
      const option = this.options[row]!;
      const selected = String(pinned !== null && row >= pinned.start && row < pinned.stop);
      if (option.ariaSelected !== selected) option.ariaSelected = selected;
      const over = preview !== null && row >= preview.start && row < preview.stop;
      if (option.classList.contains("over") !== over) option.classList.toggle("over", over);
    }
  }

  private showReceived(): void {
    const received = this.options.length > 1 ? this.state.received.value : null; // a single row has nothing to compare with
    const level = leveller(this.state.scale.value, received ? largestOf(received) : 0, received ?? []);
    const levels = received && levelsOf(received, level);
    const now = levels ? levels.join() : "";
    if (now === this.shown) return;
    this.shown = now;
    for (let row = 0; row < this.options.length; row++) {
      const heat = levels?.[row] ? `heat-${levels[row]}` : undefined;
      const { dataset } = this.options[row]!;
      if (dataset.heat === heat) continue;
      if (heat) dataset.heat = heat;
      else delete dataset.heat;
    }
  }
}

function between(a: number, b: number): { start: number; stop: number } {
  return { start: Math.min(a, b), stop: Math.max(a, b) + 1 };
}

function rowAt(event: Event): number {
  const target = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-row]") : null;
  return target ? Number(target.dataset.row) : -1;
}
