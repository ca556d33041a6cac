/** Colours the text near the viewport without one element for each token: ranges of text nodes join named highlights.
 *
 * If the browser lacks the CSS Custom Highlight API, the chunks near the viewport are drawn as spans instead.
 */
import { LEVELS } from "../model/scale";
import type { Span, View } from "../model/types";
import type { Chunk } from "./layout";

/** Marks on top of the heat that move; "gold" never moves. Each is a span of units or null. */
export type Mark = "selected" | "hover";

/** Name of the last recolouring in the browser's performance timeline. */
export const RECOLOUR = "attributor:recolour";

const MARKS = { gold: 1, selected: 2, hover: 4 };
const MARK_NAMES = ["gold", "selected", "hover"] as const;

export class Painter {
  private levels: Uint8Array;
  private readonly marked: Record<Mark, Span | null> = { selected: null, hover: null };
  private readonly near = new Set<number>();
  private readonly painted = new Map<number, [Highlight, StaticRange][]>();
  private readonly observer: IntersectionObserver;
  private readonly highlights: Highlight[] | null;
  private readonly view: View;
  private readonly chunks: readonly Chunk[];
  private readonly elements: readonly HTMLElement[];

  /** `elements[i]` holds one text node with the text of `chunks[i]`; `pane` is the element that scrolls. */
  constructor(pane: HTMLElement, view: View, chunks: readonly Chunk[], elements: readonly HTMLElement[]) {
    this.view = view;
    this.chunks = chunks;
    this.elements = elements;
    this.levels = new Uint8Array(view.ends.length);
    this.highlights = register();
    const indexOf = new Map(elements.map((element, i) => [element as Element, i]));
    this.observer = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          const i = indexOf.get(target)!;
          if (isIntersecting === this.near.has(i)) continue;
          if (isIntersecting) {
            this.near.add(i);
            this.paint(i);
          } else {
            this.near.delete(i);
            this.clear(i);
          }
        }
      },
      { root: pane, rootMargin: "40% 0px" },
    );
    for (const element of elements) this.observer.observe(element);
  }

  /** True if spans are drawn because the browser lacks highlights. */
  get fallback(): boolean {
    return this.highlights === null;
  }

  /** Colour the text near the viewport by these levels, (u). */
  recolour(levels: Uint8Array): void {
    const start = performance.now();
    this.levels = levels;
    if (this.highlights) {
      for (const highlight of this.highlights) highlight.clear();
      this.painted.clear();
    }
    for (const i of this.near) this.paint(i);
    performance.clearMeasures(RECOLOUR);
    performance.measure(RECOLOUR, { start });
  }

  /** Move a mark. */
  mark(mark: Mark, units: Span | null): void {
    const before = this.marked[mark];
    this.marked[mark] = units;
    for (const i of this.near) {
      if (!touches(this.chunks[i]!, before) && !touches(this.chunks[i]!, units)) continue;
      this.clear(i);
      this.paint(i);
    }
  }

  /** Colour all text, for printing. `false` clears what is not near the viewport. */
  all(on: boolean): void {
    for (let i = 0; i < this.chunks.length; i++) {
      if (this.near.has(i)) continue;
      if (on) this.paint(i);
      else this.clear(i);
    }
  }

  dispose(): void {
    this.observer.disconnect();
    for (const highlight of this.highlights ?? []) highlight.clear();
  }

  private paint(i: number): void {
    const { units, start, stop } = this.chunks[i]!;
    const { ends } = this.view;
    const runs: [code: number, from: number, to: number][] = [];
    let code = -1;
    for (let u = units.start; u < units.stop; u++) {
      const from = Math.max(start, u > 0 ? ends[u - 1]! : 0) - start;
      const to = Math.min(stop, ends[u]!) - start;
      if (to <= from) continue;
      const next = this.codeOf(u);
      if (next === code) runs[runs.length - 1]![2] = to;
      else runs.push([next, from, to]);
      code = next;
    }
    this.trim(start, runs);
    if (this.highlights) this.paintRanges(i, runs);
    else this.paintSpans(i, runs);
  }

  /** A token includes the space before it. Where colour begins, leave that space uncoloured. */
  private trim(start: number, runs: [number, number, number][]): void {
    for (let r = 1; r < runs.length; r++) {
      const [code, from, to] = runs[r]!;
      if (code === 0 || runs[r - 1]![0] !== 0 || to - from < 2 || this.view.text[start + from] !== " ") continue;
      runs[r]![1]++;
      runs[r - 1]![2]++;
    }
  }

  /** The level in the low four bits, the marks in the bits above. */
  private codeOf(u: number): number {
    let marks = 0;
    if (this.view.gold?.has(this.view.sentenceOf[u]!)) marks |= MARKS.gold;
    for (const mark of ["selected", "hover"] as const) {
      const span = this.marked[mark];
      if (span && u >= span.start && u < span.stop) marks |= MARKS[mark];
    }
    return this.levels[u]! | (marks << 4);
  }

  private paintRanges(i: number, runs: readonly (readonly [number, number, number])[]): void {
    const node = this.elements[i]!.firstChild!;
    const painted: [Highlight, StaticRange][] = [];
    const add = (slot: number, from: number, to: number): void => {
      const highlight = this.highlights![slot]!;
      const range = new StaticRange({ startContainer: node, startOffset: from, endContainer: node, endOffset: to });
      highlight.add(range);
      painted.push([highlight, range]);
    };
    for (const [code, from, to] of runs) if (code & 15) add((code & 15) - 1, from, to);
    for (let m = 0; m < MARK_NAMES.length; m++) {
      // one range for each marked stretch, so that its underline does not break where the colour changes
      let open = -1;
      for (const [code, from] of runs) {
        const on = (code >> 4) & (1 << m);
        if (on && open < 0) open = from;
        if (!on && open >= 0) {
          add(LEVELS + m, open, from);
          open = -1;
        }
      }
      if (open >= 0) add(LEVELS + m, open, runs[runs.length - 1]![2]);
    }
    this.painted.set(i, painted);
  }

  private paintSpans(i: number, runs: readonly (readonly [number, number, number])[]): void {
    const { start, stop } = this.chunks[i]!;
    const text = this.view.text.slice(start, stop);
    this.elements[i]!.replaceChildren(
      ...runs.map(([code, from, to]) => {
        const span = document.createElement("span");
        const marks = MARK_NAMES.filter((_, m) => (code >> 4) & (1 << m)).map((name) => `mark-${name}`);
        span.className = [code & 15 ? `heat-${code & 15}` : "", ...marks].filter(Boolean).join(" ");
        span.textContent = text.slice(from, to);
        return span;
      }),
    );
  }

  private clear(i: number): void {
    if (this.highlights) {
      for (const [highlight, range] of this.painted.get(i) ?? []) highlight.delete(range);
      this.painted.delete(i);
    } else {
      const { start, stop } = this.chunks[i]!;
      this.elements[i]!.textContent = this.view.text.slice(start, stop);
    }
  }
}

function touches({ units }: Chunk, span: Span | null): boolean {
  return span !== null && span.start < units.stop && span.stop > units.start;
}

/** The document's highlights: heat-1 .. heat-12, then the marks. Null if the browser lacks the API. */
function register(): Highlight[] | null {
  if (typeof CSS === "undefined" || !("highlights" in CSS) || typeof Highlight === "undefined") return null;
  const names = [...Array.from({ length: LEVELS }, (_, i) => `heat-${i + 1}`), ...MARK_NAMES.map((name) => `mark-${name}`)];
  return names.map((name, i) => {
    const highlight = new Highlight();
    highlight.priority = i; // marks cover the heat, the hovered mark covers the selected one
    CSS.highlights.set(name, highlight);
    return highlight;
  });
}
