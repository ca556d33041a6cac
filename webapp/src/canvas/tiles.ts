/** The attention matrix of one head, zoomable down to single tokens. Tiles are loaded when they become visible. */
import type { Pen } from "./pen";
import { Picture } from "./picture";
import type { PictureOptions } from "./picture";
import type { Theme } from "./theme";
import { niceAbove, paintAxes, paintTag } from "./tileaxes";
import { drawTile, strongest } from "./tilepixels";
import type { TileMode } from "./tilepixels";
import { tileKey, TileStore } from "./tilestore";
import type { CellHit, Tile, TilePlace, TileSource } from "./tilestore";
import { Zoomer } from "./zoom";

export type { TileMode } from "./tilepixels";

export interface TilesData {
  source: TileSource;
  mode: TileMode;
  /** The text of the token at a position. */
  label(position: number): string;
}

export type { CellHit } from "./tilestore";

export interface TilesOptions extends PictureOptions<CellHit> {
  onFail?(error: unknown): void;
  /** Called when the visible part changes or a tile arrives: the value of the strongest colour, the number of missing tiles, the row step. */
  onScale?(largest: number, missing: number, every: number): void;
}

const LEFT = 62, TOP = 52, MOST_WIDE = 640;

export class Tiles extends Picture<TilesData, CellHit> {
  private readonly zoomer: Zoomer;
  private store: TileStore | null = null;
  private readonly bitmaps = new Map<string, { canvas: HTMLCanvasElement; made: string }>();
  private side = 1;
  private largest = 1;
  private told = "";
  private cursor: { query: number; key: number } | null = null;

  constructor(canvas: HTMLCanvasElement, protected override readonly options: TilesOptions = {}) {
    super(canvas, options);
    this.zoomer = new Zoomer(canvas, () => {
      this.look();
      this.redraw();
    });
  }

  override destroy(): void {
    this.store?.destroy();
    this.zoomer.destroy();
    super.destroy();
  }

  zoomBy(factor: number): void {
    this.zoomer.by(factor);
  }

  showAll(): void {
    this.zoomer.all();
  }

  /** Requests the failed tiles again. */
  retry(): void {
    this.look();
  }

  hit(x: number, y: number): CellHit | null {
    const { data, side } = this;
    if (!data || x < LEFT || y < TOP || x >= LEFT + side || y >= TOP + side) return null;
    return this.cellAt(Math.floor(this.tokenAt(y, "y")), Math.floor(this.tokenAt(x, "x")));
  }

  /** The strongest cells of the tiles in view, strongest first. */
  top(count: number): CellHit[] {
    const { data, store } = this;
    if (!data || !store) return [];
    const seen = this.places().flatMap((place) => {
      const tile = store.get(place);
      return tile ? [{ place, tile }] : [];
    });
    return strongest(seen, data.mode, data.source.size, count).flatMap(({ query, key }) => this.cellAt(query, key) ?? []);
  }

  protected tall(width: number): number {
    this.side = Math.max(120, Math.min(width - LEFT - 1, MOST_WIDE));
    return TOP + this.side + 1;
  }

  protected arrange(): void {
    const { data, side } = this;
    if (!data) return;
    if (this.store?.source !== data.source) {
      this.store?.destroy();
      this.bitmaps.clear();
      this.store = new TileStore(data.source, () => this.arrived(), (error) => this.options.onFail?.(error));
      this.hover(null);
    }
    this.zoomer.fit({ largest: Math.max(1, (data.source.tokens * 22) / side), width: side, height: side, left: LEFT, top: TOP });
    this.look();
  }

