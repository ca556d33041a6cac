/** The list of bars: the largest pieces, the sum of the smaller ones, and the share of no piece. They add up to 100%. */
import { betweenName, countOf, hasSink, pieceOf, type Piece, type Row, type Shares, top } from "../model/shares";
import type { By, View } from "../model/types";
import type { Layout } from "./layout";
import { plural } from "./names";

/** Smaller shares are grouped until the user expands them; as in the terminal. */
export const LISTED_SHARE = 0.001;

export type RestKind = "more" | "outside" | "sink";

export interface Rest {
  kind: RestKind;
  name: string;
  share: number;
}

export interface BarList {
  pieces: { piece: Piece; share: number }[];
  rest: Rest[];
  /** How many pieces with a share are not listed. */
  more: number;
}

/** The `limit` largest pieces with a share of `least` or more, and the rest. All shares together are 1. */
export function listBars(view: View, shares: Shares, limit: number, least = 0): BarList {
  const { by, values } = shares;
  const listed = top(values, limit).filter((index) => values[index]! >= least);
  const rest: Rest[] = [];
  const { count, share } = below(values, listed);
  if (count) rest.push({ kind: "more", name: moreName(view, by, count), share });
  if (shares.outside > 0) rest.push({ kind: "outside", name: betweenName(view), share: shares.outside });
  if (shares.sink > 0) rest.push({ kind: "sink", name: "First token (attention sink)", share: shares.sink });
  return { pieces: listed.map((index) => ({ piece: { by, index }, share: values[index]! })), rest, more: count };
}

/** The bars inside one piece: a document's sentences (its tokens if it has no sentences), a sentence's tokens. */
export function listInside(view: View, layout: Layout, row: Row, shares: Shares, outer: Piece, limit: number, least = 0): BarList {
  const by = innerBy(view, outer);
  const units = layout.unitsOf(outer);
  if (!by || !units || !(shares.whole > 0)) return { pieces: [], rest: [], more: 0 };
  const isIn = pieceOf(view, outer.by);
  const inner = by === "token" ? (u: number): number => u : pieceOf(view, by);
  const sums = new Map<number, number>();
  let outside = 0;
  for (let u = units.start; u < units.stop; u++) {
    if (isIn(u) !== outer.index || (u === 0 && hasSink(view))) continue;
    const share = Math.max(0, row.scores[u]! || 0) / shares.whole;
    const p = inner(u);
    if (p >= 0) sums.set(p, (sums.get(p) ?? 0) + share);
    else outside += share;
  }
  const indices = [...sums.keys()];
  const values = indices.map((index) => sums.get(index)!);
  const listed = top(values, limit).filter((i) => values[i]! >= least);
  const { count, share } = below(values, listed);
  const rest: Rest[] = [];
  if (count) rest.push({ kind: "more", name: moreName(view, by, count), share });
  if (outside > 0) rest.push({ kind: "outside", name: betweenName(view), share: outside });
  return { pieces: listed.map((i) => ({ piece: { by, index: indices[i]! }, share: values[i]! })), rest, more: count };
}

/** The kind of pieces that a piece expands into; null for the smallest. */
export function innerBy(view: View, { by }: Piece): By | null {
  const tokens: By | null = view.kind === "token" ? "token" : null;
  if (by === "document") return countOf(view, "sentence") ? "sentence" : tokens;
  return by === "sentence" ? tokens : null;
}

function below(values: ArrayLike<number>, listed: readonly number[]): { count: number; share: number } {
  let count = -listed.length;
  let share = 0;
  for (let i = 0; i < values.length; i++) {
    if (!(values[i]! > 0)) continue;
    count++;
    share += values[i]!;
  }
  for (const i of listed) share -= values[i]!;
  return { count, share: Math.max(0, share) };
}

function moreName(view: View, by: By, count: number): string {
  const name = plural(view, by);
  return `${count.toLocaleString("en")} more ${count === 1 ? name.slice(0, -1) : name}`;
}
