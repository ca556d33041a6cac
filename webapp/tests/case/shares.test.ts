import { describe, expect, it } from "vitest";
import { heatOf } from "../../src/case/heat";
import { goldOf, precisionAt, sharesBy, top, toRow } from "../../src/model/shares";
import type { By } from "../../src/model/types";
import { rowScores, smallView } from "./synthetic";

const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);

describe("sharesBy", () => {
  const view = smallView();

  it.each(["document", "sentence", "token"] as By[])("%s: everything adds up to 1, with and without the first token", (by) => {
    for (const rows of [{ start: 0, stop: 1 }, { start: 1, stop: 3 }]) {
      const scores = rowScores(0).map((_, u) => (rowScores(rows.start)[u]! + rowScores(rows.stop - 1)[u]!) / 2);
      for (const hide of [false, true]) {
        const s = sharesBy(view, toRow(view, rows, scores), by, hide);
        expect(sum(s.values) + s.outside + s.sink + s.onAnswer + s.missing).toBeCloseTo(1, 12);
        expect(s.sink === 0).toBe(hide);
      }
    }
  });

  it("sums each piece", () => {
    const row = toRow(view, { start: 1, stop: 2 }, rowScores(1));
    expect([...sharesBy(view, row, "document", false).values]).toEqual([0.1875, 0.0625]);
    expect([...sharesBy(view, row, "sentence", false).values]).toEqual([0, 0.1875, 0.0625, 0]);
    const s = sharesBy(view, row, "token", false);
    expect([s.outside, s.sink, s.onAnswer, s.missing]).toEqual([0.125, 0.375, 0.125, 0.125]);
    expect(s.values[1]).toBe(0); // the template is no source of its own
  });

  it("takes the part that reached the prompt for the whole where the rest is not known", () => {
    const part = smallView({ onAnswer: null, missing: null, normalized: false, sink: false });
    const s = sharesBy(part, toRow(part, { start: 1, stop: 2 }, rowScores(1)), "document", false);
    expect(sum(s.values) + s.outside).toBeCloseTo(1, 12);
    expect(s.missing + s.onAnswer + s.sink).toBe(0);
  });

  it("takes scores below 0, noise of missing below 0 and NaN for 0, and all zeros for nothing", () => {
    const noisy = smallView({ missing: Float32Array.from([-1e-7, 0, 0]) });
    const scores = rowScores(0);
    scores[3] = -5;
    scores[4] = NaN;
    const s = sharesBy(noisy, toRow(noisy, { start: 0, stop: 1 }, scores), "sentence", false);
    expect(s.values[1]).toBe(0);
    expect(sum(s.values) + s.outside + s.sink).toBeCloseTo(1, 12);
    const none = smallView({ missing: new Float32Array(3), onAnswer: new Float32Array(3) });
    expect(sum(sharesBy(none, toRow(none, { start: 0, stop: 1 }, new Float32Array(9)), "sentence", true).values)).toBe(0);
  });
});

describe("top", () => {
  it("is the head of a stable sort", () => {
    const values = Float64Array.from({ length: 500 }, (_, i) => ((i * 7919) % 53) / 53);
    const sorted = [...values.keys()].filter((i) => values[i]! > 0).sort((a, b) => values[b]! - values[a]! || a - b);
    for (const n of [0, 1, 2, 40, 499, 1000]) expect(top(values, n)).toEqual(sorted.slice(0, n));
  });
});

describe("gold", () => {
  it("falls to documents and units", () => {
    const view = smallView();
    expect([...goldOf(view, "document")!]).toEqual([0]);
    expect([...goldOf(view, "token")!]).toEqual([3, 4]);
    expect(goldOf(smallView({ gold: null }), "token")).toBeNull();
    expect([...goldOf(smallView({ gold: null, goldDocuments: new Set([1]) }), "document")!]).toEqual([1]);
  });

  it("precision and recall at k", () => {
    expect(precisionAt([0.1, 0.5, 0, 0.4], new Set([1, 2]), 2)).toMatchObject({ hits: 1, precision: 0.5, recall: 0.5 });
    expect(precisionAt([0.1, 0.5, 0, 0.4], new Set([1, 2]), 10)).toMatchObject({ hits: 1, precision: 0.1, recall: 0.5 });
  });
});

describe("heatOf", () => {
  const view = smallView();
  const row = toRow(view, { start: 0, stop: 1 }, rowScores(0));
  const shares = (by: By, hide = false) => sharesBy(view, row, by, hide);

  it("colours all units of a piece alike, and the largest piece the most", () => {
    expect([...heatOf(view, row, shares("sentence"), shares("sentence"), "linear").levels]).toEqual([0, 0, 12, 0, 0, 0, 6, 0, 0]);
  });

  it("the first token does not outshine the others, and is hidden on demand", () => {
    expect([...heatOf(view, row, shares("token"), shares("token"), "linear").levels]).toEqual([12, 3, 12, 0, 0, 0, 6, 0, 3]);
    expect(heatOf(view, row, shares("token", true), shares("token", true), "linear").levels[0]).toBe(0);
  });

  it("compares with another row where it is told to", () => {
    const reference = { ...shares("sentence"), values: Float64Array.from([1, 0, 0, 0]) };
    expect(heatOf(view, row, shares("sentence"), reference, "linear").levels[2]).toBe(3);
  });
});
