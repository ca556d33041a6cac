import { expect, test } from "vitest";
import type { Writable } from "../../src/model/safetensors";
import { UserError } from "../../src/model/types";
import { readView, readViewFile } from "../../src/model/view";
import { utf8, viewFile } from "./views";

test("a view file becomes a view, with places in the visible text", () => {
  const view = readView(viewFile());
  expect(view.text).toBe("Hi A😀b\n⟦U+202E⟧end");
  const units = Array.from(view.ends, (stop, i) => view.text.slice(i ? view.ends[i - 1] : 0, stop));
  expect(units).toEqual(["Hi ", "A😀", "b", "\n", "⟦U+202E⟧", "end"]);
  expect([...view.firstToken!]).toEqual([0, 1, 3, 4, 5, 6, 7]);
  expect([...view.sentenceOf]).toEqual([-1, 0, 0, 1, 1, -1]);
  expect([...view.documentOf]).toEqual([-1, 0, 0, 0, 1, 1]);
  expect(view.answer).toEqual(["Twice😀", "⟦U+0000⟧"]);
  expect([...view.gold!]).toEqual([1]);
  expect([...view.goldDocuments!]).toEqual([1]);
  expect(view.onAnswer![1]).toBeCloseTo(0.2);
  expect(view.base).toEqual(Float32Array.from([0.6, 0.5]));
  expect(view).toMatchObject({
    title: "attributor: Twice a day.", kind: "token", sentences: 2, documents: ["Harbour", ""], normalized: true, sink: true,
    question: "How often?", expected: null, meta: { model: "tiny" }, notes: ["A note."],
  }); // prettier-ignore
});

test("optional parts may be absent", () => {
  const view = readView(viewFile({ tokens: 6 }, { token_counts: null, on_answer: null, missing: null, gold: null, gold_documents: null }));
  expect([...view.firstToken!]).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect([view.onAnswer, view.missing, view.gold, view.goldDocuments]).toEqual([null, null, null, null]);
  expect(readViewFile(viewFile()).rows).toBeNull();
});

test("a file of another kind or a newer version is refused", () => {
  expect(() => readView(viewFile({}, {}, { format: "attributor.flow" }))).toThrow(/format is attributor.flow, expected attributor.view/);
  expect(() => readView(viewFile({}, {}, { version: "3" }))).toThrow(/newer attributor \(view version 3\): pip install -U/);
  expect(() => readView(viewFile({}, {}, { version: "x" }))).toThrow(/version is unknown \(x\)/);
  expect(() => readView(utf8("hello hello hello"))).toThrow(/The view is not a safetensors file/);
});

const i32 = (...values: number[]): Writable => ({ data: new Int32Array(values) });
const runs = (...values: number[]): Writable => ({ data: new Int32Array(values), shape: [values.length / 2, 2] });

