import { describe, expect, test, vi } from "vitest";
import { BlobBytes, MemoryBytes } from "../../src/model/bytes";
import { openFlow, type OpenOptions } from "../../src/model/flowfile";
import { encode, type Writable } from "../../src/model/safetensors";
import { type By, type Edges, type FlowSource, type Span, UserError } from "../../src/model/types";
import { readView } from "../../src/model/view";
import { fixture, flowFile, LargeFlow, scoreOf } from "./flows";

const open = (bytes: Uint8Array, options?: OpenOptions): Promise<FlowSource> => openFlow(new MemoryBytes(bytes), "f", options);
const near = (found: ArrayLike<number>, expected: ArrayLike<number>, digits = 6): void => {
  expect(found.length).toBe(expected.length);
  for (let i = 0; i < found.length; i++) expect(found[i]).toBeCloseTo(expected[i]!, digits);
};
const span = (text: string): Span => {
  const [start, stop] = text.split("-").map(Number);
  return { start: start!, stop: stop! };
};

interface Said {
  text: string;
  rows: Record<string, number[]>;
  received: Record<string, number[]>;
  edges: Record<string, { rows: number[]; pieces: number[]; mass: number[]; total: number }>;
}

describe.each([["kept in memory", undefined], ["read by slices", { keep: 0 }]])("a flow file written by attributor, %s", (_, options) => {
  const said = JSON.parse(new TextDecoder().decode(fixture("said.json"))) as Said;

  test("has the same view as from the server", async () => {
    const view = await (await open(fixture("flow.safetensors"), options)).view();
    const expected = readView(fixture("view.safetensors"));
    const { total, base, onAnswer, missing, ...rest } = view;
    const { total: expectedTotal, base: expectedBase, onAnswer: expectedOn, missing: expectedMissing, ...expectedRest } = expected;
    expect(rest).toEqual(expectedRest);
    expect(view.text).toBe(said.text);
    near(total, expectedTotal);
    near(base, expectedBase);
    near(onAnswer!, expectedOn!);
    near(missing!, expectedMissing!);
  });

  test("has the same rows, sums and edges as from the server", async () => {
    const flow = await open(fixture("flow.safetensors"), options);
    for (const [rows, expected] of Object.entries(said.rows)) near(await flow.rows(span(rows)), expected);
    for (const [units, expected] of Object.entries(said.received)) near(await flow.received(span(units)), expected);
    for (const [question, expected] of Object.entries(said.edges)) {
      const [by, rows, units, limit] = question.split(" ") as [By, string, string, string];
      const edges: Edges = await flow.edges(by, span(rows), units === "all" ? null : span(units), Number(limit));
      expect([...edges.rows]).toEqual(expected.rows);
      expect([...edges.pieces]).toEqual(expected.pieces);
      near(edges.mass, expected.mass);
      expect(edges.total).toBeCloseTo(expected.total, 5);
    }
  });
});

