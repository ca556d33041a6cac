import { describe, expect, it } from "vitest";

import { MemoryFlow, PackedRows, PlainRows } from "../../src/model/memory";
import type { View } from "../../src/model/types";
import { readViewFile } from "../../src/model/view";
import { cell, toCsv } from "../../src/share/csv";
import { fileName } from "../../src/share/download";
import { base64, standalone } from "../../src/share/page";
import { encodeView } from "../../src/share/view";

/** Six units in two documents, with characters above U+FFFF; two rows. */
function small(): { view: View; flow: MemoryFlow; scores: Float32Array } {
  const scores = Float32Array.from([0.1, 0.2, 0, 0.3, 0.05, 0.15, 0.2, 0, 0.4, 0.1, 0.1, 0]);
  const total = Float32Array.from({ length: 6 }, (_, i) => (scores[i]! + scores[i + 6]!) / 2);
  const text = "ab 😀cd ef";
  const view: View = {
    title: "<small> & 'quoted'",
    text,
    kind: "token",
    ends: Int32Array.from([2, 3, 5, 7, 8, 10]),
    firstToken: Int32Array.from([0, 1, 2, 4, 5, 6, 7]),
    sentenceOf: Int32Array.from([0, 0, 1, 1, -1, 2]),
    documentOf: Int32Array.from([0, 0, 0, 0, -1, 1]),
    sentences: 3,
    documents: ["one", ""],
    gold: new Set([1]),
    goldDocuments: null,
    answer: ["yes", " 😀"],
    total,
    base: Float32Array.from([0.75, 0.7]),
    onAnswer: Float32Array.from([0.1, 0.1]),
    missing: Float32Array.from([0.1, 0.1]),
    normalized: true,
    sink: true,
    question: "Which?",
    expected: null,
    meta: { model: "made/for-tests" },
    notes: ["a note"],
  };
  return { view, flow: new MemoryFlow(view, new PlainRows(scores, 6)), scores };
}

describe("a view file made in the browser", () => {
  it("reads back unchanged, rows to the precision of 16 bits", async () => {
    const { view, flow, scores } = small();
    const { view: found, rows } = readViewFile(await encodeView(view, flow, 1000));
    expect(found).toEqual(view);
    const packed = new PackedRows(rows!, 6);
    for (let r = 0; r < 2; r++) {
      Array.from(packed.row(r)).forEach((value, i) => expect(value).toBeCloseTo(scores[r * 6 + i]!, 4));
    }
  });

  it("merges units and rows to fit the room, keeps all sums, and notes it", async () => {
    const { view, flow } = small();
    const { view: found, rows } = readViewFile(await encodeView(view, flow, 4));
    expect(found.kind).toBe("piece");
    expect(found.text).toBe(view.text);
    expect(Array.from(found.ends)).toEqual([3, 7, 8, 10]);
    expect(found.answer).toEqual(["yes 😀"]);
    expect(found.notes.join(" ")).toMatch(/prompt is long.*answer is long/);
    const sum = (values: Float32Array): number => values.reduce((a, b) => a + b, 0);
    expect(sum(found.total)).toBeCloseTo(sum(view.total), 6);
    expect(sum(new PackedRows(rows!, 4).row(0))).toBeCloseTo(sum(view.total), 2);
    expect(Array.from(found.firstToken!)).toEqual([0, 2, 5, 6, 7]);
    expect(found.base[0]).toBeCloseTo((0.75 + 0.7) / 2, 6);
  });
});

describe("a long prompt without sentences", () => {
  const u = 1000;
  const text = "1 ".repeat(u);
  const none = new Int32Array(u).fill(-1);
  const scores = Float32Array.from({ length: 2 * u }, (_, i) => (i % u === 700 ? 0.5 : 0.5 / (u - 1)));
  const view: View = {
    ...small().view, text, ends: Int32Array.from({ length: u }, (_, i) => 2 * (i + 1)), firstToken: null, sentenceOf: none, documentOf: none,
    sentences: 0, documents: [], gold: null, total: scores.slice(0, u), sink: false,
  }; // prettier-ignore

  it("keeps places distinct within its room", async () => {
    const { view: found, rows } = readViewFile(await encodeView(view, new MemoryFlow(view, new PlainRows(scores, u)), 400));
    expect(rows!.values.length).toBeLessThanOrEqual(400);
    expect(found.answer).toHaveLength(2);
    expect(found.ends.length).toBeGreaterThan(90);
    const best = found.total.indexOf(found.total.reduce((a, b) => Math.max(a, b)));
    expect(found.ends[best - 1]!).toBeLessThanOrEqual(2 * 700);
    expect(found.ends[best]!).toBeGreaterThan(2 * 700);
  });
});

describe("an exported page", () => {
  it("has code and numbers, and no text that ends an element early", async () => {
    const view = document.createElement("script");
    view.id = "view";
    view.type = "application/octet-stream";
    const style = document.createElement("style");
    style.textContent = "p{}";
    const script = document.createElement("script");
    script.type = "module";
    script.textContent = "1";
    document.head.append(view, style, script);
    const { view: shown, flow } = small();
    const page = await standalone(shown.title, await encodeView(shown, flow, 1000));
    expect(page).toContain("<title>&#60;small&#62; &#38; &#39;quoted&#39;</title>");
    expect(page).toContain("script-src 'sha256-");
    expect(page.match(/<\/script>/g)).toHaveLength(2);
    script.textContent = "`<style>${x}</style>`"; // as in this code itself
    await expect(standalone("x", new Uint8Array(1))).resolves.toContain("`<style>${x}</style>`");
    for (const bad of ["'</script>'", "'<!-- <script>'"]) {
      script.textContent = bad;
      await expect(standalone("x", new Uint8Array(1))).rejects.toThrow(/ends its own element/);
    }
    script.textContent = "1";
    style.textContent = "a::after { content: '</STYLE>' }";
    await expect(standalone("x", new Uint8Array(1))).rejects.toThrow(/ends its own element/);
    view.remove();
  });

  it("encodes many bytes", () => {
    const many = new Uint8Array(200_001).fill(7);
    expect(base64(many)).toBe(Buffer.from(many).toString("base64"));
  });
});

describe("comma-separated values", () => {
  it("quotes cells if needed, and escapes formulas", () => {
    expect(toCsv(["a", "b"], [["x,y", 1], ['say "hi"', null]])).toBe('a,b\r\n"x,y",1\r\n"say ""hi""",\r\n');
    for (const bad of ["=1+1", "+1", "-1", "@x", "\t=1", "  =1", "\r=1"]) expect(cell(bad)).toMatch(/^"?'/);
    expect(cell(-1)).toBe("-1"); // a number is not a formula
    expect(cell(NaN)).toBe("");
  });

  it("makes valid file names from any title", () => {
    expect(fileName("../../etc/passwd", "csv")).toBe("etc-passwd.csv");
    expect(fileName("", "csv")).toBe("attributor.csv");
    expect(fileName("Wo fährt die Fähre?", "html")).toMatch(/^Wo-fa-?hrt-die-Fa-?hre\.html$/);
  });
});