test.each<[string, Record<string, unknown>, Record<string, Writable | null>, RegExp]>([
  ["text is missing", {}, { text: null }, /text is missing/],
  ["text is not UTF-8", {}, { text: { data: new Uint8Array([0xff]) } }, /text of the view is not utf-8/],
  ["text is no bytes", {}, { text: i32(1) }, /text must be bytes/],
  ["lengths are short", {}, { lengths: i32(3, 2, 1, 2, 1, 2) }, /lengths add up to 11, but there are 12 characters of the text/],
  ["a length is negative", {}, { lengths: i32(3, 2, 1, 2, -1, 5) }, /lengths has -1 at 4/],
  ["lengths are floats", {}, { lengths: { data: new Float32Array(6) } }, /lengths must be integers/],
  ["lengths are a matrix", {}, { lengths: runs(3, 2, 1, 2, 1, 3) }, /lengths is \[3, 2\]/],
  ["too few token counts", {}, { token_counts: i32(1, 2) }, /token_counts is \[2\], expected \[6\]/],
  ["token counts do not add up", { tokens: 8 }, {}, /token_counts add up to 7, but there are 8 tokens/],
  ["runs are short", {}, { sentence_runs: runs(-1, 1, 0, 2) }, /sentence_runs add up to 3 of the 6 units/],
  ["runs are long", {}, { document_runs: runs(0, 7) }, /document_runs add up to more than the 6 units/],
  ["a run is negative", {}, { document_runs: runs(0, 7, 0, -1) }, /document_runs add up to more/],
  ["runs name what is not there", {}, { document_runs: runs(2, 6) }, /document_runs names 2, of 2/],
  ["runs name -2", {}, { sentence_runs: runs(-2, 6) }, /sentence_runs names -2/],
  ["runs are a list", {}, { sentence_runs: i32(0, 6) }, /sentence_runs is \[2\], expected \[any, 2\]/],
  ["total is short", {}, { total: { data: new Float32Array(5) } }, /total is \[5\], expected \[6\]/],
  ["base is missing", {}, { base: null }, /base is missing/],
  ["total is NaN", {}, { total: { data: new Float32Array(6).fill(NaN) } }, /total has numbers that are NaN/],
  ["answer lengths are long", {}, { answer_lengths: i32(6, 2) }, /answer_lengths add up to 8, but there are 7/],
  ["missing is long", {}, { missing: { data: new Float32Array(3) } }, /missing is \[3\], expected \[2\]/],
  ["gold is not there", {}, { gold: i32(2) }, /gold names 2, of 2/],
  ["rows are short", {}, { rows: { data: new Uint8Array(6), shape: [1, 6] }, largest: { data: new Float32Array(2) } }, /rows are \[1, 6\], expected \[2, 6\]/],
  ["rows are floats", {}, { rows: { data: new Float32Array(12), shape: [2, 6] } }, /rows must be U8 or U16, got F32/],
  ["rows have no largest", {}, { rows: { data: new Uint8Array(12), shape: [2, 6] } }, /largest is missing/],
  ["the kind is odd", { kind: "word" }, {}, /kind in its info is "word"/],
  ["documents are no list", { documents: "x" }, {}, /documents in its info/],
  ["a document is a number", { documents: [1, 2] }, {}, /documents in its info/],
  ["sentences are negative", { sentences: -1 }, {}, /sentences in its info is -1/],
  ["notes are numbers", { notes: [1] }, {}, /notes in its info/],
  ["meta has an object", { meta: { a: {} } }, {}, /meta in its info/],
  ["normalized is text", { normalized: "yes" }, {}, /normalized in its info is "yes"/],
])("refused: %s", (_, info, tensors, message) => {
  expect(() => readView(viewFile(info, tensors))).toThrow(message);
  expect(() => readView(viewFile(info, tensors))).toThrow(UserError);
});

test("an info that is not a JSON object is refused", () => {
  for (const info of ["", "[]", "null", "{"]) expect(() => readView(viewFile({}, {}, { info }))).toThrow(/its info is not/);
});

test("keeps any names in meta", () => {
  const info = JSON.stringify({ ...JSON.parse('{"kind":"token","documents":["a","b"],"sentences":2,"normalized":true,"tokens":7}'), meta: 0 })
    .replace('"meta":0', '"meta":{"__proto__":"polluted","a\\u202e":"b\\u0000"}'); // prettier-ignore
  const { meta } = readView(viewFile({}, {}, { info }));
  expect(Object.entries(meta)).toEqual([["__proto__", "polluted"], ["a⟦U+202E⟧", "b⟦U+0000⟧"]]); // prettier-ignore
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});

test("reads the rows of an exported page", () => {
  const { rows } = readViewFile(viewFile({}, { rows: { data: new Uint16Array(12).fill(7), shape: [2, 6] }, largest: { data: new Float32Array([1, 2]) } }));
  expect(rows!.values).toEqual(new Uint16Array(12).fill(7));
  expect([...rows!.largest]).toEqual([1, 2]);
});
