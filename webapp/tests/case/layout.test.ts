import { describe, expect, it } from "vitest";
import { LISTED_SHARE, listBars, listInside } from "../../src/case/barlist";
import { layOut } from "../../src/case/layout";
import { describe as tipOf, nameOf, rowsName, whereOf } from "../../src/case/names";
import { sharesBy, toRow } from "../../src/model/shares";
import type { View } from "../../src/model/types";
import { strip, unitOfKey } from "../../src/canvas/minimap";
import { plainView, rowScores, smallView } from "./synthetic";

function longView(units: number, text: (u: number) => string, changes: Partial<View> = {}): View {
  const texts = Array.from({ length: units }, (_, u) => text(u));
  let end = 0;
  const none = new Int32Array(units).fill(-1);
  return smallView({ text: texts.join(""), ends: Int32Array.from(texts, (t) => (end += t.length)), sentenceOf: none, documentOf: none, sentences: 0, documents: [], firstToken: null, ...changes });
}

describe("layOut", () => {
  const view = smallView();
  const layout = layOut(view);

  it("makes blocks of documents and of the text between them, without blank edges", () => {
    expect(layout.blocks.map((b) => b.document)).toEqual([-1, 0, 1, -1]);
    expect(layout.chunks.map((c) => view.text.slice(c.start, c.stop))).toEqual(["<s>Sys", "Aa. Bb. Cc", "Dd. Ee.", "Q?"]);
  });

  it("finds the units of pieces and the unit at a character", () => {
    expect(layout.unitsOf({ by: "sentence", index: 1 })).toEqual({ start: 3, stop: 5 });
    expect(layout.unitsOf({ by: "document", index: 1 })).toEqual({ start: 6, stop: 8 });
    expect(layout.unitsOf({ by: "token", index: 9 })).toBeNull();
    expect(layout.unitsOf({ by: "sentence", index: 4 })).toBeNull();
    expect(layout.documentOfSentence(3)).toBe(1);
    for (let u = 0; u < view.ends.length; u++) for (let at = u ? view.ends[u - 1]! : 0; at < view.ends[u]!; at++) expect(layout.unitAt(at)).toBe(u);
    expect(layout.unitAt(1e9)).toBe(8);
    expect(layout.chunkOf(5)).toBe(1); // between documents: the previous chunk
  });

  it.each([
    ["one line of words", (u: number) => ` w${u}`],
    ["lines", (u: number) => (u % 40 === 39 ? ".\n" : ` w${u}`)],
    ["no white space at all", () => "あ"],
    ["white space only at first", (u: number) => (u < 700 ? " " : "x")],
  ])("chunks hold all text in order: %s", (_, text) => {
    const long = longView(5000, text);
    const { chunks } = layOut(long);
    expect(chunks.map((c) => long.text.slice(c.start, c.stop)).join("")).toBe(long.text.replace(/^(\s*\n)? ?/, "").trimEnd());
    for (const { units } of chunks) expect(units.stop - units.start).toBeLessThanOrEqual(384);
    expect(chunks.length).toBeLessThan(40);
  });

  it("cuts at line ends if there are any", () => {
    const long = longView(5000, (u) => (u % 40 === 39 ? ".\n" : ` w${u}`));
    for (const { stop } of layOut(long).chunks.slice(0, -1)) expect(long.text[stop - 1]).toBe("\n");
  });

  it("white space alone makes no block", () => expect(layOut(longView(10, () => " \n")).blocks).toEqual([]));
});

describe("bars", () => {
  const view = smallView();
  const layout = layOut(view);
  const row = toRow(view, { start: 1, stop: 2 }, rowScores(1));

  it("add up to 1 with the unlisted rest", () => {
    for (const limit of [0, 1, 40]) {
      const list = listBars(view, sharesBy(view, row, "sentence", false), limit);
      const all = [...list.pieces, ...list.rest].reduce((sum, { share }) => sum + share, 0);
      expect(all).toBeCloseTo(1, 12);
      expect(list.more).toBe(Math.max(0, 2 - limit));
    }
    const one = listBars(view, sharesBy(view, row, "sentence", false), 1);
    expect(one.rest.map((r) => r.name)).toEqual(["1 more sentence"]);
  });

  it("group small shares", () => {
    const scores = rowScores(1);
    scores[2] = 0.0002;
    const shares = sharesBy(view, toRow(view, { start: 1, stop: 2 }, scores), "sentence", false);
    expect(listBars(view, shares, 40).pieces).toHaveLength(3);
    const list = listBars(view, shares, 40, LISTED_SHARE);
    expect(list.pieces.map(({ piece }) => piece.index)).toEqual([1, 2]);
    expect(list.rest.map((r) => [r.name, r.share])).toEqual([["1 more sentence", expect.closeTo(0.0002 / 0.2502, 6)]]);
    expect(list.more).toBe(1);
  });

  it("without documents the first token has a bar, unless it is hidden", () => {
    const plain = plainView();
    const kinds = (hide: boolean): string[] => listBars(plain, sharesBy(plain, row, "sentence", hide), 9).rest.map((r) => r.kind);
    expect([kinds(false), kinds(true)]).toEqual([["outside", "sink"], ["outside"]]);
  });

  it("a document expands into sentences and these into tokens, with the same sum", () => {
    const shares = sharesBy(view, row, "document", false);
    const inside = listInside(view, layout, row, shares, { by: "document", index: 0 }, 10);
    expect(inside.pieces).toEqual([{ piece: { by: "sentence", index: 1 }, share: 0.75 }]);
    const tokens = listInside(view, layout, row, shares, { by: "sentence", index: 1 }, 10);
    expect(tokens.pieces).toEqual([{ piece: { by: "token", index: 3 }, share: 0.75 }]);
    expect(listInside(view, layout, row, shares, { by: "token", index: 3 }, 10).pieces).toEqual([]);
  });

  it("text of a document between its sentences is listed", () => {
    const part = smallView({ sentenceOf: Int32Array.from([-1, -1, 0, -1, 1, -1, 2, 3, -1]) });
    const scores = rowScores(0);
    scores[3] = 0.125;
    const shares = sharesBy(part, toRow(part, { start: 0, stop: 1 }, scores), "document", false);
    const inside = listInside(part, layOut(part), toRow(part, { start: 0, stop: 1 }, scores), shares, { by: "document", index: 0 }, 10);
    expect(inside.pieces.concat().reduce((s, p) => s + p.share, 0) + inside.rest[0]!.share).toBeCloseTo(shares.values[0]!, 12);
    expect(inside.rest[0]!.name).toBe("Titles and line breaks");
  });
});

