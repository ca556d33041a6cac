/** The whole prompt as a strip: the strongest colour of each pixel row, gold marks, borders of documents, the viewport. */
import { LEVELS } from "../model/scale";

export interface MinimapText {
  units: number;
  /** First units of documents. */
  borders: readonly number[];
  /** Units of gold sentences, as [start, stop). */
  gold: readonly (readonly [number, number])[];
}

const BOLDER = 2; // levels added: a line one to three pixels high needs a stronger colour than a word
const TICK = 7; // CSS pixels at the right edge, reserved for gold

/** The largest level of each of `height` pixel rows. With fewer units than rows, each row shows its unit. */
export function strip(levels: Uint8Array, height: number): Uint8Array {
  const out = new Uint8Array(height);
  const n = levels.length;
  if (!n || !height) return out;
  if (n >= height) {
    for (let u = 0; u < n; u++) {
      const y = Math.floor((u * height) / n);
      if (levels[u]! > out[y]!) out[y] = levels[u]!;
    }
    return thicken(out);
  } else for (let y = 0; y < height; y++) out[y] = levels[Math.floor((y * n) / height)]!;
  return out;
}

/** Spreads each level to weaker neighbour rows, because a single pixel row is hard to see. */
function thicken(rows: Uint8Array): Uint8Array {
  const out = rows.slice();
  for (let y = 0; y < rows.length; y++) {
    if (y > 0 && rows[y]! > out[y - 1]!) out[y - 1] = rows[y]!;
    if (y + 1 < rows.length && rows[y]! > out[y + 1]!) out[y + 1] = rows[y]!;
  }
  return out;
}

const LEAST = 0.15; // least step of a key, as a part of the visible units: a few lines

/** The unit that a key on the map scrolls to; null for other keys. */
export function unitOfKey(key: string, [first, last]: readonly [number, number], units: number): number | null {
  if (key === "Home") return 0;
  if (key === "End") return units - 1;
  const share = { ArrowDown: 0.01, ArrowRight: 0.01, ArrowUp: -0.01, ArrowLeft: -0.01, PageDown: 0.1, PageUp: -0.1 }[key];
  if (share === undefined) return null;
  // The step is a part of the prompt. In a short prompt this is less than a line, hence the minimum.
  const step = Math.sign(share) * Math.max(Math.abs(share) * units, LEAST * (last - first), 1);
  return Math.max(0, Math.min(units - 1, Math.round((first + last) / 2 + step)));
}

export class Minimap {
  private text: MinimapText = { units: 0, borders: [], gold: [] };
  private levels: Uint8Array = new Uint8Array(0);
  private viewport: readonly [number, number] = [0, 0];
  private selected: readonly [number, number] | null = null;
  private readonly still = document.createElement("canvas"); // everything except the viewport
  private stale = true; // true if `still` must be redrawn
  private frame = 0;
  private readonly canvas: HTMLCanvasElement;
  private readonly scheme = matchMedia("(prefers-color-scheme: dark)");
  private readonly again = (): void => {
    this.stale = true;
    this.draw();
  };
  private readonly retheme = (): void => {
    this.colours.clear();
    this.again();
  };
  // Sizes and colours are cached: reading one while a layout is pending forces a whole layout.
  private readonly colours = new Map<string, string>();
  private width = 0;
  private height = 0;
  private readonly size: ResizeObserver;
  private readonly theme: MutationObserver;

  constructor(canvas: HTMLCanvasElement) {
    this.canvas = canvas;
    this.size = new ResizeObserver(([entry]) => {
      this.width = entry!.contentRect.width;
      this.height = entry!.contentRect.height;
      this.again();
    });
    this.size.observe(canvas);
    this.theme = new MutationObserver(this.retheme);
    this.theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.scheme.addEventListener("change", this.retheme);
  }

  setText(text: MinimapText): void {
    this.text = text;
    this.again();
  }

  /** (u) the levels of the heat. */
  setLevels(levels: Uint8Array): void {
    this.levels = levels;
    this.again();
  }

  /** The first and last unit on the screen. */
  setViewport(first: number, last: number): void {
    this.viewport = [first, last];
    this.draw();
  }

  /** The selected units, or null. */
  setSelected(units: readonly [number, number] | null): void {
    this.selected = units;
    this.again();
  }

  /** The unit at a height in CSS pixels from the top of the canvas. */
  unitAt(y: number): number {
    const share = y / Math.max(1, this.height);
    return Math.max(0, Math.min(this.text.units - 1, Math.floor(share * this.text.units)));
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.size.disconnect();
    this.theme.disconnect();
    this.scheme.removeEventListener("change", this.retheme);
  }

  private draw(): void {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.render();
      });
    }
  }

  private render(): void {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.width * ratio);
    const height = Math.round(this.height * ratio);
    const context = canvas.getContext("2d");
    if (!context || !width || !height || !this.text.units) return;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      this.stale = true;
    }
    if (this.stale) this.renderStill(width, height, ratio);
    this.stale = false;
    context.clearRect(0, 0, width, height);
    context.drawImage(this.still, 0, 0);
    const y = (unit: number): number => (unit / this.text.units) * height;
    const top = y(this.viewport[0]);
    const box = Math.max(y(this.viewport[1] + 1) - top, 6 * ratio);
    const line = Math.round(1.5 * ratio);
    context.strokeStyle = this.colour("var(--ink)");
    context.lineWidth = line;
    context.strokeRect(line / 2, Math.min(top, height - box) + line / 2, width - line, box - line);
  }

  private renderStill(width: number, height: number, ratio: number): void {
    const { still } = this;
    // Setting the size clears a canvas and may allocate memory. Levels change with each hover, so set it only if it changed.
    if (still.width !== width) still.width = width;
    if (still.height !== height) still.height = height;
    const context = still.getContext("2d")!;
    context.clearRect(0, 0, width, height);
    const { units, borders, gold } = this.text;
    const y = (unit: number): number => Math.floor((unit / units) * height);
    const right = width - TICK * ratio;
    context.fillStyle = this.colour("var(--card)");
    context.fillRect(0, 0, right, height);
    const colours = Array.from({ length: LEVELS + 1 }, (_, l) => (l ? this.colour(`var(--heat-${Math.min(LEVELS, l + BOLDER)})`) : ""));
    const rows = strip(this.levels, height);
    for (let from = 0; from < height; ) {
      let to = from + 1;
      while (to < height && rows[to] === rows[from]) to++;
      if (rows[from]) {
        context.fillStyle = colours[rows[from]!]!;
        context.fillRect(0, from, right, to - from);
      }
      from = to;
    }
    if (borders.length * 3 < height) { // more borders would hide the documents
      context.fillStyle = this.colour("var(--edge)");
      for (const unit of borders) if (unit > 0) context.fillRect(0, y(unit), right, Math.max(1, Math.round(ratio / 2)));
    }
    context.fillStyle = this.colour("var(--gold)");
    for (const [start, stop] of gold) context.fillRect(right + ratio, y(start), width - right - ratio, Math.max(3 * ratio, y(stop) - y(start)));
    if (this.selected) {
      context.fillStyle = this.colour("var(--accent)");
      context.fillRect(0, y(this.selected[0]), 3 * ratio, Math.max(3 * ratio, y(this.selected[1]) - y(this.selected[0])));
    }
  }

  /** The value of a CSS variable in the current theme. light-dark() is resolved through a real colour property. */
  private colour(value: string): string {
    let colour = this.colours.get(value);
    if (colour === undefined) {
      this.canvas.style.color = value;
      colour = getComputedStyle(this.canvas).color;
      this.colours.set(value, colour);
    }
    return colour;
  }
}
