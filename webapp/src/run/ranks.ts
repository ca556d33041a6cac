/** Ranks of gold among scored pieces, by the formulas of eval/README.md.
 * Every value is the expectation over all orders of the pieces with tied scores, each order equally likely.
 */

/** Upper ends of the histogram's bins except the last: rank 1, 2, 3, 4, 5, 6-10, 11-20, more. */
export const BIN_ENDS = [1, 2, 3, 4, 5, 10, 20] as const;
export const BIN_LABELS = ["1", "2", "3", "4", "5", "6–10", "11–20", "> 20"] as const;
/** The values of k in hit@k. */
export const CUTS = [1, 3, 5] as const;

/** Places of a ranking's numbers in a flat array, which keeps thousands of cases with tens of methods small. */
export const AP = 0;
export const FIRST = 1;
export const RECIPROCAL = 2;
export const HITS = 3;
export const BINS = HITS + CUTS.length;
export const WIDTH = BINS + BIN_LABELS.length;

/** True for a list of S finite numbers. */
export function usable(scores: unknown, pieces: number): scores is number[] {
  if (!Array.isArray(scores) || scores.length !== pieces) return false;
  for (const score of scores) if (typeof score !== "number" || !Number.isFinite(score)) return false;
  return true;
}

/** True if some pieces but not all are gold, each listed once. Otherwise a ranking has no value. */
export function rankable(gold: unknown, pieces: number): gold is number[] {
  if (!Array.isArray(gold) || gold.length === 0 || gold.length >= pieces) return false;
  for (const one of gold) if (!Number.isInteger(one) || one < 0 || one >= pieces) return false;
  return new Set(gold).size === gold.length;
}

/** Rank (S) pieces by their scores and write the results into `out` at `at`.
 *
 * The results are AP, the expected rank of the first gold piece, its reciprocal, hit@k (whether a gold piece is among the
 * first k) and the chance of each bin of the first rank.
 *
 * @param gold indices of the gold pieces; see `rankable`.
 */
export function rank(scores: ArrayLike<number>, gold: readonly number[], out: Float64Array, at = 0): void {
  const pieces = scores.length;
  const marked = new Uint8Array(pieces);
  for (const one of gold) marked[one] = 1;
  const order = new Uint32Array(pieces);
  for (let i = 0; i < pieces; i++) order[i] = i;
  order.sort((a, b) => scores[b]! - scores[a]! || a - b);
  out.fill(0, at, at + WIDTH);
  let precision = 0;
  let survive = 1; // the chance that no gold piece came before
  let before = 0; // gold pieces before the tie
  for (let start = 0, stop = 0; start < pieces; start = stop) {
    let tiedGold = 0;
    const value = scores[order[start]!]!;
    for (; stop < pieces && scores[order[stop]!] === value; stop++) tiedGold += marked[order[stop]!]!;
    const tied = stop - start;
    if (tiedGold > 0) {
      for (let i = 0; i < tied; i++) {
        const place = start + i + 1;
        const companions = tied > 1 ? (i * (tiedGold - 1)) / (tied - 1) : 0;
        precision += ((tiedGold / tied) * (before + 1 + companions)) / place;
        if (survive <= 0) continue;
        const hazard = Math.min(1, tiedGold / (tied - i));
        note(out, at, place, survive * hazard);
        survive *= 1 - hazard;
      }
      before += tiedGold;
    }
  }
  out[at + AP] = precision / gold.length;
}

function note(out: Float64Array, at: number, place: number, chance: number): void {
  out[at + FIRST]! += chance * place;
  out[at + RECIPROCAL]! += chance / place;
  for (let c = 0; c < CUTS.length; c++) if (place <= CUTS[c]!) out[at + HITS + c]! += chance;
  let bin = 0;
  while (bin < BIN_ENDS.length && place > BIN_ENDS[bin]!) bin++;
  out[at + BINS + bin]! += chance;
}

/** The main aggregation of a method: the wanted one, else "segment", else the first. */
export function mainAggregation(names: readonly string[], wanted = "sum"): string | null {
  if (names.includes(wanted)) return wanted;
  return names.includes("segment") ? "segment" : (names[0] ?? null);
}
