/** The whole model as one picture: the prompt above, the answer below, the flow as curves between. */
import type { By, Span, View } from "../model/types";
import { nameOf, oneLine, piecesBetween } from "./layout";
import type { Pieces } from "./layout";
import { measure } from "./pen";
import type { Gradient, Pen } from "./pen";
import { Picture } from "./picture";
import type { PictureOptions } from "./picture";
import { CURVES, DOCUMENTS, PIECE_TALL, PIECES, Plan, ROW_TALL, THICKEST } from "./plan";
import type { CurvesData, CurvesHit } from "./plan";
import { fade, inkOn } from "./theme";
import { Zoomer } from "./zoom";

export type { CurvesData, CurvesHit } from "./plan";

export interface CurvesOptions extends PictureOptions<CurvesHit> {
  /** Called when the visible units or their granularity change, at every step of a movement. */
  onWindow?(units: Span, by: By, zoomed: boolean): void;
}

const MAP = 5;

export class Curves extends Picture<CurvesData, CurvesHit> {
  private readonly zoomer: Zoomer;
  private readonly onWindow: CurvesOptions["onWindow"];
  private plan: Plan | null = null;
  private cursor: { place: "piece" | "row"; index: number } = { place: "row", index: -1 };

  constructor(canvas: HTMLCanvasElement, options: CurvesOptions = {}) {
    super(canvas, options);
    this.onWindow = options.onWindow;
    this.zoomer = new Zoomer(canvas, () => {
      this.redraw();
      this.tell();
    });
  }

  override destroy(): void {
    this.zoomer.destroy();
    super.destroy();
  }

  /** The view that is drawn now. A newly chosen method arrives with the next data. */
  get view(): View | null {
    return this.plan?.data.view ?? null;
  }

  zoomBy(factor: number): void {
    this.zoomer.by(factor);
  }

  showAll(): void {
    this.zoomer.all();
  }

  /** Zooms to these units, with a margin. */
  show(units: Span): void {
    if (!this.plan) return;
    const from = this.plan.at[units.start], to = this.plan.at[units.stop], around = 0.04 * (to - from);
    this.zoomer.window(Math.max(0, from - around), Math.min(1, to + around));
  }

  hit(x: number, y: number): CurvesHit | null {
    return this.plan?.hit(x, y, this.zoomer.transform) ?? null;
  }

  protected tall(width: number): number {
    return width < 560 ? 380 : 460;
  }

  protected arrange(): void {
    const { data } = this;
    if (!data) return;
    if (this.plan?.data !== data) this.plan = new Plan(data, this.plan);
    const font = `400 15px ${this.theme.serif}`;
    this.plan.fit(this.width, this.height, (text) => measure(text, font));
    this.zoomer.fit({ largest: Math.max(1, data.view.ends.length / 6), width: this.width, height: this.height });
    this.tell();
  }

  protected paint(pen: Pen): void {
    const { plan, theme } = this;
    if (!plan) return;
    pen.clip(0, 0, this.width, this.height);
    const gradient = this.gradient(theme.bar, theme.answer), { edges, by, picked } = plan.data;
    const isPicked = (e: number) => plan.isPicked(plan.unitsOf(by, edges?.pieces[e] ?? -1));
    // Fade the other curves only if a picked piece is in view.
    const back = picked.length > 0 && plan.order.some(isPicked) ? 0.15 : 1;
    for (const e of plan.order) this.curve(pen, plan, e, gradient, isPicked(e) ? 1 : back);
    this.paintPieces(pen, plan);
    this.paintRows(pen, plan);
    this.paintMap(pen, plan);
    pen.unclip();
  }