describe("a flow file", () => {
  test("without sentences is split at its documents", async () => {
    const view = await (await open(flowFile())).view();
    expect([...view.sentenceOf]).toEqual([0, 0, 1, 1, -1, 2, 2, 3, 3]);
    expect([...view.documentOf]).toEqual([0, 0, 0, 0, -1, 1, 1, 1, 1]);
    expect(view.documents).toEqual(["First", ""]);
    expect(view.answer).toEqual(["Yes", "."]);
    expect(view.title).toBe("attributor: Yes.");
  });

  test("with sentences keeps them", async () => {
    const sentences = { data: Int32Array.of(0, 9, 11, 23), shape: [2, 2] };
    const view = await (await open(flowFile({ sentences }))).view();
    expect([...view.sentenceOf]).toEqual([0, 0, 0, 0, -1, 1, 1, 1, 1]);
  });

  test("without text shows ids, without an answer the next token", async () => {
    const none = { text: null, offsets: null, answer: null, answer_offsets: null };
    const view = await (await open(flowFile(none, { documents: "[]" }))).view();
    expect(view.text).toBe("0 1 2 3 4 5 6 7 8 ");
    expect(view.answer).toEqual(["9 ", "10 "]);
    expect(view.sentences).toBe(0);
    expect(view.title).toBe("attributor: a flow");
    expect(view.notes.join()).toMatch(/carries no text/);
    const one = { scores: { data: new Float32Array(9).fill(0.1), shape: [1, 9] }, ids: { data: new BigInt64Array(9) }, missing_mass: { data: new Float32Array(1) } };
    const next = await (await open(flowFile({ ...one, answer: { data: new Uint8Array(0) }, answer_offsets: { data: new Int32Array(0), shape: [0, 2] } }))).view();
    expect(next.answer).toEqual(["(the next token)"]);
  });

  test("that is not normalised has an unknown rest, and a note says so", async () => {
    const files = [
      flowFile({ missing_mass: null }),
      flowFile({ missing_mass: null }, { normalized: "true" }),
      flowFile({}, { normalized: "false" }),
      flowFile({}, { meta: '{"normalize": "False"}' }), // written by version 0.1
    ];
    for (const file of files) {
      const view = await (await open(file)).view();
      expect([view.normalized, view.onAnswer]).toEqual([false, null]);
      expect(view.notes.join()).toMatch(/what came from the documents/);
    }
  });

  test("reads `normalized` from its own key, not from meta", async () => {
    const view = await (await open(flowFile({}, { normalized: "true", meta: '{"normalize": "false"}' }))).view();
    expect([view.normalized, view.onAnswer?.length]).toEqual([true, 2]);
  });

  test("with negative scores has a note that they are shown as 0", async () => {
    const scores = new Float32Array(18).fill(0.01);
    scores[3] = -0.01;
    expect((await (await open(flowFile({ scores: { data: scores, shape: [2, 9] } }))).view()).notes.join()).toMatch(/Negative scores/);
    expect((await (await open(flowFile())).view()).notes).toEqual([]);
  });

  test.each(["F16", "BF16"])("of %s is read too", async (dtype) => {
    const bits = new Uint16Array(18).fill(dtype === "F16" ? 0x2c00 : 0x3d80); // both 0.0625
    const json = new TextDecoder("latin1").decode(flowFile({ scores: { data: bits, shape: [2, 9] } })).replace('"U16"', `"${dtype}"`);
    const file = Uint8Array.from(json, (c) => c.charCodeAt(0));
    // the header's length changes with the name of the dtype
    new DataView(file.buffer).setBigUint64(0, new DataView(file.buffer).getBigUint64(0, true) + BigInt(dtype.length - 3), true);
    near((await (await open(file)).view()).total, new Float32Array(9).fill(0.0625));
  });

  test("keeps any names in its meta", async () => {
    const view = await (await open(flowFile({}, { meta: '{"__proto__": "x", "n": 3}' }))).view();
    expect(Object.entries(view.meta)).toEqual([["__proto__", "x"], ["n", "3"]]); // prettier-ignore
  });

  test("is read from a local file, with progress", async () => {
    const onProgress = vi.fn();
    const flow = await openFlow(new BlobBytes(new Blob([flowFile()])), "f", { onProgress });
    expect(onProgress).not.toHaveBeenCalled();
    await Promise.all([flow.view(), flow.view()]);
    expect(onProgress.mock.calls.map(([share]) => share as number)).toEqual([0, 0.5, 1]);
  });

  test("refuses rows and units out of range", async () => {
    for (const options of [{}, { keep: 0 }]) {
      const flow = await open(flowFile(), options);
      await expect(flow.rows({ start: 0, stop: 3 })).rejects.toThrow(/There are 2 rows/);
      await expect(flow.received({ start: 9, stop: 10 })).rejects.toThrow(/There are 9 pieces/);
      await expect(flow.edges("token", { start: 0, stop: 1 }, { start: 3, stop: 3 }, 2)).rejects.toThrow(UserError);
    }
  });
});

