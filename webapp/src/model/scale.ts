/** Converts scores to the colour levels of the heat. */

/** Colours from faint to strong; 0 is no colour. The variables --heat-1 .. --heat-12 of theme.css. */
export const LEVELS = 12;

export type Scale = "linear" | "sqrt" | "log" | "rank";
export const SCALES: readonly Scale[] = ["linear", "sqrt", "log", "rank"];

const DECADES = 4; // range of the log scale below the largest value

/** The level, 0 to LEVELS, of a value. */
export type Level = (value: number) => number;

/** A function from values to levels.
 *
 * `largest` and larger values get the strongest colour. `values` are all values for the scale "rank"; other scales ignore them.
 * Values of 0 or less and NaN have no colour.
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

// Positive floats sort like their upper bits: 2^16 buckets, each at most 0.4% wide, replace a sort.
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

/** A share in percent, in the same digits as `show_share` of attributor/_cite/citations.py. */
export function showShare(share: number): string {
  const percent = 100 * share;
  if (!(percent > 0)) return "0%";
  if (percent < 0.1) return "<0.1%";
  return `${rounded(percent, percent < 9.95 ? 1 : 0)}%`;
}

/** A number with 0 or 1 digits. Halves round to the even digit as in Python, unlike `toFixed`. */
function rounded(value: number, digits: 0 | 1): string {
  const isHalf = (value * (digits ? 4 : 2)) % 2 === 1; // exact: with one digit, halves are .25 and .75
  if (!isHalf) return value.toFixed(digits);
  const step = 10 ** digits;
  const below = Math.floor(value * step);
  return ((below + (below % 2)) / step).toFixed(digits);
}

/** Attention of a head in percent, with more digits for small values: "12.3%", "0.57%", "0.0042%", "<0.0001%". */
export function percent(attention: number): string {
  if (!(attention > 0)) return "0%";
  if (attention < 0.000001) return "<0.0001%";
  const digits = Math.max(1, Math.min(4, 1 - Math.floor(Math.log10(attention * 100))));
  return `${(attention * 100).toFixed(digits)}%`;
}
