/** The axes of a matrix: token numbers when zoomed out, token texts once they fit. */
import type { Pen } from "./pen";
import type { Theme } from "./theme";

export type Axis = "x" | "y";

export interface AxisPlan {
  tokens: number;
  left: number;
  top: number;
  side: number;
  /** Pixels of one token. */
  cell: number;
  label(position: number): string;
  /** Converts a token position to pixels, and back. */
  screen(position: number, axis: Axis): number;
  tokenAt(pixel: number, axis: Axis): number;
}

const READABLE = 11;

/** The smallest of 1, 2, 5, 10 ... at or above a value, so that colours do not flicker with every loaded tile. */
export function niceAbove(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5]) if (value <= step * power * (1 + 1e-6)) return step * power;
  return 10 * power;
}

/** Draws both axes. */
export function paintAxes(pen: Pen, theme: Theme, plan: AxisPlan): void {
  const { tokens, left, top, side, screen, tokenAt } = plan;
  const from = { x: Math.max(0, Math.floor(tokenAt(left, "x"))), y: Math.max(0, Math.floor(tokenAt(top, "y"))) };
  const to = { x: Math.min(tokens, Math.ceil(tokenAt(left + side, "x"))), y: Math.min(tokens, Math.ceil(tokenAt(top + side, "y"))) };
  if (plan.cell >= READABLE) {
    for (let p = from.x; p < to.x; p++) {
      const x = screen(p + 0.5, "x");
      if (x > left && x < left + side) pen.text(x, top - 5, plan.label(p), { fill: theme.ink, size: 11.5, serif: true, upright: true, within: top - 8 });
    }
    for (let p = from.y; p < to.y; p++) {
      const y = screen(p + 0.5, "y");
      if (y > top && y < top + side) pen.text(left - 5, y, plan.label(p), { fill: theme.ink, size: 11.5, serif: true, align: "right", within: left - 8 });
    }
    return;
  }
  pen.text(left, 12, "key →", { fill: theme.soft, size: 11.5 });
  pen.text(2, top + 8, "query ↓", { fill: theme.soft, size: 11.5 });
  const step = niceAbove(((to.x - from.x) * 70) / side);
  for (const axis of ["x", "y"] as const) {
    for (let p = Math.ceil(from[axis] / step) * step; p < to[axis]; p += step) {
      const at = screen(p, axis), number = p.toLocaleString("en");
      if (axis === "x" && at < left + side - 14) pen.text(at, top - 10, number, { fill: theme.soft, size: 11, align: p ? "center" : "left" });
      else if (axis === "y" && p > 0 && at > top + 24 && at < top + side - 6) pen.text(left - 7, at, number, { fill: theme.soft, size: 11, align: "right" });
    }
  }
}

/** Draws the text of a token at the edge of the matrix, inside the picture's width. */
export function paintTag(pen: Pen, theme: Theme, width: number, x: number, y: number, text: string, align: "center" | "right"): void {
  const long = Math.min(150, text.length * 7.5 + 14);
  const from = align === "right" ? x - long : Math.min(Math.max(0, x - long / 2), width - long);
  pen.rect(from, y - 10, long, 20, { fill: theme.ink, radius: 5 });
  pen.text(from + long / 2, y + 0.5, text, { fill: theme.card, size: 13, serif: true, align: "center", within: long - 6 });
}
