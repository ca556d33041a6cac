import { describe, expect, test } from "vitest";

import { fit, measure } from "../../src/canvas/pen";
import { lastAtMost, nameOf, oneLine, piecesBetween, piecesOf, places, roomFor, shareLine, textOf, unitsBetween } from "../../src/canvas/layout";
import { granularities } from "../../src/model/shares";
import { smallView } from "./views";

describe("places along the prompt", () => {
  test("by text: the width of a unit is proportional to its characters", () => {
    const view = smallView(), at = places(view, "text");
    expect(at[0]).toBe(0);
    expect(at[15]).toBe(1);
    expect(at[3]).toBeCloseTo(view.ends[2] / view.text.length, 12);
  });

  test("by flow: the first token is as wide as its text, and no unit has width 0", () => {
    const view = smallView(), at = places(view, "mass"), widths = [...at].slice(1).map((x, i) => x - at[i]);
    expect(widths.every((w) => w > 0)).toBe(true);
    expect(widths[3]).toBeGreaterThan(4 * widths[9]); // "Paris" has much mass
    expect(widths[0]).toBeLessThan(widths[3] / 4); // the sink, with the most mass
    expect(places(smallView({ total: new Float32Array(15) }), "mass")).toEqual(places(view, "text"));
  });

  test("the units between two places, including places at the end", () => {
    const at = Float64Array.of(0, 0.25, 0.5, 1);
    expect(unitsBetween(at, 0, 1)).toEqual({ start: 0, stop: 3 });
    expect(unitsBetween(at, 0.3, 0.4)).toEqual({ start: 1, stop: 2 });
    expect(unitsBetween(at, 0.25, 0.5)).toEqual({ start: 1, stop: 2 });
    expect(unitsBetween(at, 1, 1)).toEqual({ start: 2, stop: 3 });
    expect(unitsBetween(new Float64Array(1), 0, 1)).toEqual({ start: 0, stop: 0 });
    expect(lastAtMost(at, 0.6)).toBe(2);
  });
});

describe("pieces", () => {
  test("are runs of one document or sentence, and runs outside of all", () => {
    const documents = piecesOf(smallView(), "document");
    expect([...documents.start]).toEqual([0, 3, 8, 13]);
    expect([...documents.stop]).toEqual([3, 8, 13, 15]);
    expect([...documents.group]).toEqual([-1, 0, 1, -1]);
    expect([...documents.pieceOf]).toEqual([1, 2]);
    expect(piecesOf(smallView(), "sentence").start.length).toBe(6);
    expect(piecesOf(smallView(), "token").stop[14]).toBe(15);
  });

  test("a document of two runs is found by the longer one, a document without units by none", () => {
    const view = smallView({ documentOf: Int32Array.of(0, -1, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1) });
    expect([...piecesOf(view, "document").pieceOf]).toEqual([2, -1]);
  });

  test("the granularity becomes finer with more room", () => {
    const view = smallView(), grains = granularities(view).map((by) => piecesOf(view, by)), all = { start: 0, stop: 15 };
    expect(grains.map((g) => g.by)).toEqual(["document", "sentence", "token"]);
    expect(piecesBetween(grains[0], { start: 4, stop: 9 })).toEqual({ start: 1, stop: 3 });
    expect([60, 200, 400].map((width) => roomFor(grains, all, width))).toEqual(["document", "sentence", "token"]);
    expect(roomFor(grains, { start: 3, stop: 5 }, 60)).toBe("token");
    expect(granularities(smallView({ documents: [], sentences: 0 }))).toEqual(["token"]);
  });

  test("have names on one line", () => {
    const view = smallView(), names = (by: "document" | "sentence" | "token") => Array.from(piecesOf(view, by).start.keys()).map((p) => nameOf(view, piecesOf(view, by), p));
    expect(names("document")).toEqual(["Question and template", "Cities", "Document 2", "Question and template"]);
    expect(names("sentence")[1]).toBe("Paris is big.");
    expect(names("token")[13]).toBe("↵");
    expect([oneLine(""), oneLine("  "), oneLine(" a\n b ")]).toEqual(["∅", "␣", "a b"]);
    expect(textOf(view, { start: 3, stop: 5 })).toBe("Paris is");
  });
});

describe("a line of boxes", () => {
  test("has its natural widths if they fit, centred", () => {
    const { x, width } = shareLine([20, 30], () => false, 100);
    expect([...width]).toEqual([20, 30]);
    expect(x[0] - 0).toBeCloseTo(100 - (x[1] + 30), 9);
  });

  test("gives the chosen boxes their width and the others the remainder", () => {
    const { x, width } = shareLine([50, 50, 50, 50], (i) => i === 1, 100);
    expect([...width].map(Math.round)).toEqual([17, 50, 17, 17]);
    expect(x[3] + width[3]).toBeCloseTo(100, 9);
    const many = shareLine(Array(100).fill(50), () => true, 100);
    expect(many.x[99] + many.width[99]).toBeCloseTo(100, 9);
    const most = shareLine([90, 90, 10], (i) => i < 2, 100);
    expect(most.width[2]).toBeCloseTo(25, 9);
  });
});

describe("text cut to a width", () => {
  test("keeps the start that fits and never half a character", () => {
    const font = "400 10px sans", wide = measure("abc", font);
    expect(wide).toBeGreaterThan(0);
    expect(fit("abc", 1000, font)).toBe("abc");
    expect(fit("abcdefgh", measure("abcd…", font), font)).toBe("abcd…");
    expect(fit("abcdefgh", measure("a…", font), font)).toBe("");
    expect(fit("ab😀cdefgh", measure("ab\ud83d…", font), font)).toBe("ab…");
  });
});
