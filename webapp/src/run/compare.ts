/** Compares two runs case by case in one number: differences, their mean with a paired bootstrap interval, and counts. */

import { rankValue } from "./summary";
import type { Summary } from "./summary";

/** A mean with its 95% interval; null if it cannot be computed. */
export interface Interval {
  value: number | null;
  low: number | null;
  high: number | null;
  n: number;
}

/** The comparison of two runs in one number of ranks.ts. */
export interface Comparison {
  /** Second minus first, by case id, for cases in which both runs have the number and the same gold pieces. */
  byCase: Map<string, number>;
  mean: Interval;
  higher: number;
  same: number;
  lower: number;
  /** Cases of both runs with different gold pieces, which are left out; cases of only one run. */
  otherGold: number;
  onlyFirst: number;
  onlySecond: number;
}

const RESAMPLES = 10_000;
const NOISE = 1e-9; // sums in another order differ in the last bits

/** Compares two runs in one number. */
export function compare(
  first: readonly Summary[],
  second: readonly Summary[],
  methods: { first: number; second: number },
  field: number,
): Comparison {
  const others = new Map(second.map((summary) => [summary.id, summary]));
  const found: Comparison = {
    byCase: new Map(),
    mean: { value: null, low: null, high: null, n: 0 },
    higher: 0,
    same: 0,
    lower: 0,
    otherGold: 0,
    onlyFirst: 0,
    onlySecond: 0,
  };
  let both = 0;
  for (const summary of first) {
    const other = others.get(summary.id);
    if (other === undefined) {
      found.onlyFirst += 1;
      continue;
    }
    both += 1;
    const difference = rankValue(other, methods.second, field) - rankValue(summary, methods.first, field);
    if (Number.isNaN(difference)) continue;
    if (other.gold !== summary.gold) {
      found.otherGold += 1;
      continue;
    }
    found.byCase.set(summary.id, difference);
    if (difference > NOISE) found.higher += 1;
    else if (difference < -NOISE) found.lower += 1;
    else found.same += 1;
  }
  found.onlySecond = others.size - both;
  found.mean = bootstrap([...found.byCase.values()]);
  return found;
}

/** The mean of n values, with the 2.5th and 97.5th percentile of means of n values drawn with replacement.
 *
 * The seed is fixed, so the same values give the same interval. For n < 2 there is no interval.
 *
 * @param resamples maximum number of draws; 0 for no interval.
 */
export function bootstrap(values: readonly number[], resamples = RESAMPLES, seed = 0): Interval {
  const n = values.length;
  if (n === 0) return { value: null, low: null, high: null, n };
  let sum = 0;
  for (const value of values) sum += value;
  if (n === 1 || resamples === 0) return { value: sum / n, low: null, high: null, n };
  const given = Float64Array.from(values);
  const random = generator(seed);
  // With thousands of cases fewer resamples suffice. The limit keeps the time under 0.1 s.
  const times = Math.min(resamples, Math.max(1_000, Math.floor(5_000_000 / n)));
  const means = new Float64Array(times);
  for (let i = 0; i < times; i++) {
    let drawn = 0;
    for (let j = 0; j < n; j++) drawn += given[Math.floor(random() * n)]!;
    means[i] = drawn / n;
  }
  means.sort();
  return { value: sum / n, low: percentile(means, 0.025), high: percentile(means, 0.975), n };
}

function percentile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (sorted[above]! - sorted[below]!) * (place - below);
}

/** Random numbers from 0 to 1 by 32-bit xorshift (Marsaglia 2003, Xorshift RNGs). A seed always gives the same numbers. */
function generator(seed: number): () => number {
  let state = (seed * 2_654_435_761 + 88_675_123) | 0 || 1; // state 0 would stay 0
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 4_294_967_296;
  };
}
