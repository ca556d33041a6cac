import { describe, expect, it } from "vitest";
import { heatOf } from "../../src/case/heat";
import { originSentence } from "../../src/model/origin";
import { goldOf, originOf, precisionAt, sharesBy, sharesOfRows, top, toRow } from "../../src/model/shares";
import type { By } from "../../src/model/types";
import { plainView, rowScores, smallView } from "./synthetic";

const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);

describe("sharesBy", () => {
  const view = smallView();

  it.each(["document", "sentence", "token"] as By[])("%s: all text of the documents has 100%%, for any other parts of a row", (by) => {
    for (const rows of [{ start: 0, stop: 1 }, { start: 1, stop: 3 }]) {
      const scores = rowScores(0).map((_, u) => (rowScores(rows.start)[u]! + rowScores(rows.stop - 1)[u]!) / 2);
      for (const hide of [false, true]) {
        const s = sharesBy(view, toRow(view, rows, scores), by, hide);
        expect(sum(s.values) + s.outside).toBeCloseTo(1, 12);
        expect(s.sink).toBe(0); // the first token is part of the template
      }
    }
  });

  it("sums each piece", () => {
    const row = toRow(view, { start: 1, stop: 2 }, rowScores(1));
    expect([...sharesBy(view, row, "document", false).values]).toEqual([0.75, 0.25]);
    expect([...sharesBy(view, row, "sentence", false).values]).toEqual([0, 0.75, 0.25, 0]);
    const s = sharesBy(view, row, "token", false);
    expect([s.outside, s.whole]).toEqual([0, 0.25]);
    expect(s.values[1]).toBe(0); // text outside of documents has no share
    expect(originOf(view, row)).toEqual({ documents: 0.25, prompt: 0.5, answer: 0.125, missing: 0.125 });
  });

  it("counts text of a document outside of sentences", () => {
    const part = smallView({ sentenceOf: Int32Array.from([-1, -1, -1, 0, 1, -1, 2, 3, -1]) });
    const s = sharesBy(part, toRow(part, { start: 0, stop: 1 }, rowScores(0)), "sentence", false);
    expect(s.outside).toBeCloseTo(0.25 / 0.375, 12);
  });

  it("does not count a document's title line as a sentence, like the terminal", () => {
    const titled = smallView({ documents: ["Aa.", "Dd. Ee."], text: smallView().text.replace("Aa.", "Aa:") });
    const row = toRow(titled, { start: 0, stop: 1 }, rowScores(0));
    const of = (labels: string[]) => sharesBy({ ...titled, documents: labels }, row, "sentence", false);
    expect([...of(["Aa", ""]).values, of(["Aa", ""]).outside].map((share) => share * 3)).toEqual([0, 0, 1, 0, 2].map((share) => expect.closeTo(share, 9) as number));
    expect(of(["A", ""]).values[0]).toBeCloseTo(2 / 3, 9);
    expect([...sharesBy({ ...titled, documents: ["Aa", ""] }, row, "document", false).values]).toEqual([2 / 3, 1 / 3].map((share) => expect.closeTo(share, 9) as number));
  });

  it("without documents shares are parts of what came from the prompt, and the first token has its own bar", () => {
    const plain = plainView();
    const row = toRow(plain, { start: 0, stop: 1 }, rowScores(0));
    const s = sharesBy(plain, row, "sentence", false);
    expect([...s.values, s.outside, s.sink].map((share) => share * s.whole)).toEqual([0.25, 0, 0.125, 0, 0.125, 0.375]);
    expect(s.whole).toBe(0.875);
    const hidden = sharesBy(plain, row, "sentence", true);
    expect([...hidden.values, hidden.outside]).toEqual([0.5, 0, 0.25, 0, 0.25]);
    expect([hidden.sink, hidden.sinkOfAll]).toEqual([0, 0.375 / 0.875]);
    expect(originOf(plain, row)).toEqual({ documents: 0, prompt: 0.875, answer: 0, missing: 0.125 });
  });

  it("the origin is unknown if the rest of the rows is unknown", () => {
    const part = smallView({ onAnswer: null, missing: null, normalized: false, sink: false });
    const row = toRow(part, { start: 1, stop: 2 }, rowScores(1));
    expect(sum(sharesBy(part, row, "document", false).values)).toBeCloseTo(1, 12);
    expect(originOf(part, row)).toBeNull();
  });

  it("counts scores below 0, missing mass below 0 and NaN as 0, and has no shares if all are 0", () => {
    const noisy = smallView({ missing: Float32Array.from([-1e-7, 0, 0]) });
    const scores = rowScores(0);
    scores[3] = -5;
    scores[4] = NaN;
    const row = toRow(noisy, { start: 0, stop: 1 }, scores);
    const s = sharesBy(noisy, row, "sentence", false);
    expect(s.values[1]).toBe(0);
    expect(sum(s.values) + s.outside).toBeCloseTo(1, 12);
    expect(originOf(noisy, row)!.missing).toBe(0);
    const none = smallView({ missing: new Float32Array(3), onAnswer: new Float32Array(3) });
    expect(sum(sharesBy(none, toRow(none, { start: 0, stop: 1 }, new Float32Array(9)), "sentence", true).values)).toBe(0);
  });
});

