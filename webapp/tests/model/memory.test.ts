import { describe, expect, test } from "vitest";
import { groupsOf, TopEdges } from "../../src/model/edges";
import { MemoryFlow, PackedRows, PlainRows } from "../../src/model/memory";
import { UserError } from "../../src/model/types";
import { readView } from "../../src/model/view";
import { viewFile } from "./views";

/** Pseudo-random numbers, the same every time. */
export function numbers(count: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => (state = (state * 16807) % 2147483647) / 2147483647);
}

describe("the largest edges", () => {
  test.each([1, 2, 7, 100, 1000, 5000])("%i of 3,000 equal the result of sorting", (limit) => {
    const mass = numbers(3000).map((value) => Math.round(value * 50) / 50); // with many equal values
    const top = new TopEdges(limit);
    mass.forEach((value, i) => top.offer(Math.floor(i / 100), i % 100, value));
    const { rows, pieces, mass: found, total } = top.finish();
    const expected = [...mass.keys()].filter((i) => mass[i]! > 0).sort((a, b) => mass[b]! - mass[a]! || a - b).slice(0, limit);
    expect([...rows].map((row, i) => row * 100 + pieces[i]!)).toEqual(expected);
    expect([...found]).toEqual(expected.map((i) => mass[i]));
    expect(total).toBeCloseTo(mass.reduce((a, b) => a + b, 0), 3);
  });

  test("of no edges, and with limit 0", () => {
    expect(new TopEdges(5).finish()).toEqual({ rows: new Int32Array(0), pieces: new Int32Array(0), mass: new Float32Array(0), total: 0 });
    const none = new TopEdges(0);
    none.offer(0, 0, 2);
    none.offer(0, 1, -3);
    none.offer(0, 1, NaN);
    expect(none.finish()).toMatchObject({ total: 2, mass: new Float32Array(0) });
  });
});

describe.each(["plain", "packed in 16 bits", "packed in 8 bits"])("a flow in memory, %s", (kind) => {
  const view = readView(viewFile());
  const scores = numbers(12).map((value) => value / 8);
  const steps = kind === "packed in 8 bits" ? 255 : 65535;
  const largest = Float32Array.of(scores.slice(0, 6).reduce((a, b) => Math.max(a, b)), scores.slice(6).reduce((a, b) => Math.max(a, b)));
  const packed = Array.from(scores, (value, i) => Math.round(steps * Math.sqrt(value / largest[i < 6 ? 0 : 1]!)));
  const values = steps === 255 ? Uint8Array.from(packed) : Uint16Array.from(packed);
  const flow = new MemoryFlow(view, kind === "plain" ? new PlainRows(scores, 6) : new PackedRows({ values, largest }, 6));
  const digits = steps === 255 ? 2 : 4;
  const score = (row: number, unit: number): number => scores[6 * row + unit]!;

  test("has rows and means of rows", async () => {
    const [first, second] = [await flow.rows({ start: 0, stop: 1 }), await flow.rows({ start: 1, stop: 2 })];
    for (let unit = 0; unit < 6; unit++) {
      expect(first[unit]).toBeCloseTo(score(0, unit), digits);
      expect(second[unit]).toBeCloseTo(score(1, unit), digits);
    }
    expect(await flow.rows({ start: 0, stop: 2 })).toEqual(view.total);
  });

  test("computes the amount that each row took from some units", async () => {
    const received = await flow.received({ start: 1, stop: 4 });
    for (const row of [0, 1]) expect(received[row]).toBeCloseTo(score(row, 1) + score(row, 2) + score(row, 3), digits);
  });

  test("finds edges to sentences, documents and tokens, with the mass of all", async () => {
    const both = { start: 0, stop: 2 };
    const edges = await flow.edges("document", both, null, 4);
    const sums = [0, 1].flatMap((row) => [
      [row, -1, score(row, 0)],
      [row, 0, score(row, 1) + score(row, 2) + score(row, 3)],
      [row, 1, score(row, 4) + score(row, 5)],
    ]);
    sums.sort((a, b) => b[2]! - a[2]!);
    expect([...edges.rows].map((row, i) => [row, edges.pieces[i]])).toEqual(sums.slice(0, 4).map(([row, piece]) => [row, piece]));
    expect(edges.total).toBeCloseTo(scores.reduce((a, b) => a + b, 0), digits);

    const one = await flow.edges("token", { start: 1, stop: 2 }, { start: 2, stop: 4 }, 10);
    expect([...one.pieces].sort()).toEqual([2, 3]);
    expect([...one.rows]).toEqual([1, 1]);
    expect(one.total).toBeCloseTo(score(1, 2) + score(1, 3), digits);

    const inside = await flow.edges("sentence", { start: 0, stop: 1 }, { start: 1, stop: 2 }, 10);
    expect([...inside.pieces]).toEqual([0]);
    expect(inside.mass[0]).toBeCloseTo(score(0, 1), digits);
  });

  test("refuses rows and units out of range", async () => {
    await expect(flow.rows({ start: 1, stop: 3 })).rejects.toThrow(/There are 2 rows of the answer; 1 to 3/);
    await expect(flow.rows({ start: 1, stop: 1 })).rejects.toThrow(UserError);
    await expect(flow.received({ start: -1, stop: 3 })).rejects.toThrow(/There are 6 pieces/);
    await expect(flow.edges("token", { start: 0, stop: 1 }, { start: 0, stop: 7 }, 9)).rejects.toThrow(UserError);
  });
});

test("scores with another shape than the view are refused", () => {
  const view = readView(viewFile());
  expect(() => new MemoryFlow(view, new PlainRows(new Float32Array(6), 6))).toThrow(/1 rows and 6 pieces; the view has 2 and 6/);
  expect(() => new PlainRows(new Float32Array(7), 6)).toThrow();
  expect(() => new PackedRows({ values: new Uint8Array(7), largest: new Float32Array(2) }, 6)).toThrow();
});

test("the pieces of a view", () => {
  const view = readView(viewFile());
  expect(groupsOf(view, "sentence")).toEqual({ of: view.sentenceOf, count: 2 });
  expect(groupsOf(view, "document")).toEqual({ of: view.documentOf, count: 2 });
  expect(groupsOf(view, "token")).toEqual({ of: null, count: 6 });
});
