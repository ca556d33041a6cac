import { signal } from "@preact/signals";
import { describe, expect, it } from "vitest";

import type { CaseState } from "../../src/case/state";
import { sharesBy, toRow } from "../../src/model/shares";
import type { By, View } from "../../src/model/types";
import { barsSvg } from "../../src/share/picture";
import { type Line, shownNow } from "../../src/share/table";

const TITLE = "<b>&\"'";

function stateOf(by: By, sentences = 3): CaseState {
  const u = sentences + 2; // the first token, the sentences, the question
  const scores = Float32Array.from({ length: u }, (_, i) => (i === 0 ? 0.2 : i === u - 1 ? 0.1 : 0.6 / sentences));
  const words = ["^", ...Array.from({ length: sentences }, (_, i) => ` Sentence ${i} <i>.`), " Why?"];
  let end = 0;
  const view: View = {
    title: TITLE,
    text: words.join(""),
    kind: "token",
    ends: Int32Array.from(words, (word) => (end += word.length)),
    firstToken: null,
    sentenceOf: Int32Array.from({ length: u }, (_, i) => (i === 0 || i === u - 1 ? -1 : i - 1)),
    documentOf: Int32Array.from({ length: u }, (_, i) => (i === 0 || i === u - 1 ? -1 : 0)),
    sentences,
    documents: [""],
    gold: new Set([1]),
    goldDocuments: null,
    answer: ["Because", " so"],
    total: scores,
    onAnswer: Float32Array.from([0.1, 0.1]),
    missing: Float32Array.from([0, 0]),
    normalized: true,
    sink: true,
    question: "Why?",
    expected: null,
    meta: { model: "made/for-tests" },
    notes: [],
  };
  const row = toRow(view, { start: 1, stop: 2 }, scores);
  return {
    view: signal(view),
    row: signal(row),
    shares: signal(sharesBy(view, row, by, false)),
    variant: signal({ name: "flow", label: "flow" }),
  } as unknown as CaseState;
}

describe("what is shown, as a table", () => {
  it.each(["sentence", "document", "token"] as const)("adds up to the whole, by %s", (by) => {
    const shown = shownNow(stateOf(by));
    expect(shown.lines.reduce((sum, line) => sum + line.share, 0)).toBeCloseTo(1, 6);
    expect(shown.lines.filter((line) => line.rank === null).map((line) => line.what)).toEqual(["outside", "first token", "earlier answer tokens"]);
  });

  it("calls what lies in no piece by the same name as the bars", () => {
    const state = stateOf("sentence");
    const named = (): string | undefined => shownNow(state).lines.find((line) => line.what === "outside")?.text;
    expect(named()).toBe("template and question");
    (state.view as unknown as { value: View }).value = { ...state.view.value, documents: [], documentOf: state.view.value.documentOf.map(() => -1) };
    expect(named()).toBe("between sentences");
  });

  it("says which text, which document, and whether it is gold", () => {
    const lines = shownNow(stateOf("sentence")).lines;
    expect(lines[1]).toMatchObject({ rank: 2, text: "Sentence 1 <i>.", document: "Document 1", gold: true });
    expect(lines[0]!.gold).toBe(false);
    expect(shownNow(stateOf("document")).lines[0]).toMatchObject({ document: "Document 1", gold: true });
    expect(shownNow(stateOf("sentence"))).toMatchObject({ asked: " so", answer: "Because so", question: "Why?" });
  });
});

describe("the picture of the bars", () => {
  it("is well-formed whatever the text says, and counts what it leaves out", () => {
    const svg = barsSvg(shownNow(stateOf("sentence", 30)));
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml");
    expect(parsed.querySelector("title")?.textContent).toBe(TITLE);
    expect(svg).not.toContain("<i>");
    expect(parsed.querySelectorAll("rect")).toHaveLength(1 + 20 + 1 + 3);
    expect(svg).toContain("10 more");
    expect(svg).toContain("★ Sentence 1");
  });

  it("prints numbers that add up to what they are parts of", () => {
    const line = (share: number, rank: number | null): Line => ({ rank, what: rank === null ? "outside" : "sentence", share, document: "", text: "x", gold: null });
    const shown = shownNow(stateOf("sentence"));
    const svg = barsSvg({ ...shown, lines: [line(1 / 3, 1), line(1 / 3, 2), line(1 / 3, null)] });
    const printed = [...svg.matchAll(/>([\d.]+)%<\/text>/g)].map((match) => Number(match[1]));
    expect(printed).toHaveLength(3);
    expect(printed.reduce((sum, one) => sum + one, 0)).toBeCloseTo(100, 9);
  });

  it("is a file that can be read whatever the texts hold", () => {
    expect(barsSvg({ ...shownNow(stateOf("sentence")), title: "a\ufffeb" })).not.toContain("\ufffe"); // no character of XML
  });
});
