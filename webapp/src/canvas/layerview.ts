/** One layer or a few heads: prompt tokens above, answer tokens below, the attention of each head as curves. */
import { oneLine, shareLine, textOf } from "./layout";
import type { Span, View } from "../model/types";
import { measure } from "./pen";
import type { Pen } from "./pen";
import { Picture } from "./picture";
import type { PictureOptions } from "./picture";
import { distance } from "./plan";
import { DASHES, fade } from "./theme";

export interface LayerEdge {
  /** Row of the answer. */
  row: number;
  unit: number;
  /** Index into the shown heads. */
  head: number;
  mass: number;
}

export interface LayerData {
  view: View;
  edges: readonly LayerEdge[];
  /** The requested rows of the answer. */
  rows: Span;
  /** The colour of each shown head; -1 for heads that share the grey colour. */
  colours: readonly number[];
  /** Index of the only head to show; null for all. */
  only: number | null;
  picked: readonly Span[];
  /** The mass of the thickest curve; null for the largest drawn mass. */
  full: number | null;
}

export interface LayerOptions extends PictureOptions<LayerHit> {
  /** Called after each layout with the edges that are drawn. The others lead to tokens for which there is no room. */
  onDrawn?(edges: readonly LayerEdge[]): void;
}

export type LayerHit = { kind: "unit"; unit: number } | { kind: "row"; row: number } | { kind: "edge"; edge: LayerEdge };

const KEYS = 24, TALL = 26, THICKEST = 6.5, FOOT = 8;

export class LayerView extends Picture<LayerData, LayerHit> {
  /** The units that are shown, in the order of the text. */
  private units: number[] = [];
  /** The rows that are shown. */
  private shown: number[] = [];
  private keys = { x: new Float64Array(0) as Float64Array, width: new Float64Array(0) as Float64Array };
  private rows = { x: new Float64Array(0) as Float64Array, width: new Float64Array(0) as Float64Array };
  private placeOf = new Map<number, number>();
  private rowAt = new Map<number, number>();
  private order: LayerEdge[] = [];
  private largest = 0;
  private cursor = { above: false, index: -1 };
  private readonly onDrawn: LayerOptions["onDrawn"];

  constructor(canvas: HTMLCanvasElement, options: LayerOptions = {}) {
    super(canvas, options);
    this.onDrawn = options.onDrawn;
  }

  hit(x: number, y: number): LayerHit | null {
    const { data } = this;
    if (!data) return null;
    if (y < KEYS + TALL + 2) {
      const i = this.within(this.keys, x);
      return y >= KEYS - 4 && i >= 0 ? { kind: "unit", unit: this.units[i] } : null;
    }
    if (y >= this.rowTop - 2) {
      const i = this.within(this.rows, x);
      return i < 0 ? null : { kind: "row", row: this.shown[i] };
    }
    const between = this.rowTop - KEYS - TALL, toCurve = distance((y - KEYS - TALL) / between, between);
    let best: LayerEdge | null = null, near = 6;
    for (const edge of this.order) {
      const [from, to] = this.ends(edge);
      const away = Math.max(0, toCurve(from, to, x) - (THICKEST / 2) * Math.min(1, edge.mass / this.largest));
      if (away <= near && this.isOn(edge)) [best, near] = [edge, away];
    }
    return best && { kind: "edge", edge: best };
  }

  protected tall(width: number): number {
    return width < 560 ? 360 : 420;
  }

  protected arrange(): void {
    const { data, theme } = this;
    if (!data) return;
    const { view } = data, font = `400 14px ${theme.serif}`;
    const wide = (text: string) => Math.min(140, Math.max(20, measure(text, font) + 12));
    const unitText = (unit: number) => textOf(view, { start: unit, stop: unit + 1 }), rowText = (row: number) => oneLine(view.answer[row]);
    this.units = this.choose(data.edges.map((edge) => [edge.unit, edge.mass] as const), (unit) => wide(unitText(unit)) + 10);
    this.placeOf = new Map(this.units.map((unit, i) => [unit, i]));
    this.keys = shareLine(this.units.map((unit, i) => wide(unitText(unit)) + (this.isApart(i) ? 10 : 0)), () => true, this.width);
    const all = Array.from({ length: data.rows.stop - data.rows.start }, (_, i) => [data.rows.start + i, 0] as const);
    this.shown = this.choose([...data.edges.map((edge) => [edge.row, edge.mass] as const), ...all], (row) => wide(rowText(row)));
    this.rowAt = new Map(this.shown.map((row, i) => [row, i]));
    this.rows = shareLine(this.shown.map((row) => wide(rowText(row))), () => true, this.width);
    this.order = data.edges.filter((edge) => this.placeOf.has(edge.unit) && this.rowAt.has(edge.row)).sort((a, b) => a.mass - b.mass);
    this.largest = data.full ?? (this.order[this.order.length - 1]?.mass || 1);
    this.onDrawn?.(this.order);
  }