describe("refused with the messages of attributor.load", () => {
  const refused = async (bytes: Uint8Array, message: RegExp): Promise<void> => {
    const opening = open(bytes).then((flow) => flow.view());
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(UserError);
  };
  const i64 = (count: number): Writable => ({ data: new BigInt64Array(count) });

  test.each<[string, Uint8Array, RegExp]>([
    ["text", new TextEncoder().encode("just some text that is no flow at all"), /^f is not a flow file, or only the beginning of one \(37 bytes\)/],
    ["an archive", new Uint8Array([0x50, 0x4b, 3, 4, ...new Array<number>(200).fill(0)]), /not a flow file/],
    ["no metadata", encode({}, {}), /^f is a safetensors file but not a flow \(format: none, expected "attributor.flow"\)/],
    ["another format", flowFile({}, { format: "pt" }), /not a flow \(format: "pt", expected "attributor.flow"\)/],
    ["a newer version", flowFile({}, { version: "2" }), /newer attributor \(flow version 2, this one reads up to 1\): pip install -U attributor/],
    ["a far newer version", flowFile({}, { version: "999999999999" }), /newer attributor/],
    ["an odd version", flowFile({}, { version: "x" }), /unknown version "x"; versions are 1 to 1/],
    ["version 0", flowFile({}, { version: "0" }), /unknown version "0"/],
    ["no version", flowFile({}, { version: null }), /unknown version none/],
    ["no scores", flowFile({ scores: null }), /f is a flow file whose parts do not fit together: 'scores' is missing/],
    ["no ids", flowFile({ ids: null }), /'ids' is missing/],
    ["text without offsets", flowFile({ offsets: null }), /text and offsets go together/],
    ["an answer without offsets", flowFile({ answer_offsets: null }), /answer and answer_offsets go together/],
    ["too few ids", flowFile({ ids: i64(3) }), /scores \(2, 9\) need ids of 9 prompt and 2 answer tokens, got \(3\)/],
    ["no prompt", flowFile({ scores: { data: new Float32Array(0), shape: [2, 0] } }), /at least one row and one column, got \(2, 0\)/],
    ["scores that are a list", flowFile({ scores: { data: new Float32Array(9) } }), /scores must be a 2-dimensional tensor of floats, got \(9\) of F32/],
    ["scores that are integers", flowFile({ scores: { data: new Int32Array(18), shape: [2, 9] } }), /tensor of floats, got \(2, 9\) of I32/],
    ["NaN", flowFile({ scores: { data: new Float32Array(18).fill(NaN), shape: [2, 9] } }), /must be finite in float32; 18 of 18 values are NaN/],
    ["infinity", flowFile({ scores: { data: new Float32Array(18).fill(Infinity, 3, 5), shape: [2, 9] } }), /2 of 18 values/],
    ["too much missing mass", flowFile({ missing_mass: { data: new Float32Array(99) } }), /missing_mass must be \(2\)/],
    ["text that is not UTF-8", flowFile({ text: { data: new Uint8Array(23).fill(255) } }), /text is not utf-8/],
    ["text of floats", flowFile({ text: { data: new Float32Array(3) } }), /text must be bytes of UTF-8, got \(3\) of F32/],
    ["too few offsets", flowFile({ offsets: { data: new Int32Array(4), shape: [2, 2] } }), /offsets must be \(9, 2\), a span a token, got \(2, 2\)/],
    ["offsets past the text", flowFile({ offsets: { data: new Int32Array(18).fill(24), shape: [9, 2] } }), /0 <= start <= stop <= 23, the length of text/],
    ["offsets backwards", flowFile({ offsets: { data: Int32Array.from({ length: 18 }, (_, i) => 1 - (i % 2)), shape: [9, 2] } }), /0 <= start <= stop/],
    ["documents that are no JSON", flowFile({}, { documents: "[[0, 5" }), /do not fit together/],
    ["documents past the text", flowFile({}, { documents: "[[0, 99999, null]]" }), /document 0 spans characters 0 to 99999; the text has 23/],
    ["an empty document", flowFile({}, { documents: "[[3, 3, null]]" }), /a span may not be empty/],
    ["documents over one another", flowFile({}, { documents: "[[5, 9, null], [0, 6, null]]" }), /document 1 \(characters 0 to 6\) and document 0 \(5 to 9\) overlap/],
    ["half a document", flowFile({}, { documents: "[[0]]" }), /document 0 must be \[start, stop, label or null\]/],
    ["a number of documents", flowFile({}, { documents: "7" }), /do not fit together: documents must be a list/],
    ["a list of meta", flowFile({}, { meta: "[1]" }), /meta must be an object/],
    ["normalized of another word", flowFile({}, { normalized: "yes" }), /normalized must be "true" or "false", got "yes"/],
    ["sentences out of order", flowFile({ sentences: { data: Int32Array.of(5, 9, 0, 4), shape: [2, 2] } }), /sentences must be spans of the text's 23 characters, in order/],
    ["sentences past the text", flowFile({ sentences: { data: Int32Array.of(5, 24), shape: [1, 2] } }), /sentences must be spans/],
    ["sentences of three", flowFile({ sentences: { data: Int32Array.of(0, 5, 9), shape: [1, 3] } }), /sentences must be \(s, 2\)/],
  ])("%s", (_, bytes, message) => refused(bytes, message));

  test("every truncation, and extra bytes", async () => {
    const whole = flowFile();
    for (let length = 0; length < whole.length; length += 13) await refused(whole.slice(0, length), /only the beginning|corrupt or truncated/);
    await refused(Uint8Array.of(...whole, 1, 2), /corrupt or truncated/);
  });
});

describe("a flow of 200,000 tokens x 90 rows", () => {
  const [o, k] = [90, 200_000];
  const bytes = new LargeFlow(o, k);
  const opening = openFlow(bytes, "large", { onProgress: () => undefined });

  test("is read once for its view", async () => {
    const flow = await opening;
    expect(bytes.scoresRead).toBe(0);
    const view = await flow.view();
    expect(bytes.scoresRead).toBe(4 * o * k);
    expect(view.ends.length).toBe(k);
    for (const token of [0, 1, 99_999, k - 1]) {
      let sum = 0;
      for (let row = 0; row < o; row++) sum += scoreOf(row, token);
      expect(view.total[token]).toBeCloseTo(sum / o, 9);
    }
  });

  test.each([[0, 1], [89, 90], [3, 5], [1, 89], [0, 60], [17, 90], [4, 10]])("computes the mean of rows %i to %i, and reads little for it", async (start, stop) => {
    const flow = await opening;
    bytes.scoresRead = 0;
    const mean = await flow.rows({ start, stop });
    expect(bytes.scoresRead).toBeLessThanOrEqual(4 * k * Math.min(stop - start, 2 * 4));
    for (const token of [0, 77_777, k - 1]) {
      let sum = 0;
      for (let row = start; row < stop; row++) sum += scoreOf(row, token);
      expect(mean[token]).toBeCloseTo(sum / (stop - start), 9);
    }
    bytes.scoresRead = 0;
    expect(await flow.rows({ start, stop })).toBe(mean);
    expect(flow.peek!({ start, stop })).toBe(mean);
    expect(bytes.scoresRead).toBe(0);
  });

  test("computes the amount that rows took from some units, and reads only these", async () => {
    const flow = await opening;
    bytes.scoresRead = 0;
    const received = await flow.received({ start: 500, stop: 503 });
    expect(bytes.scoresRead).toBe(4 * o * 3);
    for (const row of [0, 63, 64, 89]) expect(received[row]).toBeCloseTo(scoreOf(row, 500) + scoreOf(row, 501) + scoreOf(row, 502), 9);
  });

  test("finds the largest edges of some units", async () => {
    const flow = await opening;
    const edges = await flow.edges("token", { start: 2, stop: 4 }, { start: 100, stop: 5_000 }, 10);
    const all: number[] = [];
    for (const row of [2, 3]) for (let token = 100; token < 5_000; token++) all.push(scoreOf(row, token));
    near(edges.mass, all.sort((a, b) => b - a).slice(0, 10), 9);
    edges.mass.forEach((mass, i) => expect(mass).toBeCloseTo(scoreOf(edges.rows[i]!, edges.pieces[i]!), 9));
    expect(edges.total).toBeCloseTo(all.reduce((a, b) => a + b, 0), 6);
    expect((await flow.edges("document", { start: 0, stop: 1 }, null, 5)).pieces).toEqual(Int32Array.of(-1));
  });
});
