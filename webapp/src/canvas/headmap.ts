/** The map of layers and heads: one cell for each head, coloured by one measure. */
import type { Pen } from "./pen";
import { Picture } from "./picture";
import type { PictureOptions } from "./picture";
import { inkOn } from "./theme";

export interface HeadMapData {
  layers: number;
  heads: number;
  /** (layers * heads) the values of the colours, layer by layer; NaN for heads that were not recorded. */
  values: Float32Array;
  /** The value of the strongest colour. Larger values have the same colour. */
  most: number;
  /** True for a square root scale, which shows small values better. */
  sqrt: boolean;
  /** Keys (layer * heads + head) of the chosen heads. */
  chosen: ReadonlySet<number>;
  /** The text of a value in a cell that is wide enough. */
  write(value: number): string;
}

/** A head, or with `head` -1 the whole layer. */
export interface HeadHit {
  layer: number;
  head: number;
}

export interface HeadMapOptions extends PictureOptions<HeadHit> {
  /** Called for the space bar: adds this head to the choice or removes it. */
  onToggle?(hit: HeadHit): void;
}

const LEFT = 34, TOP = 20, WIDEST = 46, TALLEST = 26;

/** The place of a value in the colour ramp, 0 to 255. */
export function shade(value: number, most: number, sqrt: boolean): number {
  const part = most > 0 ? Math.min(1, Math.max(0, value / most)) : 0;
  return Math.round(255 * (sqrt ? Math.sqrt(part) : part));
}

export class HeadMap extends Picture<HeadMapData, HeadHit> {
  private cell = { width: 1, height: 1 };
  private cursor: HeadHit | null = null;
  private readonly onToggle: HeadMapOptions["onToggle"];

  constructor(canvas: HTMLCanvasElement, options: HeadMapOptions = {}) {
    super(canvas, options);
    this.onToggle = options.onToggle;
  }

  hit(x: number, y: number): HeadHit | null {
    const { data, cell } = this;
    if (!data) return null;
    const layer = Math.floor((y - TOP) / cell.height), head = x < LEFT ? -1 : Math.floor((x - LEFT) / cell.width);
    return layer >= 0 && layer < data.layers && head < data.heads ? { layer, head } : null;
  }

  /** The box of a head, for elements placed over the canvas. */
  box(hit: HeadHit): { x: number; y: number; width: number; height: number } {
    const { cell } = this, y = TOP + hit.layer * cell.height;
    if (hit.head < 0) return { x: 0, y, width: LEFT - 4, height: cell.height };
    return { x: LEFT + hit.head * cell.width, y, width: cell.width, height: cell.height };
  }

  protected tall(width: number): number {
    if (!this.data) return 240;
    const { layers, heads } = this.data;
    const wide = Math.max(1, Math.min(WIDEST, (width - LEFT) / heads)); // at least 1: label steps are computed from it
    // Many cells are about square, but always high enough to point at a row.
    const height = Math.min(TALLEST, Math.max(9, Math.min(wide, 900 / layers)));
    this.cell = { width: wide, height };
    return TOP + layers * height + 2;
  }

  protected arrange(): void {
    // `tall` has already placed everything.
  }

  protected paint(pen: Pen): void {
    const { data, theme, cell } = this;
    if (!data) return;
    const gap = cell.width > 12 && cell.height > 10 ? 1.5 : 0.5, written = cell.width >= 40 && cell.height >= 16;
    const everyHead = Math.ceil(22 / cell.width), everyLayer = Math.ceil(13 / cell.height);
    for (let h = 0; h < data.heads; h += everyHead) pen.text(LEFT + (h + 0.5) * cell.width, TOP - 10, `${h}`, { fill: theme.soft, size: 11, align: "center" });
    for (let l = 0; l < data.layers; l++) {
      const y = TOP + l * cell.height;
      if (l % everyLayer === 0) pen.text(LEFT - 8, y + cell.height / 2, `${l}`, { fill: theme.soft, size: 11, align: "right" });
      for (let h = 0; h < data.heads; h++) {
        const value = data.values[l * data.heads + h], x = LEFT + h * cell.width;
        if (Number.isNaN(value)) {
          // A dot marks a head that was not recorded, unlike an empty cell, whose value is 0.
          pen.dot(x + cell.width / 2, y + cell.height / 2, 1, { fill: theme.quiet });
          continue;
        }
        const fill = theme.ramp[shade(value, data.most, data.sqrt)];
        pen.rect(x, y, cell.width - gap, cell.height - gap, { fill, radius: gap > 1 ? 3 : 0 });
        if (written) {
          pen.text(x + (cell.width - gap) / 2, y + (cell.height - gap) / 2 + 0.5, data.write(value), {
            fill: inkOn(fill, theme), size: 11, align: "center", within: cell.width - 4,
          });
        }
      }
    }
    for (const key of data.chosen) {
      const box = this.box({ layer: Math.floor(key / data.heads), head: key % data.heads });
      pen.rect(box.x, box.y, box.width - gap, box.height - gap, { stroke: theme.ink, width: 2, radius: gap > 1 ? 3 : 0 });
      // A second line inside keeps the outline visible on dark cells.
      pen.rect(box.x + 1.6, box.y + 1.6, box.width - gap - 3.2, box.height - gap - 3.2, { stroke: theme.card, width: 1.2, radius: gap > 1 ? 2 : 0 });
    }
  }

  protected paintOver(pen: Pen): void {
    const { data, hovered, theme } = this;
    if (!data || !hovered) return;
    const row = this.box({ layer: hovered.layer, head: 0 });
    if (hovered.head < 0) {
      pen.rect(2, row.y, LEFT - 6 + data.heads * row.width, row.height - 0.5, { stroke: theme.accent, width: 2, radius: 4 });
      return;
    }
    const box = this.box(hovered);
    pen.rect(box.x - 1.5, box.y - 1.5, box.width + 1.5, box.height + 1.5, { stroke: theme.accent, width: 2, radius: 4 });
    pen.text(box.x + box.width / 2, TOP - 10, `${hovered.head}`, { fill: theme.accent, size: 11, bold: true, align: "center" });
  }

  protected override key(event: KeyboardEvent): boolean {
    const { data } = this;
    if (!data) return false;
    const at = this.cursor ?? { layer: 0, head: -1 };
    const jump = Math.max(1, Math.floor(data.layers / 4));
    const to: Record<string, [number, number]> = {
      ArrowUp: [at.layer - 1, at.head], ArrowDown: [at.layer + 1, at.head], ArrowLeft: [at.layer, at.head - 1], ArrowRight: [at.layer, at.head + 1],
      Home: [event.ctrlKey ? 0 : at.layer, -1], End: [event.ctrlKey ? data.layers - 1 : at.layer, data.heads - 1],
      PageUp: [at.layer - jump, at.head], PageDown: [at.layer + jump, at.head],
    };
    const next = to[event.key];
    if (next) {
      const within = (value: number, low: number, high: number) => Math.min(Math.max(low, value), high);
      this.cursor = { layer: within(next[0], 0, data.layers - 1), head: within(next[1], -1, data.heads - 1) };
      this.hover(this.cursor);
    } else if (event.key === " ") this.onToggle?.(at);
    else if (event.key === "Enter") this.pick(at, event.shiftKey || event.ctrlKey || event.metaKey);
    else return false;
    return true;
  }
}
