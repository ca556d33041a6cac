import { signal } from "@preact/signals";
import { describe, expect, it } from "vitest";

import type { CaseState } from "../../src/case/state";
import { type Shares, sharesBy, toRow } from "../../src/model/shares";
import type { By, View } from "../../src/model/types";
import { barsSvg } from "../../src/share/picture";
import { type Line, shownNow, tableRows } from "../../src/share/table";

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
    base: Float32Array.from([0.6, 0.6]),
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

describe("the shown content as a table", () => {
  it.each(["sentence", "document", "token"] as const)("all text of the documents has 100%, by %s", (by) => {
    const shown = shownNow(stateOf(by));
    expect(shown.of).toBe("documents");
    expect(shown.lines.reduce((sum, line) => sum + line.share, 0)).toBeCloseTo(1, 6);
    expect(shown.lines.every((line) => line.what === by)).toBe(true);
    expect(Object.values(shown.origin!).map((part) => +part.toFixed(6))).toEqual([0.6, 0.3, 0.1, 0]);
    expect(shown.originLine).toMatch(/^60% of the whole flow came from the documents, 30% from question and template, 10% from/);
  });

  it("without documents the prompt has 100%, including the first token and text between sentences", () => {
    const state = stateOf("sentence");
    const view = { ...state.view.value, documents: [], documentOf: state.view.value.documentOf.map(() => -1) };
    (state.view as unknown as { value: View }).value = view;
    (state.shares as unknown as { value: Shares }).value = sharesBy(view, state.row.value, "sentence", false);
    const shown = shownNow(state);
    expect(shown.of).toBe("prompt");
    expect(shown.lines.reduce((sum, line) => sum + line.share, 0)).toBeCloseTo(1, 6);
    expect(shown.lines.filter((line) => line.rank === null).map(({ what, text, share }) => [what, text, +share.toFixed(6)])).toEqual([
      ["outside", "between sentences", 0.111111],
      ["first token", "attention sink", 0.222222],
    ]);
    expect(shown.originLine).toBe("90% of the whole flow came from the prompt, 10% from the answer's own words. This is normal; shares above are of the prompt's part.");
  });

  it("a CSV names the whole of each share", () => {
    const { header, rows } = tableRows(shownNow(stateOf("document")));
    const at = (name: string): number => header.indexOf(name);
    expect(rows.map((row) => [row[at("rank")], row[at("what")], +(row[at("share")] as number).toFixed(6), row[at("of")]])).toEqual([
      [1, "document", 1, "documents"],
      [null, "documents", 0.6, "whole flow"],
      [null, "question and template", 0.3, "whole flow"],
      [null, "answer's own words", 0.1, "whole flow"],
      [null, "not followed", 0, "whole flow"],
    ]);
    const unknown = shownNow(stateOf("document"));
    expect(tableRows({ ...unknown, origin: null }).rows).toHaveLength(1);
  });

  it("lists text, document and gold", () => {
    const lines = shownNow(stateOf("sentence")).lines;
    expect(lines[1]).toMatchObject({ rank: 2, text: "Sentence 1 <i>.", document: "Document 1", gold: true });
    expect(lines[0]!.gold).toBe(false);
    expect(shownNow(stateOf("document")).lines[0]).toMatchObject({ document: "Document 1", gold: true });
    expect(shownNow(stateOf("sentence"))).toMatchObject({ asked: " so", answer: "Because so", question: "Why?" });
  });
});

describe("the picture of the bars", () => {
  it("is well-formed for any text, and counts the bars left out", () => {
    const svg = barsSvg(shownNow(stateOf("sentence", 30)));
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml");
    expect(parsed.querySelector("title")?.textContent).toBe(TITLE);
    expect(svg).not.toContain("<i>");
    expect(parsed.querySelectorAll("rect")).toHaveLength(1 + 20 + 1);
    expect([...parsed.querySelectorAll("text")].slice(-2).map((text) => text.textContent!.trim()).join(" ")).toBe(shownNow(stateOf("sentence", 30)).originLine);
    expect(svg).toContain("10 more");
    expect(svg).toContain("★ Sentence 1");
  });

  it("shows shares like the page", () => {
    const line = (share: number, rank: number | null): Line => ({ rank, what: rank === null ? "outside" : "sentence", share, document: "", text: "x", gold: null });
    const shown = shownNow(stateOf("sentence"));
    const svg = barsSvg({ ...shown, lines: [line(0.9, 1), line(0.0995, 2), line(0.0005, null)] });
    expect([...svg.matchAll(/>([^>]+%)<\/text>/g)].map((match) => match[1])).toEqual(["90%", "10%", "<0.1%"]);
  });

  it("is a readable file for any texts", () => {
    expect(barsSvg({ ...shownNow(stateOf("sentence")), title: "a\ufffeb" })).not.toContain("\ufffe"); // not a valid XML character
  });
});
