/** The colour of every unit, and the share that the strongest colour stands for. */
import { type Level, leveller, type Scale } from "../model/scale";
import { hasShare, hasSink, largestOf, pieceOf, type Row, type Shares } from "../model/shares";
import type { View } from "../model/types";

export interface Heat {
  /** (u) 0 to LEVELS. */
  levels: Uint8Array;
  /** The share that has the strongest colour. */
  largest: number;
}

/** Colour a row by its shares. The largest share of `reference` gets the strongest colour. */
export function heatOf(view: View, row: Row, shares: Shares, reference: Shares, scale: Scale): Heat {
  const largest = largestOf(reference.values);
  const level = leveller(scale, largest, reference.values);
  const levels = new Uint8Array(view.ends.length);
  const { whole, values, by } = shares;
  if (!(whole > 0)) return { levels, largest };
  if (by === "token") {
    for (let u = 0; u < levels.length; u++) if (hasShare(view, u)) levels[u] = level(row.scores[u]! / whole);
  } else {
    const ofPiece = levelsOf(values, level);
    const piece = pieceOf(view, by);
    for (let u = 0; u < levels.length; u++) {
      const p = piece(u);
      if (p >= 0) levels[u] = ofPiece[p]!;
    }
  }
  if (hasSink(view) && (by !== "token" || shares.sink === 0)) levels[0] = 0;
  return { levels, largest };
}

/** The level of each value. */
export function levelsOf(values: ArrayLike<number>, level: Level): Uint8Array {
  const levels = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) levels[i] = level(values[i]!);
  return levels;
}