describe("sharesOfRows", () => {
  it("are the shares of the rows' bars", () => {
    const view = smallView();
    const taken = Float32Array.from([0, 1, 2], (row) => rowScores(row)[6]!);
    const shares = sharesOfRows(view, taken, { start: 6, stop: 7 }, null);
    for (let r = 0; r < 3; r++) {
      const { values } = sharesBy(view, toRow(view, { start: r, stop: r + 1 }, rowScores(r)), "token", false);
      expect(shares[r]).toBeCloseTo(values[6]!, 6);
    }
  });

  it("are parts of the whole row for input outside of documents", () => {
    expect([...sharesOfRows(smallView(), Float32Array.from([0.5, 0.25, 0]), { start: 8, stop: 9 }, null)]).toEqual([0.5, 0.25, 0]);
  });

  it("leave out a first token with its own bar", () => {
    const plain = plainView({ base: Float32Array.from([0.875, 0.75, 0.5]) });
    const sink = Float32Array.from([0.375, 0.75, 0]);
    expect([...sharesOfRows(plain, Float32Array.from([0.25, 0, 0.25]), { start: 2, stop: 3 }, sink)]).toEqual([0.5, 0, 0.5]);
    expect([...sharesOfRows(plain, Float32Array.from([0.625, 0.75, 0.25]), { start: 0, stop: 3 }, sink)]).toEqual([0.5, 0, 0.5]);
  });
});

describe("the origin line", () => {
  const origin = { documents: 0.065, prompt: 0.58, answer: 0.35, missing: 0.005 };
  it("has the words of the terminal", () =>
    expect(originSentence(smallView(), origin)).toBe(
      "6.5% of the whole flow came from the documents, 58% from question and template, 35% from the answer's own words. " +
        "This is normal; shares above are of the documents' part.",
    ));
});

describe("top", () => {
  it("is the start of a stable sort", () => {
    const values = Float64Array.from({ length: 500 }, (_, i) => ((i * 7919) % 53) / 53);
    const sorted = [...values.keys()].filter((i) => values[i]! > 0).sort((a, b) => values[b]! - values[a]! || a - b);
    for (const n of [0, 1, 2, 40, 499, 1000]) expect(top(values, n)).toEqual(sorted.slice(0, n));
  });
});

describe("gold", () => {
  it("extends to documents and units", () => {
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

  it("colours all units of a piece equally, and the largest piece most strongly", () => {
    expect([...heatOf(view, row, shares("sentence"), shares("sentence"), "linear").levels]).toEqual([0, 0, 12, 0, 0, 0, 6, 0, 0]);
  });

  it("text outside of documents has no share and no colour", () => {
    expect([...heatOf(view, row, shares("token"), shares("token"), "linear").levels]).toEqual([0, 0, 12, 0, 0, 0, 6, 0, 0]);
  });

  it("without documents the first token does not set the scale, and can be hidden", () => {
    const plain = plainView({ sentences: 0, sentenceOf: new Int32Array(9).fill(-1) });
    const of = (hide: boolean) => sharesBy(plain, row, "token", hide);
    expect([...heatOf(plain, row, of(false), of(false), "linear").levels]).toEqual([12, 3, 12, 0, 0, 0, 6, 0, 3]);
    expect(heatOf(plain, row, of(true), of(true), "linear").levels[0]).toBe(0);
  });

  it("compares with another row if one is given", () => {
    const reference = { ...shares("sentence"), values: Float64Array.from([1, 0, 0, 0]) };
    expect(heatOf(view, row, shares("sentence"), reference, "linear").levels[2]).toBe(8);
  });
});