  protected paintOver(pen: Pen): void {
    const { plan, hovered, theme } = this;
    if (!plan || !hovered) return;
    const edges = plan.data.edges, mine = plan.order.filter(plan.touches(hovered));
    if (edges && mine.length) {
      // A translucent cover fades all other curves without redrawing them.
      pen.rect(0, CURVES + 1, this.width, plan.rowTop - CURVES - 2, { fill: fade(theme.card, 0.78) });
      const gradient = this.gradient(theme.bar, theme.accent);
      for (const e of mine) {
        this.curve(pen, plan, e, gradient, 1.4);
        const row = edges.rows[e];
        pen.rect(plan.rows.x[row], plan.rowTop + ROW_TALL - 2.5, Math.max(2, plan.rows.width[row]), 2.5, { fill: theme.accent });
      }
    }
    const outline = { stroke: theme.accent, width: 1.5, radius: 5 };
    if (hovered.kind === "row") {
      pen.rect(plan.rows.x[hovered.row] + 0.5, plan.rowTop + 0.5, Math.max(2, plan.rows.width[hovered.row] - 1), ROW_TALL - 1, outline);
    } else if (hovered.kind === "piece") {
      const [x, width] = plan.extent(hovered.units, this.zoomer.transform);
      pen.rect(x + 0.5, PIECES + 0.5, Math.max(2, width - 1), PIECE_TALL - 1, outline);
    }
  }

