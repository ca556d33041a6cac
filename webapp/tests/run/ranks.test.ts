import { describe, expect, it } from "vitest";
import { AP, BINS, BIN_LABELS, FIRST, HITS, mainAggregation, rank, rankable, RECIPROCAL, usable, WIDTH } from "../../src/run/ranks";
import fixture from "./ranks.json";

interface Fixture {
  name: string;
  scores: number[];
  gold: number[];
  ap: number;
  first: number;
  reciprocal: number;
  hits: number[];
  bins: number[];
}
// Computed with attributor.eval.metrics.evidence: methods of a real run, rows with many ties, scores below zero.
const cases: Fixture[] = fixture.cases;

describe("rank", () => {
  it.each(cases.map((one, i) => [i, one] as const))("equals the evaluation, row %i", (_, one) => {
    const out = new Float64Array(WIDTH * 2).fill(NaN);
    rank(one.scores, one.gold, out, WIDTH);
    expect(out[WIDTH + AP]).toBeCloseTo(one.ap, 10);
    expect(out[WIDTH + FIRST]).toBeCloseTo(one.first, 9);
    expect(out[WIDTH + RECIPROCAL]).toBeCloseTo(one.reciprocal, 10);
    one.hits.forEach((hit, i) => expect(out[WIDTH + HITS + i]).toBeCloseTo(hit, 10));
    one.bins.forEach((bin, i) => expect(out[WIDTH + BINS + i]).toBeCloseTo(bin, 10));
    expect(out[0]).toBeNaN();
  });

  it("has rows of both kinds in its fixture", () => {
    expect(cases.length).toBeGreaterThan(30);
    expect(cases.filter((one) => new Set(one.scores).size < one.scores.length).length).toBeGreaterThan(20);
    expect(cases[0]!.bins).toHaveLength(BIN_LABELS.length);
  });

  it("does not depend on the order of pieces with the same score", () => {
    const [a, b] = [new Float64Array(WIDTH), new Float64Array(WIDTH)];
    rank([3, 1, 1, 1, 0], [1, 4], a);
    rank([1, 3, 1, 0, 1], [4, 3], b);
    a.forEach((value, i) => expect(b[i]).toBeCloseTo(value, 12));
  });
});

describe("a ranking", () => {
  it("requires gold and other pieces, each once and in range", () => {
    expect(rankable([0], 2)).toBe(true);
    for (const gold of [[], [0, 1], [2], [-1], [0.5], [0, 0], null, "0"]) expect(rankable(gold, 2)).toBe(false);
  });

  it("requires one finite number for each piece", () => {
    expect(usable([1, -2], 2)).toBe(true);
    for (const scores of [[1], [1, null], [1, "2"], [1, Infinity], null]) expect(usable(scores, 2)).toBe(false);
  });

  it("uses sum, else segment, else the first aggregation", () => {
    expect(mainAggregation(["mean", "sum"])).toBe("sum");
    expect(mainAggregation(["segment"])).toBe("segment");
    expect(mainAggregation(["max", "mean"])).toBe("max");
    expect(mainAggregation([])).toBeNull();
  });
});
