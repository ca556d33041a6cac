/** The prompt's behaviour: colours, pointer, scrolling, and the map. It works on DOM elements, without Preact. */
import { effect } from "@preact/signals";
import { Minimap, unitOfKey } from "../canvas/minimap";
import { documentName, pieceOf } from "../model/shares";
import type { Span } from "../model/types";
import type { Layout } from "./layout";
import { describe } from "./names";
import { Painter } from "./painter";
import { unitUnder } from "./pointer";
import type { CaseState } from "./state";

export class PromptPane {
  readonly painter: Painter;
  private readonly chunks: HTMLElement[];
  private readonly layout: Layout;
  private readonly map: Minimap;
  private readonly stops: (() => void)[] = [];
  private readonly abort = new AbortController();
  private readonly size: ResizeObserver;
  private point: { x: number; y: number } | null = null;
  private frame = 0;
  private unit = -1;

  private readonly pane: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly tip: HTMLElement;
  private readonly state: CaseState;

  constructor(pane: HTMLElement, canvas: HTMLCanvasElement, tip: HTMLElement, state: CaseState) {
    this.pane = pane;
    this.canvas = canvas;
    this.tip = tip;
    this.state = state;
    this.layout = state.layout.peek();
    const view = state.view.peek();
    this.chunks = Array.from(pane.querySelectorAll<HTMLElement>("[data-chunk]"));
    this.painter = new Painter(pane, view, this.layout.chunks, this.chunks);
    this.map = new Minimap(canvas);
    this.map.setText({
      units: view.ends.length,
      borders: this.layout.blocks.filter((b) => b.document >= 0).map((b) => this.layout.chunks[b.chunks.start]!.units.start),
      gold: [...(view.gold ?? [])].flatMap((index) => {
        const units = this.layout.unitsOf({ by: "sentence", index });
        return units ? [[units.start, units.stop] as const] : [];
      }),
    });
    this.stops.push(
      effect(() => {
        const { levels } = state.heat.value;
        if (levels.length !== view.ends.length) return; // levels of the next view, which gets its own pane
        this.painter.recolour(levels);
        this.map.setLevels(levels);
        if (this.unit >= 0 && !this.tip.hidden) this.tip.textContent = this.describe(this.unit); // the tooltip shows the current rows
      }),
      effect(() => {
        const units = state.units.value;
        this.painter.mark("selected", units);
        this.map.setSelected(units && [units.start, units.stop]);
      }),
      effect(() => {
        const piece = state.hovered.value;
        this.painter.mark("hover", piece && this.layout.unitsOf(piece));
      }),
      effect(() => {
        if (state.reveal.value === 0) return;
        const units = state.units.peek();
        if (units) this.show(units);
      }),
    );
    const { signal } = this.abort;
    pane.addEventListener("scroll", () => this.scrolled(), { signal, passive: true });
    pane.addEventListener("pointermove", (event) => this.moved(event), { signal, passive: true });
    pane.addEventListener("pointerleave", () => this.left(), { signal });
    pane.addEventListener("click", (event) => this.clicked(event), { signal });
    canvas.addEventListener("pointerdown", (event) => this.grab(event), { signal });
    canvas.addEventListener("pointermove", (event) => event.buttons & 1 && this.jump(this.map.unitAt(event.offsetY)), { signal });
    canvas.addEventListener("keydown", (event) => this.key(event), { signal });
    addEventListener("beforeprint", () => this.painter.all(true), { signal });
    addEventListener("afterprint", () => this.painter.all(false), { signal });
    this.size = new ResizeObserver(() => this.scrolled());
    this.size.observe(pane);
    const units = state.units.peek();
    if (units) requestAnimationFrame(() => this.show(units));
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.abort.abort();
    this.size.disconnect();
    for (const stop of this.stops) stop();
    this.painter.dispose();
    this.map.dispose();
    this.tip.hidden = true;
  }

  /** Scroll units into view, to the upper third. */
  show(units: Span): void {
    this.jump(units.start, 0.3);
  }

  /** Scroll a unit to the part `at` of the pane's height. */
  jump(unit: number, at = 0.5): void {
    const chunk = this.chunks[this.layout.chunkOf(unit)];
    if (!chunk) return;
    const place = (): void => {
      const box = this.boxOf(unit, chunk);
      const pane = this.pane.getBoundingClientRect();
      const seen = Math.min(pane.bottom, innerHeight) - Math.max(pane.top, 0);
      if (seen < 0.4 * Math.min(pane.height, innerHeight)) this.pane.scrollIntoView({ block: "nearest" });
      this.pane.scrollTop += box.top - pane.top - at * this.pane.clientHeight;
    };
    place();
    requestAnimationFrame(place); // text drawn for the first time has other heights than estimated
  }

