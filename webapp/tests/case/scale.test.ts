import { describe, expect, it } from "vitest";
import { LEVELS, leveller, percent, SCALES, showShare } from "../../src/model/scale";
import table from "../model/shares.json";

describe("leveller", () => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => (i / 1000) ** 3);

  it.each(SCALES)("%s: 0 for no share, the highest level for the largest, never decreasing", (scale) => {
    const level = leveller(scale, 1, values);
    for (const nothing of [0, -1, NaN]) expect(level(nothing)).toBe(0);
    expect(level(scale === "rank" ? values[999]! : 1)).toBe(LEVELS);
    expect(level(1e9)).toBe(LEVELS);
    let last = 0;
    for (const value of values) {
      expect(level(value)).toBeGreaterThanOrEqual(last);
      last = level(value);
    }
  });

  it("follows the named functions", () => {
    expect(leveller("linear", 2, [])(1)).toBe(6);
    expect(leveller("sqrt", 4, [])(1)).toBe(6);
    expect(leveller("log", 1, [])(0.01)).toBe(6);
    expect(leveller("log", 1, [])(0.0001)).toBe(0);
  });

  it("ranks by count, not by size", () => {
    const level = leveller("rank", 1e6, [1e-20, 1e-6, 1, 1e6]);
    expect([1e-20, 1e-6, 1, 1e6].map(level)).toEqual([3, 6, 9, 12]);
    expect(leveller("rank", 1, [])(1)).toBeGreaterThan(0);
    expect(level(Infinity)).toBe(12);
  });

  it.each(SCALES)("%s: no colours if the largest value is 0 or NaN", (scale) => {
    expect(leveller(scale, 0, [0, 0])(0)).toBe(0);
    expect(leveller(scale, NaN, [NaN])(1)).toBe(0);
  });

  it("ranks 100,000 values in a few milliseconds", () => {
    const many = Float32Array.from({ length: 100_000 }, (_, i) => ((i * 7919) % 100_003) / 1e5);
    const start = performance.now();
    const level = leveller("rank", 1, many);
    for (const value of many) level(value);
    expect(performance.now() - start).toBeLessThan(100);
  });
});

describe("showShare", () => {
  it.each(table as [number, string][])("%d is %s, as attributor's show_share writes it", (share, text) => expect(showShare(share)).toBe(text));
  it("shows NaN as 0%", () => expect(showShare(NaN)).toBe("0%"));
});

describe("percent", () => {
  it.each([[0.1234, "12.3%"], [0.00567, "0.57%"], [0.00042, "0.042%"], [0.00001, "0.0010%"], [1e-9, "<0.0001%"], [0, "0%"], [NaN, "0%"], [1, "100.0%"]] as const)("%d is %s", (share, text) => expect(percent(share)).toBe(text));
});