  protected paint(pen: Pen): void {
    const { data, theme } = this;
    if (!data) return;
    const rest = data.picked.length > 0;
    for (const edge of this.order) {
      const on = this.isOn(edge) && (!rest || data.picked.some((s) => edge.unit >= s.start && edge.unit < s.stop));
      this.curve(pen, edge, on ? 1 : 0.08);
    }
    this.units.forEach((unit, i) => {
      const gap = this.isApart(i) ? 10 : 0;
      const x = this.keys.x[i] + gap, width = this.keys.width[i] - gap - 2;
      if (gap) pen.text(x - 6, KEYS + TALL / 2, "⋯", { fill: theme.soft, size: 11, align: "center" });
      const isPicked = data.picked.some((s) => unit >= s.start && unit < s.stop);
      this.box(pen, x, KEYS, width, textOf(data.view, { start: unit, stop: unit + 1 }), isPicked);
    });
    pen.text(0, 9, "Prompt", { fill: theme.soft, size: 11.5 });
    if (this.rows.x[0] > 60) pen.text(0, this.rowTop + TALL / 2, "Answer", { fill: theme.soft, size: 11.5 });
    for (let i = 0; i < this.rows.x.length; i++) {
      this.box(pen, this.rows.x[i], this.rowTop, this.rows.width[i] - 2, oneLine(data.view.answer[this.shown[i]]), false);
    }
  }

  protected paintOver(pen: Pen): void {
    const { data, hovered, theme } = this;
    if (!data || !hovered) return;
    const top = KEYS + TALL + 1;
    pen.rect(0, top, this.width, this.rowTop - top - 1, { fill: fade(theme.card, 0.8) });
    const mine = this.order.filter((edge) => this.isOn(edge) && (
      hovered.kind === "edge" ? edge === hovered.edge : hovered.kind === "row" ? edge.row === hovered.row : edge.unit === hovered.unit));
    for (const edge of mine) this.curve(pen, edge, 1.6);
    const outline = { stroke: theme.accent, width: 1.5, radius: 5 };
    if (hovered.kind === "row") {
      const i = this.rowAt.get(hovered.row) ?? -1;
      if (i >= 0) pen.rect(this.rows.x[i], this.rowTop, this.rows.width[i] - 2, TALL, outline);
    } else {
      const i = this.placeOf.get(hovered.kind === "edge" ? hovered.edge.unit : hovered.unit) ?? -1;
      if (i >= 0) pen.rect(this.keys.x[i], KEYS, this.keys.width[i] - 2, TALL, outline);
    }
  }

  protected override key(event: KeyboardEvent): boolean {
    const { data, cursor } = this;
    if (!data) return false;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") this.cursor = { above: event.key === "ArrowUp", index: 0 };
    else if (event.key === "ArrowRight") cursor.index++;
    else if (event.key === "ArrowLeft") cursor.index--;
    else if ((event.key === "Enter" || event.key === " ") && this.hovered) {
      this.pick(this.hovered, event.shiftKey);
      return true;
    } else return false;
    const now = this.cursor, count = now.above ? this.units.length : this.rows.x.length;
    now.index = Math.min(Math.max(0, now.index), count - 1);
    if (count) this.hover(now.above ? { kind: "unit", unit: this.units[now.index] } : { kind: "row", row: this.shown[now.index] });
    return true;
  }

  private get rowTop(): number {
    return this.height - FOOT - TALL;
  }

  /** The ids with the most mass that fit side by side, in the order of the text. */
  private choose(masses: readonly (readonly [number, number])[], wide: (id: number) => number): number[] {
    const sums = new Map<number, number>(), chosen: number[] = [];
    for (const [id, mass] of masses) sums.set(id, (sums.get(id) ?? 0) + mass);
    let room = this.width;
    for (const [id] of [...sums].sort((a, b) => b[1] - a[1])) {
      const needs = wide(id);
      if (needs > room && chosen.length) break;
      room -= needs;
      chosen.push(id);
    }
    return chosen.sort((a, b) => a - b);
  }

  /** True if tokens are left out between this token and the one to its left. */
  private isApart(i: number): boolean {
    return i > 0 && this.units[i] !== this.units[i - 1] + 1;
  }

  private isOn(edge: LayerEdge): boolean {
    return this.data?.only === null || this.data?.only === edge.head;
  }

  private within(line: { x: Float64Array; width: Float64Array }, x: number): number {
    return line.x.findIndex((from, i) => x >= from && x < from + line.width[i]);
  }

  private ends(edge: LayerEdge): [number, number] {
    const i = this.placeOf.get(edge.unit) ?? 0, j = this.rowAt.get(edge.row) ?? 0;
    const fan = ((edge.head % 8) - 3.5) * 1.2; // curves of several heads between the same two tokens are side by side
    return [this.keys.x[i] + this.keys.width[i] / 2 + fan, this.rows.x[j] + this.rows.width[j] / 2 + fan];
  }

  private curve(pen: Pen, edge: LayerEdge, strength: number): void {
    const [from, to] = this.ends(edge), part = Math.min(1, edge.mass / this.largest), colour = this.data?.colours[edge.head] ?? -1;
    pen.curve(from, KEYS + TALL, to, this.rowTop, {
      stroke: colour < 0 ? this.theme.quiet : this.theme.heads[colour],
      width: Math.max(0.7, THICKEST * part),
      alpha: Math.min(1, (0.1 + 0.75 * Math.sqrt(part)) * strength),
      dash: colour < 0 ? [] : (DASHES[colour] as readonly number[]),
    });
  }

  private box(pen: Pen, x: number, y: number, width: number, text: string, isPicked: boolean): void {
    const { theme } = this;
    pen.rect(x, y, Math.max(1, width), TALL, { fill: theme.paper, stroke: isPicked ? theme.accent : theme.line, width: isPicked ? 2 : 1, radius: 5 });
    if (width > 10) pen.text(x + width / 2, y + TALL / 2 + 0.5, text, { fill: theme.ink, size: 14, serif: true, align: "center", within: width - 5 });
  }
}
