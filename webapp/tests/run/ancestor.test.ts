import { describe, expect, it } from "vitest";
import type { Bytes } from "../../src/model/bytes";
import { MemoryBytes } from "../../src/model/bytes";
import { AncestorList, MOST_BYTES, readAncestor } from "../../src/run/ancestor";
import { AP, FIRST } from "../../src/run/ranks";
import { rankValue } from "../../src/run/summary";

const TEXTS = ["The ferry leaves at seven.", "The mill is old.", "Salt is sold. <b>Not bold</b>"];
const entry = (more: object = {}, inner: object = {}) => ({
  case: { documents: TEXTS, expected_output: "seven", supporting_documents: [TEXTS[0]], ...inner },
  generated_output: "At seven.",
  attributed_documents: [TEXTS[2], TEXTS[0]],
  attributed_document_scores: [0.2, 0.8],
  verification: true,
  ...more,
});
const bytes = (value: unknown) => new MemoryBytes(new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value)));

describe("a case list of the previous tool", () => {
  it("is a run whose pieces are documents", async () => {
    const list = new AncestorList([entry(), entry({ verification: "no" }, { supporting_documents: [1], question: "When?" })]);
    expect(list.cases.map((one) => one.id)).toEqual(["case 1", "case 2"]);
    expect(list.cases[0]).toMatchObject({ answer: "At seven.", expected: "seven", right: true, status: "done", gold: "0" });
    expect(list.cases[1]).toMatchObject({ right: false, question: "When?", gold: "1" });
    expect(rankValue(list.cases[0]!, 0, FIRST)).toBe(1);
    expect(rankValue(list.cases[1]!, 0, AP)).toBeCloseTo(1 / 3);
    expect(list.problems).toEqual([]);
    const view = await list.caseAt(0).variants[0]!.source.view();
    expect(view.text).toBe(TEXTS.join("\n\n"));
    expect([...view.documentOf]).toEqual([0, -1, 1, -1, 2]);
    expect([...view.total].map((value) => Math.round(value * 10) / 10)).toEqual([0.8, 0, 0, 0, 0.2]);
    expect(view).toMatchObject({ sentences: 0, gold: null, answer: ["At seven."], documents: ["document 1", "document 2", "document 3"] });
    expect([...view.goldDocuments!]).toEqual([0]);
  });

  it("accepts documents with titles, and indices", async () => {
    const documents = [{ title: "Ferry", text: TEXTS[0] }, { name: "Mill", content: TEXTS[1] }, { page_content: "" }];
    const list = new AncestorList([
      entry({ attributed_documents: [1, { title: "Ferry", text: TEXTS[0] }] }, { documents, supporting_documents: ["Mill"] }),
    ]);
    const view = await list.caseAt(0).variants[0]!.source.view();
    expect(view.documents).toEqual(["Ferry", "Mill", "document 3"]);
    expect([...view.goldDocuments!]).toEqual([1]);
    expect([...view.total].map((value) => Math.round(value * 10) / 10)).toEqual([0.8, 0, 0.2, 0]);
    expect(rankValue(list.cases[0]!, 0, FIRST)).toBe(2);
  });

  it("reports unreadable entries and continues", () => {
    const list = new AncestorList([
      null,
      { case: {} },
      entry({ attributed_documents: ["unknown", TEXTS[1]], attributed_document_scores: [1, "x"] }, { supporting_documents: [7] }),
    ]);
    expect(list.cases).toHaveLength(1);
    expect(list.problems[0]).toBe("2 of 3 entries have no case with documents and are left out: 1, 2.");
    expect(list.problems.join(" ")).toMatch(/attributed document 1 is none.*document 2 has no score.*supporting document is none/);
    expect(rankValue(list.cases[0]!, 0, AP)).toBeNaN();
  });

  it("uses the order without scores, and all scores without named documents", () => {
    const list = new AncestorList([
      entry({ attributed_document_scores: undefined }),
      entry({ attributed_documents: undefined, attributed_document_scores: [0.1, 0.5, 0.3] }),
    ]);
    expect(rankValue(list.cases[0]!, 0, FIRST)).toBe(2);
    expect(rankValue(list.cases[1]!, 0, FIRST)).toBe(3);
  });

  it("makes ids unique", () => {
    const list = new AncestorList([entry({ id: "x" }), entry({ id: "x" })]);
    expect(list.cases.map((one) => one.id)).toEqual(["x", "x (entry 2)"]);
    expect(list.find("x (entry 2)")).toBe(1);
  });

  it("reports the problem of other files", async () => {
    await expect(readAncestor(bytes("[1, 2"), "a.json")).rejects.toThrow("a.json is not whole JSON");
    await expect(readAncestor(bytes({ a: 1 }), "a.json")).rejects.toThrow("no list of attributions");
    await expect(readAncestor(bytes([{ a: 1 }]), "a.json")).rejects.toThrow("no entry with a case");
    const large: Bytes = { size: MOST_BYTES + 1, read: () => Promise.reject(new Error("must not be read")) };
    await expect(readAncestor(large, "a.json")).rejects.toThrow("read up to 256 MB");
    expect((await readAncestor(bytes({ results: [entry()] }), "a.json")).cases).toHaveLength(1);
  });
});
