/** From scores to the few colours of the heat. */

/** Colours from faint to strong; 0 is no colour. The variables --heat-1 .. --heat-12 of theme.css. */
export const LEVELS = 12;

export type Scale = "linear" | "sqrt" | "log" | "rank";
export const SCALES: readonly Scale[] = ["linear", "sqrt", "log", "rank"];

const DECADES = 4; // what the log scale tells apart below the largest

/** The level, 0 to LEVELS, of a value. */
export type Level = (value: number) => number;

/** How values become levels.
 *
 * `largest` gets the strongest colour, and so does what is larger still. `values` are those that rank is counted among; only
 * "rank" looks at them. Values of 0 or less, and what is not a number, have no colour.
 */
export function leveller(scale: Scale, largest: number, values: ArrayLike<number>): Level {
  if (!(largest > 0)) return () => 0;
  if (scale === "rank") return ranker(values);
  const shape = SHAPES[scale];
  return (value) => {
    if (!(value > 0)) return 0;
    return Math.round(LEVELS * shape(Math.min(1, value / largest)));
  };
}

const SHAPES = {
  linear: (x: number) => x,
  sqrt: Math.sqrt,
  log: (x: number) => Math.max(0, 1 + Math.log10(x) / DECADES),
};

// The upper bits of a positive float are in the order of the floats: 2^16 buckets, at most 0.4% wide each, in place of a sort.
const SHIFT = 15;
const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);
const bucketOf = (value: number): number => {
  asFloat[0] = value;
  return asBits[0]! >>> SHIFT;
};

function ranker(values: ArrayLike<number>): Level {
  const below = new Uint32Array(1 << (32 - SHIFT - 1));
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value > 0 && value < Infinity) {
      below[bucketOf(value)]!++;
      count++;
    }
  }
  let sum = 0;
  for (let b = 0; b < below.length; b++) sum = below[b]! += sum;
  return (value) => (value > 0 ? Math.max(1, Math.ceil((LEVELS * below[bucketOf(Math.min(value, 3e38))]!) / Math.max(count, 1))) : 0);
}

/** Digits after the point with which a share shows at least one that is not 0: 1 from 1%, 2 from 0.1%, at most 4. */
export function digitsOf(share: number): number {
  return share > 0 ? Math.max(1, Math.min(4, 1 - Math.floor(Math.log10(share * 100)))) : 1;
}

/** A share as people read it: "12.3%", "0.57%", "0.0042%"; "<0.0001%" where that says nothing either. */
export function percent(share: number): string {
  if (!(share > 0)) return "0%";
  if (share < 0.000001) return "<0.0001%";
  return `${(share * 100).toFixed(digitsOf(share))}%`;
}

/** Shares as text, rounded so that the printed numbers add up to the printed sum of all (100% where they are a whole).
 *
 * Each is rounded down or up by largest remainder, so none is off by a whole step. `digits` after the point.
 */
export function percents(shares: readonly number[], digits: number): string[] {
  const unit = 100 * 10 ** digits;
  const exact = shares.map((share) => Math.max(0, share || 0) * unit);
  const whole = exact.map(Math.floor);
  let left = Math.round(exact.reduce((a, b) => a + b, 0)) - whole.reduce((a, b) => a + b, 0);
  const byRemainder = exact.map((_, i) => i).sort((a, b) => exact[b]! - whole[b]! - (exact[a]! - whole[a]!) || a - b);
  for (const i of byRemainder) {
    if (left-- <= 0) break;
    whole[i]!++;
  }
  return whole.map((n) => `${(n / 10 ** digits).toFixed(digits)}%`);
}
