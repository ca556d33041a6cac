/** The base of all pictures: two canvases (the drawing, and a layer for the hovered element), size, theme, pointer, keys, export. */
import { UserError } from "../model/types";
import { CanvasPen } from "./pen";
import type { Pen } from "./pen";
import { SvgPen } from "./svgpen";
import { readTheme, watchTheme } from "./theme";
import type { Theme } from "./theme";

/** How an element was picked: added to the selection (Shift, Ctrl or Command) or alone. */
export interface How {
  add: boolean;
}

export interface PictureOptions<Hit> {
  /** Called when the element under the pointer or the keyboard's cursor changes; null for none. */
  onHover?(hit: Hit | null): void;
  onPick?(hit: Hit, how: How): void;
  /** Double click. */
  onOpen?(hit: Hit): void;
}

/** A canvas class without a framework. Its canvas must be inside an element of position `relative` that has a width. */
export abstract class Picture<Data, Hit> {
  protected data: Data | null = null;
  protected hovered: Hit | null = null;
  protected width = 0;
  protected height = 0;
  protected theme: Theme;
  private readonly over: HTMLCanvasElement;
  private readonly stops: (() => void)[] = [];
  private dpr = globalThis.devicePixelRatio || 1;
  private frame = 0;
  private stale = false;

  constructor(readonly canvas: HTMLCanvasElement, protected readonly options: PictureOptions<Hit> = {}) {
    this.over = document.createElement("canvas");
    this.over.className = "flow-over";
    this.over.setAttribute("aria-hidden", "true");
    canvas.after(this.over);
    this.theme = readTheme(this.host);
    this.stops.push(watchTheme(() => this.retheme()));
    const seen = new ResizeObserver(() => this.resize());
    seen.observe(this.host);
    this.stops.push(() => seen.disconnect());
    this.on("pointermove", (event) => this.hover(this.under(event)));
    this.on("pointerleave", () => this.hover(null));
    this.on("click", (event) => this.pick(this.under(event), event.shiftKey || event.ctrlKey || event.metaKey));
    this.on("dblclick", (event) => {
      const hit = this.under(event);
      if (hit) this.options.onOpen?.(hit);
    });
    this.on("keydown", (event) => {
      if (!event.altKey && this.key(event)) event.preventDefault();
    });
    this.on("blur", () => this.hover(null));
  }

  /** Sets the data to show. */
  set(data: Data): void {
    this.data = data;
    this.resize(this.dpr);
  }

  /** Highlights an element without a callback, such as one that is hovered in another pane. */
  point(hit: Hit | null): void {
    if (this.same(hit, this.hovered)) return;
    this.hovered = hit;
    this.redrawOver();
  }

  /** Fits the canvas to its parent's size, with this many device pixels for a CSS pixel. A hidden parent keeps its last width. */
  resize(dpr: number = globalThis.devicePixelRatio || 1): void {
    this.dpr = dpr;
    this.width = Math.round(this.host.clientWidth) || this.width;
    if (!this.width) return; // not visible yet: the observer calls again
    this.height = Math.max(1, Math.round(this.tall(this.width)));
    for (const canvas of [this.canvas, this.over]) {
      const width = Math.round(this.width * dpr), height = Math.round(this.height * dpr);
      // Setting the size clears the canvas, so set it only if it changed.
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== height) canvas.height = height;
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${this.height}px`;
    }
    this.arrange();
    this.redraw();
  }

  /** The element at this place, in CSS pixels of the canvas. */
  abstract hit(x: number, y: number): Hit | null;

  /** Removes all listeners. The canvas stays. */
  destroy(): void {
    cancelAnimationFrame(this.frame);
    for (const stop of this.stops) stop();
    if (this.hovered !== null) this.options.onHover?.(null); // clear the highlight in other panes
    this.over.remove();
  }

  /** The picture as a bitmap, without the hover highlight. */
  toPNG(scale = 2): Promise<Blob> {
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(this.width * scale);
    canvas.height = Math.round(this.height * scale);
    const context = canvas.getContext("2d");
    if (!context) return Promise.reject(new UserError("This browser gives no canvas to draw the picture on; save the SVG instead."));
    context.scale(scale, scale);
    context.fillStyle = this.theme.card;
    context.fillRect(0, 0, this.width, this.height);
    this.paint(new CanvasPen(context, this.theme));
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new UserError("The picture is too large for a bitmap; save the SVG instead."))), "image/png");
    });
  }

  /** The picture as an SVG file, without the hover highlight. */
  toSVG(title = "Attention flow"): string {
    const pen = new SvgPen(this.theme);
    this.paint(pen);
    return pen.svg(this.width, this.height, this.theme.card, title);
  }

  /** The height of this picture for a width, in CSS pixels. */
  protected abstract tall(width: number): number;
  /** Computes the layout after the data or the size changed. */
  protected abstract arrange(): void;
  protected abstract paint(pen: Pen): void;
  /** Draws the hover highlight. */
  protected abstract paintOver(pen: Pen): void;

  /** Handles a key; returns true if the picture uses it. */
  protected key(_event: KeyboardEvent): boolean {
    return false;
  }

  /** True if two hits are the same element, so that no redraw is needed. */
  protected same(a: Hit | null, b: Hit | null): boolean {
    return a === b || JSON.stringify(a) === JSON.stringify(b);
  }

  protected hover(hit: Hit | null): void {
    if (this.same(hit, this.hovered)) return;
    this.hovered = hit;
    this.canvas.classList.toggle("flow-pointing", hit !== null);
    this.redrawOver();
    this.options.onHover?.(hit);
  }

  protected pick(hit: Hit | null, add: boolean): void {
    if (hit) this.options.onPick?.(hit, { add });
  }

  /** Draws everything in the next frame. */
  protected redraw(): void {
    this.stale = true;
    this.redrawOver();
  }

  protected redrawOver(): void {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  protected get host(): HTMLElement {
    return this.canvas.parentElement ?? document.body;
  }

  private on<K extends keyof HTMLElementEventMap>(name: K, listener: (event: HTMLElementEventMap[K]) => void): void {
    this.canvas.addEventListener(name, listener);
    this.stops.push(() => this.canvas.removeEventListener(name, listener));
  }

  private under(event: MouseEvent): Hit | null {
    const box = this.canvas.getBoundingClientRect();
    return this.data === null ? null : this.hit(event.clientX - box.left, event.clientY - box.top);
  }

  private retheme(): void {
    this.theme = readTheme(this.host);
    this.resize(this.dpr);
  }

  private draw(): void {
    this.frame = 0;
    if (!this.width) return;
    if (this.stale) this.layer(this.canvas, (pen) => this.paint(pen));
    this.layer(this.over, (pen) => this.hovered !== null && this.paintOver(pen));
    this.stale = false;
  }

  private layer(canvas: HTMLCanvasElement, paint: (pen: Pen) => void): void {
    const context = canvas.getContext("2d");
    if (!context) return;
    context.setTransform(this.dpr, 0, 0, this.dpr, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (this.data !== null) paint(new CanvasPen(context, this.theme));
  }
}