  /** The box of a unit on the screen; the box of its chunk if the unit shows no character. */
  private boxOf(unit: number, element: HTMLElement): DOMRect {
    const chunk = this.layout.chunks[Number(element.dataset.chunk)]!;
    const { ends } = this.state.view.peek();
    const from = Math.max(0, (unit > 0 ? ends[unit - 1]! : 0) - chunk.start);
    const node = element.firstChild;
    if (node?.nodeType !== Node.TEXT_NODE || from >= chunk.stop - chunk.start) return element.getBoundingClientRect();
    const range = document.createRange();
    range.setStart(node, from);
    range.setEnd(node, Math.min(from + 1, node.nodeValue!.length));
    const box = range.getBoundingClientRect();
    return box.height ? box : element.getBoundingClientRect();
  }

  private later(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.showViewport();
      if (this.point) this.hover(this.point.x, this.point.y);
    });
  }

  private scrolled(): void {
    this.hide();
    this.later();
  }

  private moved(event: PointerEvent): void {
    if (event.pointerType === "touch") return;
    this.point = { x: event.clientX, y: event.clientY };
    this.later();
  }

  private left(): void {
    this.hide();
    this.state.hovered.value = null;
  }

  private hide(): void {
    this.point = null;
    this.unit = -1;
    this.tip.hidden = true;
  }

  private hover(x: number, y: number): void {
    const { state } = this;
    const unit = unitUnder(x, y, this.layout);
    if (unit >= 0) {
      if (unit !== this.unit) this.tip.textContent = this.describe(unit);
      this.tip.hidden = false;
      const { offsetWidth: width, offsetHeight: height } = this.tip;
      this.tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
      this.tip.style.top = `${y + 22 + height > innerHeight ? y - height - 12 : y + 22}px`;
    } else this.tip.hidden = true;
    if (unit === this.unit) return;
    this.unit = unit;
    const piece = this.pieceAt(unit);
    const before = state.hovered.peek();
    if (piece?.index !== before?.index || piece?.by !== before?.by) state.hovered.value = piece;
  }

  private describe(unit: number): string {
    const { state } = this;
    return describe(state.view.peek(), this.layout, state.row.peek(), unit, state.by.peek(), state.hideSink.peek());
  }

  private pieceAt(unit: number): { by: "document" | "sentence" | "token"; index: number } | null {
    if (unit < 0) return null;
    const by = this.state.by.peek();
    const index = by === "token" ? unit : pieceOf(this.state.view.peek(), by)(unit);
    return index >= 0 ? { by, index } : null;
  }

  private clicked(event: MouseEvent): void {
    if (!(document.getSelection()?.isCollapsed ?? true)) return; // the user is selecting text
    const piece = this.pieceAt(unitUnder(event.clientX, event.clientY, this.layout));
    const before = this.state.selected.peek();
    this.state.select(piece && piece.by === before?.by && piece.index === before.index ? null : piece);
  }

  private grab(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.jump(this.map.unitAt(event.offsetY));
  }

  private key(event: KeyboardEvent): void {
    const to = unitOfKey(event.key, this.visible(), this.state.view.peek().ends.length);
    if (to === null) return;
    this.jump(to);
    event.preventDefault();
  }

  /** The first and last unit on the screen, interpolated within the chunks' boxes. */
  private visible(): [number, number] {
    const { top, bottom } = this.pane.getBoundingClientRect();
    const at = (y: number): number => {
      let low = 0;
      let high = this.chunks.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.chunks[middle]!.getBoundingClientRect().bottom > y) high = middle;
        else low = middle + 1;
      }
      const chunk = this.layout.chunks[low];
      if (!chunk) return 0;
      const box = this.chunks[low]!.getBoundingClientRect();
      const share = box.height ? Math.max(0, Math.min(1, (y - box.top) / box.height)) : 0;
      return Math.floor(chunk.units.start + share * (chunk.units.stop - chunk.units.start - 1));
    };
    return [at(top), at(bottom)];
  }

  private showViewport(): void {
    const [first, last] = this.visible();
    this.map.setViewport(first, last);
    const view = this.state.view.peek();
    const share = Math.round((100 * (first + last)) / 2 / Math.max(1, view.ends.length - 1));
    const document = view.documentOf[Math.round((first + last) / 2)] ?? -1;
    this.canvas.ariaValueNow = String(share);
    this.canvas.ariaValueText = `${share}%${document >= 0 ? `, ${documentName(view, document)}` : ""}`;
  }
}