  protected paint(pen: Pen): void {
    const { data, theme, side, store } = this;
    if (!data || !store) return;
    const { tokens, size } = data.source, level = this.level;
    pen.clip(LEFT, TOP, side, side);
    const edge = (position: number, axis: "x" | "y") => this.screen(Math.min(tokens, position), axis);
    pen.rect(LEFT, TOP, side, side, { fill: theme.ramp[0] });
    // Draw coarser tiles where finer ones are still loading.
    for (const { place, tile } of store.all()) {
      const span = size * 2 ** place.level;
      const x0 = this.screen(place.col * span, "x"), x1 = this.screen((place.col + 1) * span, "x");
      const y0 = this.screen(place.row * span, "y"), y1 = this.screen((place.row + 1) * span, "y");
      if (place.level < level || x1 < LEFT || y1 < TOP || x0 > LEFT + side || y0 > TOP + side) continue;
      const bitmap = this.bitmap(place, tile, theme, data.mode);
      if (bitmap) pen.image(bitmap, x0, y0, x1 - x0, y1 - y0);
    }
    // The diagonal: above it there is no attention, as tokens attend only to earlier ones.
    pen.line(edge(0, "x"), edge(0, "y"), edge(tokens, "x"), edge(tokens, "y"), { stroke: theme.soft, width: 1, alpha: 0.35 });
    pen.unclip();
    pen.rect(LEFT - 0.5, TOP - 0.5, side + 1, side + 1, { stroke: theme.line });
    paintAxes(pen, theme, {
      tokens, left: LEFT, top: TOP, side, cell: (side * this.zoomer.transform.k) / tokens, label: (position) => data.label(position),
      screen: (position, axis) => this.screen(position, axis), tokenAt: (pixel, axis) => this.tokenAt(pixel, axis),
    });
  }

  protected paintOver(pen: Pen): void {
    const { data, hovered, theme, side } = this;
    if (!data || !hovered) return;
    const x = this.screen(hovered.key, "x"), y = this.screen(hovered.query, "y"), wide = Math.max(3, this.screen(hovered.key + hovered.span, "x") - x);
    pen.clip(LEFT, TOP, side, side);
    pen.rect(x, TOP, wide, side, { fill: theme.accent, alpha: 0.12 });
    pen.rect(LEFT, y, side, wide, { fill: theme.accent, alpha: 0.12 });
    pen.rect(x - 0.5, y - 0.5, wide + 1, wide + 1, { stroke: theme.accent, width: 1.5 });
    pen.unclip();
    paintTag(pen, theme, this.width, x + wide / 2, TOP - 14, data.label(hovered.key), "center");
    paintTag(pen, theme, this.width, Math.max(LEFT - 4, 54), Math.min(Math.max(TOP, y + wide / 2), TOP + side), data.label(hovered.query), "right");
  }

