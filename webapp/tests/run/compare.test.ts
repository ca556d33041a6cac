import { describe, expect, it } from "vitest";
import { bootstrap, compare } from "../../src/run/compare";
import { AP, FIRST } from "../../src/run/ranks";
import { indexed, part, record } from "./helpers";

const run = async (cases: [string, number[], number[]?][]) =>
  indexed([part(cases.map(([id, sum, gold]) => JSON.stringify(record(id, { gold: gold ?? [1], methods: { flow: { scores: { sum } } } }))).join("\n"))]);

describe("compare", () => {
  it("pairs cases by id and counts higher, equal and lower values", async () => {
    const first = await run([["a", [1, 0, 0]], ["b", [0, 1, 0]], ["c", [3, 2, 1]], ["only here", [0, 1, 0]], ["gold", [0, 1, 0], [0]]]);
    const second = await run([["c", [3, 2, 1]], ["b", [2, 1, 0]], ["a", [0, 1, 0]], ["only there", [0, 1, 0]], ["gold", [0, 1, 0], [1]]]);
    const found = compare(first.cases, second.cases, { first: 0, second: 0 }, FIRST);
    expect(Object.fromEntries(found.byCase)).toEqual({ a: -1.5, b: 1, c: 0 });
    expect(found).toMatchObject({ higher: 1, same: 1, lower: 1, otherGold: 1, onlyFirst: 1, onlySecond: 1 });
    expect(found.mean.value).toBeCloseTo(-0.5 / 3);
    expect(found.mean.n).toBe(3);
  });

  it("leaves out cases without a number under one of the methods", async () => {
    const index = await run([["a", [1, 0, 0]]]);
    expect(compare(index.cases, index.cases, { first: 0, second: -1 }, AP).mean).toEqual({ value: null, low: null, high: null, n: 0 });
  });
});

describe("bootstrap", () => {
  it("returns the same interval for the same values, with the theoretical width", () => {
    const values = Array.from({ length: 400 }, (_, i) => Math.sin(i * 12.9898) * 3);
    const found = bootstrap(values);
    expect(bootstrap(values)).toEqual(found);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const deviation = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
    const half = (1.96 * deviation) / Math.sqrt(values.length);
    expect(found.value).toBeCloseTo(mean, 10);
    expect((found.high! - found.low!) / (2 * half)).toBeGreaterThan(0.95);
    expect((found.high! - found.low!) / (2 * half)).toBeLessThan(1.05);
    expect(Math.abs((found.high! + found.low!) / 2 - mean)).toBeLessThan(half * 0.05);
  });

  it("has no interval for one value, and no mean for none", () => {
    expect(bootstrap([2])).toEqual({ value: 2, low: null, high: null, n: 1 });
    expect(bootstrap([])).toEqual({ value: null, low: null, high: null, n: 0 });
  });
});
