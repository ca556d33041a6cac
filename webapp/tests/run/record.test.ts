import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { MemoryFlow } from "../../src/model/memory";
import { flowName } from "../../src/run/flowname";
import { caseOfRecord } from "../../src/run/record";
import { sha256 } from "../../src/run/sha256";
import names from "./flownames.json";
import { record } from "./helpers";

describe("caseOfRecord", () => {
  it("has a variant for each method and aggregation, with units that cover the text", async () => {
    const it = caseOfRecord(record("a"));
    expect(it.variants.map((one) => one.name)).toEqual(["flow/mean", "flow/sum", "contextcite/segment"]);
    expect(it.variants.map((one) => one.label)).toEqual(["flow · mean", "flow · sum", "contextcite"]);
    const view = await it.variants[1]!.source.view();
    const starts = [0, ...view.ends];
    const units = [...view.ends].map((end, i) => view.text.slice(starts[i], end));
    expect(units).toEqual(["Read.\n\n", "Ann:\n", "One.", " ", "Two.", "\n\n", "Bob:\n", "Three.", "\n\nWho?"]);
    expect([...view.sentenceOf]).toEqual([-1, -1, 0, -1, 1, -1, -1, 2, -1]);
    expect([...view.documentOf]).toEqual([-1, 0, 0, 0, 0, -1, 1, 1, -1]);
    expect([...view.total].map((value) => Math.round(value * 10) / 10)).toEqual([0, 0, 0.5, 0, 0.3, 0, 0, 0.2, 0]);
    expect([...view.gold!]).toEqual([1]);
    expect([...view.goldDocuments!]).toEqual([0]);
    expect(view).toMatchObject({ sentences: 3, documents: ["Ann", "Bob"], answer: ["Ann"], kind: "piece", normalized: false, sink: false });
    expect(view).toMatchObject({ question: "Who is a?", expected: "Ann", onAnswer: null, missing: null });
    expect(view.meta["model's own answer"]).toBe("It is Ann. (right)");
    const edges = await it.variants[1]!.source.edges("document", { start: 0, stop: 1 }, null, 1);
    expect([...edges.pieces]).toEqual([0]);
    expect(edges.mass[0]).toBeCloseTo(0.8);
    expect(edges.total).toBeCloseTo(1);
  });

  it("puts the token-level flow first", () => {
    const source = caseOfRecord(record("a")).variants[0]!.source as MemoryFlow;
    expect(caseOfRecord(record("a"), source).variants.map((one) => one.name)[0]).toBe("flow");
    expect(caseOfRecord(record("a"), source).variants).toHaveLength(4);
  });

  it("shows scores below zero as zero and notes their number", async () => {
    const view = await caseOfRecord(record("a")).variants[2]!.source.view();
    expect([...view.total]).toEqual([0, 0, 0, 0, 2, 0, 0, 0, 0]);
    expect(view.notes.join(" ")).toContain("1 sentence has a score below zero");
  });

  it("counts characters like Python, and spells out hidden ones", async () => {
    const text = "😀😀 \u202eOne.\r\nTwo.";
    // Code points: 😀 😀 space RLO "One." CR LF "Two."
    const given = record("a", { text, segments: [[4, 8, 0], [10, 14, 0]], documents: [[2, 14, "x"]], gold: [0], methods: { m: { scores: { segment: [1, 2] } } } });
    const view = await caseOfRecord(given).variants[0]!.source.view();
    const starts = [0, ...view.ends];
    const units = [...view.ends].map((end, i) => view.text.slice(starts[i], end));
    expect(units).toEqual(["😀😀", " ⟦U+202E⟧", "One.", "\n", "Two."]);
    expect([...view.total]).toEqual([0, 0, 1, 0, 2]);
    expect([...view.documentOf]).toEqual([-1, 0, 0, 0, 0]);
  });

  it("shows a skipped case's text with its reason", async () => {
    const it = caseOfRecord(record("a", { status: "skipped", reason: "too long", methods: {}, answer: null, generated: null }));
    const view = await it.variants[0]!.source.view();
    expect(it.variants[0]!.name).toBe("none");
    expect(view.notes[0]).toBe("This case was skipped: too long.");
    expect(view.answer).toEqual(["no answer"]);
  });

  it("refuses a record without a text, and places outside of it", () => {
    expect(() => caseOfRecord({ id: "a", reason: "no question", text: null })).toThrow("has no text: no question");
    expect(() => caseOfRecord(record("a", { segments: [[0, 99, 0]] }))).toThrow("places 0 to 99");
    expect(() => caseOfRecord(record("a", { segments: ["x"] }))).toThrow("not pairs of places");
  });
});

describe("flowName", () => {
  it.each(Object.entries(names))("names the flow of %j as the evaluation does", (id, name) => expect(flowName(id)).toBe(name));

  it("has the digests of the standard", () => {
    for (const text of ["", "abc", "x".repeat(55), "x".repeat(56), "x".repeat(64), "y".repeat(1000)]) {
      expect(sha256(new TextEncoder().encode(text))).toBe(createHash("sha256").update(text).digest("hex"));
    }
  });
});
