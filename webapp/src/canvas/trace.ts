/** The strongest routes. Rows are layers from the answer to the prompt, columns are positions in the order of the text. */
import type { View } from "../model/types";
import { oneLine, textOf } from "./layout";
import type { Pen } from "./pen";
import { Picture } from "./picture";
import { distance } from "./plan";
import type { Network, TraceEdge, TraceNode } from "./routes";
import { fade } from "./theme";

export interface TraceData {
  view: View;
  network: Network;
  /** Node ids of the highlighted route; empty for none. */
  route: readonly number[];
}

export type TraceHit = { kind: "node"; id: number } | { kind: "edge"; from: number; to: number };

const LEFT = 58, TOP = 40, FOOT = 76, THICKEST = 9, RADIUS = 9;

/** The text of a node: at the top level the answer token that it predicts, below the token that its position reads. */
export function nodeText(view: View, network: Network, id: number): string {
  const node = network.node.get(id);
  if (!node) return "?";
  return node.row !== null && network.levelOf.get(id) === 0 ? oneLine(view.answer[node.row] ?? "") : readText(view, node);
}

/** The text of the token that a position reads. */
export function readText(view: View, node: TraceNode): string {
  if (node.unit !== null) return textOf(view, { start: node.unit, stop: node.unit + 1 });
  // A position after the prompt predicts a row and reads the token of the previous row.
  return node.row === null ? `position ${node.position}` : oneLine(view.answer[node.row - 1] ?? "");
}

export class Trace extends Picture<TraceData, TraceHit> {
  private columns: number[] = [];
  private placeOf = new Map<number, number>();
  private order: TraceEdge[] = [];
  private largest = 1;
  private cursor = -1;

  hit(x: number, y: number): TraceHit | null {
    const { data } = this;
    if (!data) return null;
    let best: TraceHit | null = null, near = 9;
    for (const node of data.network.node.values()) {
      const away = Math.hypot(this.x(node.id) - x, this.y(node.id) - y);
      if (away < near) [best, near] = [{ kind: "node", id: node.id }, away];
    }
    if (best) return best;
    near = 6;
    let toCurve: ReturnType<typeof distance> | null = null;
    for (const edge of this.order) {
      const y0 = this.y(edge.from), y1 = this.y(edge.to);
      if (y < y0 || y > y1) continue;
      toCurve ??= distance((y - y0) / (y1 - y0), y1 - y0); // all edges at this height are between the same two levels
      const away = toCurve(this.x(edge.from), this.x(edge.to), x);
      if (away <= near) [best, near] = [{ kind: "edge", from: edge.from, to: edge.to }, away];
    }
    return best;
  }

  protected tall(width: number): number {
    const levels = this.data?.network.trace.levels.length ?? 8;
    const step = Math.min(56, Math.max(24, (width < 560 ? 620 : 760) / Math.max(1, levels)));
    return TOP + FOOT + step * Math.max(1, levels - 1);
  }

  protected arrange(): void {
    const { data } = this;
    if (!data) return;
    const positions = new Set<number>();
    for (const node of data.network.node.values()) positions.add(node.position);
    this.columns = [...positions].sort((a, b) => a - b);
    this.placeOf = new Map(this.columns.map((position, i) => [position, i]));
    this.order = [...data.network.trace.edges].sort((a, b) => a.mass - b.mass);
    this.largest = 0;
    for (const node of data.network.node.values()) this.largest = Math.max(this.largest, node.mass);
    this.largest ||= 1;
  }

  protected paint(pen: Pen): void {
    const { data, theme } = this;
    if (!data) return;
    const { levels } = data.network.trace, border = this.border(data);
    if (border !== null) {
      // Shade the columns of the answer.
      pen.rect(border, TOP - 14, this.width - border, this.height - TOP - FOOT + 28, { fill: theme.paper, radius: 8 });
      pen.text(border + 8, this.height - FOOT + 6, "answer", { fill: theme.soft, size: 11 });
    }
    levels.forEach((level, i) => {
      const y = this.levelY(i);
      pen.line(LEFT - 6, y, this.width, y, { stroke: theme.line, width: 0.75, alpha: 0.8 });
      const end = i === 0 ? (level.nodes.some((node) => node.row === null) ? "start" : "answer") : i === levels.length - 1 ? "prompt" : "";
      pen.text(LEFT - 12, y, end, { fill: theme.soft, size: 10.5, align: "right" });
      // A layer is between two levels of the residual stream.
      if (i < levels.length - 1) pen.text(LEFT - 12, (y + this.levelY(i + 1)) / 2, `${level.layer - 1}`, { fill: theme.soft, size: 11, align: "right" });
    });
    for (const edge of this.order) this.edge(pen, edge, data.route.length ? (this.isOn(edge, data.route) ? 1.5 : 0.25) : 1);
    for (const node of data.network.node.values()) this.dot(pen, node, data.route.length > 0 && !data.route.includes(node.id));
    this.labels(pen, data);
  }