describe("names", () => {
  const view = smallView();
  const layout = layOut(view);
  it("say the name and the place of a piece", () => {
    expect(nameOf(view, layout, { by: "document", index: 1 })).toBe("Document 2");
    expect(nameOf(view, layout, { by: "sentence", index: 1 })).toBe("Bb. Cc");
    expect(nameOf(view, layout, { by: "token", index: 5 })).toBe("↵↵");
    expect(whereOf(view, layout, { by: "sentence", index: 0 })).toBe("First");
    expect(whereOf(view, layout, { by: "token", index: 4 })).toContain("Bb. Cc Dd.");
    expect([rowsName(view, { start: 0, stop: 3 }), rowsName(view, { start: 1, stop: 2 }), rowsName(view, { start: 1, stop: 3 })]).toEqual(["the whole answer (3 tokens)", "answer token 2", "answer tokens 2 to 3"]);
  });
});

describe("the tooltip", () => {
  const view = smallView();
  const layout = layOut(view);
  const row = toRow(view, { start: 0, stop: 1 }, rowScores(0));
  it("shows the share of a unit and of its piece", () => {
    expect(tipOf(view, layout, row, 2, "sentence", false)).toBe("67%  sentence 1\n67%  token Aa.\nin First");
  });

  it("text outside of documents shows its part of the whole flow, if that is known, and no share", () => {
    for (const by of ["document", "sentence", "token"] as const) {
      expect(tipOf(view, layout, row, 0, by, false)).toBe("38% of the whole flow  token <s>\nquestion and template");
      expect(tipOf(smallView({ normalized: false }), layout, row, 0, by, false)).toBe("token <s>\nquestion and template");
    }
  });

  it("without documents shares are parts of the prompt; a left-out first token shows only that it is left out", () => {
    const plain = plainView();
    expect(tipOf(plain, layOut(plain), row, 0, "token", false)).toBe("43%  token <s>");
    for (const by of ["document", "sentence", "token"] as const) expect(tipOf(plain, layOut(plain), row, 0, by, true)).toBe("first token, left out: 43% of the prompt's part");
  });
});

describe("the map's strip", () => {
  it("keeps the largest level of each pixel row, and spreads it to the neighbour rows", () => {
    const levels = new Uint8Array(100_000);
    levels[50_123] = 12;
    const rows = strip(levels, 500);
    expect([249, 250, 251].map((y) => rows[y])).toEqual([12, 12, 12]);
    expect(rows.reduce((a, b) => a + b, 0)).toBe(36);
  });
  it("stretches few units, and is empty for none", () => {
    expect([...strip(Uint8Array.from([3, 9]), 6)]).toEqual([3, 3, 3, 9, 9, 9]);
    expect([...strip(new Uint8Array(0), 3)]).toEqual([0, 0, 0]);
  });
});

describe("keys on the map", () => {
  it("move by a hundredth or a tenth of a long prompt", () => {
    const at = (key: string): number | null => unitOfKey(key, [50_000, 50_400], 100_000);
    expect(["ArrowDown", "ArrowUp", "PageDown", "PageUp", "Home", "End", "a"].map(at)).toEqual([51_200, 49_200, 60_200, 40_200, 0, 99_999, null]);
  });

  it("move at least a line in a short prompt, and stop at its ends", () => {
    expect(unitOfKey("ArrowDown", [100, 200], 400)! - 150).toBeGreaterThanOrEqual(15); // a line has about 15 tokens
    expect(unitOfKey("ArrowDown", [3, 3], 5)).toBe(4);
    expect(unitOfKey("ArrowUp", [0, 0], 5)).toBe(0);
    expect(unitOfKey("PageDown", [90, 99], 100)).toBe(99);
  });
});