  protected override key(event: KeyboardEvent): boolean {
    const { data } = this;
    if (!data) return false;
    if (event.key === "+" || event.key === "=") this.zoomBy(2);
    else if (event.key === "-") this.zoomBy(0.5);
    else if (event.key === "0") this.showAll();
    else {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!move) return false;
      const span = 2 ** this.level, most = data.source.tokens - 1;
      const at = this.cursor ?? { query: Math.floor(this.tokenAt(TOP + this.side / 2, "y")), key: Math.floor(this.tokenAt(LEFT + this.side / 4, "x")) };
      const within = (value: number) => Math.min(Math.max(0, value), most);
      this.cursor = { query: within(at.query + move[0] * span), key: within(at.key + move[1] * span) };
      this.follow(this.cursor);
      this.hover(this.cellAt(this.cursor.query, this.cursor.key));
    }
    return true;
  }

  private get level(): number {
    const { source } = this.data as TilesData;
    const tokensPerPixel = source.tokens / (this.side * this.zoomer.transform.k);
    return Math.min(source.levels - 1, Math.max(0, Math.ceil(Math.log2(tokensPerPixel))));
  }

  private screen(position: number, axis: "x" | "y"): number {
    const { transform } = this.zoomer, tokens = (this.data as TilesData).source.tokens;
    return axis === "x" ? transform.applyX(LEFT + (position / tokens) * this.side) : transform.applyY(TOP + (position / tokens) * this.side);
  }

  private tokenAt(pixel: number, axis: "x" | "y"): number {
    const { transform } = this.zoomer, tokens = (this.data as TilesData).source.tokens;
    const place = axis === "x" ? transform.invertX(pixel) - LEFT : transform.invertY(pixel) - TOP;
    return (place / this.side) * tokens;
  }

  /** Brings a cell into view. */
  private follow({ query, key }: { query: number; key: number }): void {
    const x = this.screen(key, "x"), y = this.screen(query, "y"), edge = 12;
    const outside = (at: number, from: number) => (at < from + edge ? from + edge - at : at > from + this.side - edge ? from + this.side - edge - at : 0);
    const dx = outside(x, LEFT), dy = outside(y, TOP);
    if ((dx || dy) && this.zoomer.transform.k > 1) this.zoomer.moveBy(dx, dy);
  }

  private cellAt(query: number, key: number): CellHit | null {
    const { source } = this.data as TilesData;
    if (query < 0 || key < 0 || query >= source.tokens || key >= source.tokens) return null;
    const level = this.level, span = 2 ** level, row = Math.floor(query / span), col = Math.floor(key / span);
    const tile = this.store?.get({ level, row: Math.floor(row / source.size), col: Math.floor(col / source.size) });
    const at = (row % source.size) * source.size + (col % source.size);
    const value = (steps: Uint8Array, scale: number) => scale * (steps[at] / 255) ** 2;
    return {
      query: row * span, key: col * span, span, every: tile?.every ?? 1,
      max: tile ? value(tile.max, tile.scale[0]) : null, mean: tile ? value(tile.mean, tile.scale[1]) : null,
    };
  }

  /** The visible tiles at or below the diagonal (attention is causal), from the middle outwards. */
  private places(): TilePlace[] {
    const { source } = this.data as TilesData, level = this.level, span = source.size * 2 ** level, last = Math.ceil(source.tokens / span) - 1;
    const index = (pixel: number, axis: "x" | "y") => Math.min(last, Math.max(0, Math.floor(this.tokenAt(pixel, axis) / span)));
    const [r0, r1] = [index(TOP, "y"), index(TOP + this.side - 1, "y")], [c0, c1] = [index(LEFT, "x"), index(LEFT + this.side - 1, "x")];
    const found: TilePlace[] = [];
    for (let row = r0; row <= r1; row++) for (let col = c0; col <= Math.min(c1, row); col++) found.push({ level, row, col });
    const away = (place: TilePlace) => Math.hypot(place.row - (r0 + r1) / 2, place.col - (c0 + c1) / 2);
    return found.sort((a, b) => away(a) - away(b));
  }

  private look(): void {
    if (!this.data || !this.store) return;
    this.store.want(this.places());
    this.rescale();
  }

  private arrived(): void {
    this.rescale();
    this.redraw();
  }

  private rescale(): void {
    const { data, store } = this;
    if (!data || !store) return;
    let most = 0, missing = 0, every = 1;
    for (const place of this.places()) {
      const tile = store.get(place);
      if (!tile) missing++;
      else {
        most = Math.max(most, tile.scale[data.mode === "max" ? 0 : 1]);
        every = Math.max(every, tile.every);
      }
    }
    if (most > 0) this.largest = Math.min(niceAbove(most), 1);
    const told = [this.largest, missing, every].join();
    if (told === this.told) return;
    this.told = told;
    this.options.onScale?.(this.largest, missing, every);
  }

  private bitmap(place: TilePlace, tile: Tile, theme: Theme, mode: TileMode): HTMLCanvasElement | null {
    const key = tileKey(place), made = `${mode} ${this.largest} ${theme.ramp32[0]}`;
    const known = this.bitmaps.get(key);
    if (known?.made === made) return known.canvas;
    if (this.bitmaps.size > 128) this.bitmaps.clear();
    const canvas = drawTile(tile, mode, this.largest, theme, (this.data as TilesData).source.size, known?.canvas);
    if (canvas) this.bitmaps.set(key, { canvas, made });
    return canvas;
  }
}