  protected override key(event: KeyboardEvent): boolean {
    if (event.key === "ArrowRight") this.moveCursor(1);
    else if (event.key === "ArrowLeft") this.moveCursor(-1);
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      this.cursor = { place: event.key === "ArrowUp" ? "piece" : "row", index: -1 };
      this.moveCursor(1);
    } else if (event.key === "+" || event.key === "=") this.zoomBy(2);
    else if (event.key === "-") this.zoomBy(0.5);
    else if (event.key === "0") this.showAll();
    else if (event.key === "Enter" && event.ctrlKey && this.hovered) this.options.onOpen?.(this.hovered);
    else if ((event.key === "Enter" || event.key === " ") && this.hovered) this.pick(this.hovered, event.shiftKey);
    else return false;
    return true;
  }

  private gradient(top: string, bottom: string): Gradient {
    return { y0: CURVES, y1: this.plan?.rowTop ?? this.height, top, bottom };
  }

  private curve(pen: Pen, plan: Plan, edge: number, paint: Gradient, strength: number): void {
    const ends = plan.ends(edge, this.zoomer.transform);
    if (!ends) return;
    const part = plan.part(edge), quiet = plan.isAside(edge);
    // Grey curves of hundreds of rows would hide the others.
    const faint = 0.3 * Math.min(1, 24 / plan.asides);
    pen.curve(ends[0], CURVES, ends[1], plan.rowTop, {
      stroke: quiet ? this.theme.quiet : paint,
      width: Math.max(0.6, (quiet ? 0.6 : 1) * THICKEST * part * (strength > 1 ? 1 : plan.crowd)),
      alpha: Math.min(1, (quiet ? faint : (0.1 + 0.68 * Math.sqrt(part)) * (0.4 + 0.6 * plan.crowd)) * strength),
    });
  }

  private tell(): void {
    if (!this.plan) return;
    const { units, by, zoomed } = this.plan.window(this.zoomer.transform);
    this.onWindow?.(units, by, zoomed);
  }

  private moveCursor(step: number): void {
    const { plan, cursor } = this;
    if (!plan) return;
    if (cursor.place === "row") {
      cursor.index = Math.min(Math.max(0, cursor.index + step), plan.data.view.answer.length - 1);
      this.hover({ kind: "row", row: cursor.index });
      return;
    }
    const { units, by } = plan.window(this.zoomer.transform), pieces = plan.grain(by) as Pieces, seen = piecesBetween(pieces, units);
    const from = cursor.index < seen.start || cursor.index >= seen.stop ? seen.start - step : cursor.index;
    cursor.index = Math.min(Math.max(seen.start, from + step), seen.stop - 1);
    this.hover(plan.piece(pieces, cursor.index));
  }

  private paintPieces(pen: Pen, plan: Plan): void {
    const { theme } = this, { data } = plan, lens = this.zoomer.transform, { units, by } = plan.window(lens);
    const pieces = plan.grain(by) as Pieces, seen = piecesBetween(pieces, units);
    if (by !== "document") this.paintDocuments(pen, plan, units);
    const aside = (p: number) => pieces.group[p] < 0 || (by === "token" && p === 0 && data.view.sink);
    let most = 0, painted = -1;
    for (let p = seen.start; p < seen.stop; p++) if (!aside(p)) most = Math.max(most, plan.heat(pieces, p));
    for (let p = seen.start; p < seen.stop; p++) {
      const span = { start: pieces.start[p], stop: pieces.stop[p] }, [x, width] = plan.extent(span, lens);
      // Of pieces narrower than a pixel, draw one for each pixel.
      if (width < 1 && Math.floor(x) === painted) continue;
      painted = Math.floor(x);
      const shown = Math.max(1, width > 6 ? width - 1.5 : width), wide = width > 14;
      const fill = aside(p) ? theme.line : theme.ramp[Math.round(205 * Math.sqrt(most > 0 ? Math.min(1, plan.heat(pieces, p) / most) : 0))];
      pen.rect(x, PIECES, shown, PIECE_TALL, { fill, radius: wide ? 4 : 0, ...(wide ? { stroke: theme.line, width: 1 } : {}) });
      if (plan.isPicked(span)) pen.rect(x, PIECES - 4, shown, 3, { fill: theme.accent });
      const from = Math.max(4, x + 5), to = Math.min(this.width - 4, x + width - 6);
      if (to - from < 12) continue;
      const middle = by === "token";
      pen.text(middle ? (from + to) / 2 : from, PIECES + PIECE_TALL / 2 + 0.5, nameOf(data.view, pieces, p), {
        fill: aside(p) ? theme.soft : inkOn(fill, theme), size: by === "document" ? 12 : 13, serif: by !== "document",
        align: middle ? "center" : "left", within: to - from,
      });
    }
  }

  /** Labels the documents above their sentences or tokens. */
  private paintDocuments(pen: Pen, plan: Plan, units: Span): void {
    const { theme } = this, pieces = plan.grain("document");
    if (!pieces) return;
    const seen = piecesBetween(pieces, units);
    if (seen.stop - seen.start > this.width / 8) return;
    for (let p = seen.start; p < seen.stop; p++) {
      if (pieces.group[p] < 0) continue;
      const [x, width] = plan.extent({ start: pieces.start[p], stop: pieces.stop[p] }, this.zoomer.transform);
      const from = Math.max(0, x + 1), to = Math.min(this.width, x + width - 2);
      if (to - from < 2) continue;
      pen.line(from, DOCUMENTS + 7, to, DOCUMENTS + 7, { stroke: theme.quiet, width: 1 });
      if (to - from > 30) pen.text(from, DOCUMENTS - 4, nameOf(plan.data.view, pieces, p), { fill: theme.soft, size: 11.5, within: to - from });
    }
  }

  private paintRows(pen: Pen, plan: Plan): void {
    const { theme } = this, { rows, rowTop } = plan, { view, rows: chosen } = plan.data;
    for (let r = 0; r < rows.x.length; r++) {
      const x = rows.x[r], width = rows.width[r], on = !chosen || (r >= chosen.start && r < chosen.stop);
      if (width >= 8) pen.rect(x + 0.5, rowTop, width - 1.5, ROW_TALL, { fill: on ? theme.paper : theme.card, stroke: theme.line, radius: 5, alpha: on ? 1 : 0.7 });
      else pen.rect(x, rowTop, Math.max(0.75, width - 0.5), ROW_TALL, { fill: on ? theme.answer : theme.line, alpha: on ? 0.55 : 1 });
      if (chosen && on) pen.rect(x + 0.5, rowTop + ROW_TALL + 3, Math.max(1, width - 1.5), 3, { fill: theme.accent });
      if (width < 15) continue;
      const text = oneLine(view.answer[r]);
      pen.text(x + width / 2, rowTop + ROW_TALL / 2 + 0.5, text, { fill: on ? theme.ink : theme.soft, size: 15, serif: true, align: "center", within: width - 6 });
    }
  }

  /** A thin bar at the top that shows the visible part of the prompt. */
  private paintMap(pen: Pen, plan: Plan): void {
    const { theme } = this, lens = this.zoomer.transform;
    if (lens.k <= 1.001) return;
    const from = plan.left(lens) * this.width, wide = Math.max(8, (plan.right(lens) - plan.left(lens)) * this.width);
    pen.rect(0, 1, this.width, MAP, { fill: theme.line, radius: MAP / 2 });
    pen.rect(Math.min(from, this.width - wide), 1, wide, MAP, { fill: theme.accent, radius: MAP / 2 });
  }
}