  protected paintOver(pen: Pen): void {
    const { data, hovered, theme } = this;
    if (!data || !hovered) return;
    const nodes = hovered.kind === "node" ? ([hovered.id] as [number]) : ([hovered.from, hovered.to] as [number, number]);
    const best = data.network.through(nodes, 1)[0]?.nodes ?? nodes;
    pen.rect(LEFT, TOP - 14, this.width - LEFT, this.height - FOOT - TOP + 28, { fill: fade(theme.card, 0.72) });
    for (const edge of this.order) {
      const near = hovered.kind === "node" && (edge.from === hovered.id || edge.to === hovered.id);
      if (near || this.isOn(edge, best)) this.edge(pen, edge, 1.4);
    }
    for (const id of best) this.dot(pen, data.network.node.get(id) as TraceNode, false);
    for (const id of nodes) {
      const node = data.network.node.get(id) as TraceNode;
      pen.dot(this.x(id), this.y(id), this.radius(node) + 2.5, { stroke: theme.accent, width: 2 });
    }
    const node = data.network.node.get(nodes[nodes.length - 1]) as TraceNode, text = nodeText(data.view, data.network, node.id);
    const right = this.x(node.id) < this.width / 2, x = this.x(node.id) + (right ? 14 : -14);
    const wide = Math.min(240, 8 * text.length + 16);
    pen.rect(right ? x - 5 : x - wide + 5, this.y(node.id) - 24, wide, 20, { fill: theme.card, stroke: theme.line, radius: 5 });
    pen.text(x, this.y(node.id) - 14, text, { fill: theme.ink, size: 13, serif: true, align: right ? "left" : "right", within: wide - 10 });
  }

  protected override key(event: KeyboardEvent): boolean {
    const { data } = this;
    if (!data) return false;
    const ids = data.network.trace.levels.flatMap((level) => level.nodes.map((node) => node.id));
    if (!ids.length) return false;
    const level = data.network.levelOf.get(ids[Math.max(0, this.cursor)]) ?? 0;
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (move !== undefined) this.cursor = Math.min(Math.max(0, this.cursor + move), ids.length - 1);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const to = data.network.trace.levels[level + (event.key === "ArrowDown" ? 1 : -1)];
      const here = this.x(ids[Math.max(0, this.cursor)]);
      const best = to && [...to.nodes].sort((a, b) => Math.abs(this.x(a.id) - here) - Math.abs(this.x(b.id) - here))[0];
      if (best) this.cursor = ids.indexOf(best.id);
    } else if ((event.key === "Enter" || event.key === " ") && this.hovered) {
      this.pick(this.hovered, false);
      return true;
    } else return false;
    this.cursor = Math.max(0, this.cursor);
    this.hover({ kind: "node", id: ids[this.cursor] });
    return true;
  }

  /** The x between the columns of the prompt and those of the answer; null if one of the two is missing. */
  private border(data: TraceData): number | null {
    let prompt = -1, answer = -1;
    for (const node of data.network.node.values()) {
      const x = this.x(node.id);
      if (!this.isAnswer(node)) prompt = Math.max(prompt, x);
      else answer = answer < 0 ? x : Math.min(answer, x);
    }
    return prompt >= 0 && answer > prompt ? (prompt + answer) / 2 : null;
  }

  /** The prompt's last position predicts the answer's first token. It counts as answer at the top level, as prompt below. */
  private isAnswer(node: TraceNode): boolean {
    return node.unit === null || (node.row !== null && this.data?.network.levelOf.get(node.id) === 0);
  }

  private levelY(level: number): number {
    const levels = Math.max(2, this.data?.network.trace.levels.length ?? 2);
    return TOP + (level / (levels - 1)) * (this.height - TOP - FOOT);
  }

  private x(id: number): number {
    const node = this.data?.network.node.get(id), count = Math.max(1, this.columns.length);
    const place = node ? (this.placeOf.get(node.position) ?? 0) : 0;
    return LEFT + 14 + ((place + 0.5) / count) * (this.width - LEFT - 28);
  }

  private y(id: number): number {
    return this.levelY(this.data?.network.levelOf.get(id) ?? 0);
  }

  private radius(node: TraceNode): number {
    return 2 + (RADIUS - 2) * Math.sqrt(node.mass / this.largest);
  }

  private isOn(edge: TraceEdge, route: readonly number[]): boolean {
    const i = route.indexOf(edge.from);
    return i >= 0 && route[i + 1] === edge.to;
  }

  private edge(pen: Pen, edge: TraceEdge, strength: number): void {
    const part = edge.mass / this.largest, stays = edge.head === null;
    pen.curve(this.x(edge.from), this.y(edge.from), this.x(edge.to), this.y(edge.to), {
      stroke: stays ? this.theme.quiet : this.theme.bar,
      width: Math.max(0.7, THICKEST * part ** 0.8),
      alpha: Math.min(1, (stays ? 0.3 + 0.25 * Math.sqrt(part) : 0.34 + 0.6 * Math.sqrt(part)) * strength),
    });
  }

  private dot(pen: Pen, node: TraceNode, quiet: boolean): void {
    const { theme } = this;
    pen.dot(this.x(node.id), this.y(node.id), this.radius(node), { fill: this.isAnswer(node) ? theme.answer : theme.bar, stroke: theme.card, width: 1.5, alpha: quiet ? 0.3 : 1 });
  }

  /** Labels the columns, the answer above and the prompt below. The heaviest come first, as many as fit. */
  private labels(pen: Pen, data: TraceData): void {
    const { theme } = this, { levels } = data.network.trace, gap = (this.width - LEFT - 28) / Math.max(1, this.columns.length);
    const upright = gap < 46;
    for (const [level, y, up] of [[levels[0], TOP - 20, false], [levels[levels.length - 1], this.height - FOOT + 18, true]] as const) {
      const taken: number[] = [];
      for (const node of [...(level?.nodes ?? [])].sort((a, b) => b.mass - a.mass)) {
        const x = this.x(node.id), turned = up && upright, needs = turned ? 13 : Math.min(70, 8 * nodeText(data.view, data.network, node.id).length + 8);
        if (taken.some((other) => Math.abs(other - x) < needs)) continue;
        taken.push(x);
        pen.text(x, y, nodeText(data.view, data.network, node.id), {
          fill: theme.ink, size: 13, serif: true, align: turned ? "right" : "center", within: turned ? FOOT - 20 : needs + 20, upright: turned,
        });
      }
    }
  }
}
