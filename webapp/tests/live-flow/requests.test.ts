import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { fetchHeads, fetchLayer, fetchTiles, fetchTrace } from "../../src/live/flow/requests";
import { encode } from "../../src/model/safetensors";
import type { Writable } from "../../src/model/safetensors";

const asked: string[] = [];
let answer: () => Response;
const tensors = (all: Record<string, Writable>) => () => new Response(encode(all));
const floats = (...data: number[]): Writable => ({ data: Float32Array.from(data) });
const ints = (...data: number[]): Writable => ({ data: Int32Array.from(data) });
const signal = new AbortController().signal;

beforeEach(() => {
  asked.length = 0;
  vi.stubGlobal("fetch", async (path: string) => (asked.push(path), answer()));
});
afterEach(() => void vi.unstubAllGlobals());

describe("requests", () => {
  test("fetch the numbers of all heads, for rows and units", async () => {
    const map: Writable = { data: Float32Array.of(1, NaN, 3, 4, 5, 6), shape: [2, 3] };
    answer = tensors({ mass: map, entropy: map, sink: map, distance: map, weight: map });
    const found = await fetchHeads("a b", { start: 2, stop: 5 }, { start: 7, stop: 9 }, signal);
    expect(asked).toEqual(["/api/flows/a%20b/heads?start=2&stop=5&unit_start=7&unit_stop=9"]);
    expect([found.layers, found.heads, found.mass[2], found.used]).toEqual([2, 3, 3, 3]);
    expect(found.weight[1]).toBeNaN();
  });

  test("fetch the attention of some heads of a layer", async () => {
    answer = tensors({ query: ints(0), key: ints(4), head: ints(3), mass: floats(0.5), totals: floats(0.7, 0.1), relative: floats(1, 0.2), rows_used: ints(64) });
    const found = await fetchLayer("f", 12, [3, 5], { start: 0, stop: 1 }, null, 100, signal);
    expect(asked).toEqual(["/api/flows/f/layer?layer=12&heads=3,5&start=0&stop=1&limit=100"]);
    expect(found.totals[0]).toBeCloseTo(0.7, 6);
    expect(found.used).toBe(64);
  });

  test("fetch routes", async () => {
    answer = () => Response.json({ levels: [], edges: [], shown: 0.9, exact: 1, paths: [] });
    expect((await fetchTrace("f", { start: 0, stop: 1 }, null, 0.9, 24, signal)).shown).toBe(0.9);
    expect(asked).toEqual(["/api/flows/f/trace?start=0&stop=1&keep=0.9&nodes=24"]);
  });

  test("fetch tiles and check their size", async () => {
    answer = () => Response.json({ tokens: 9, size: 2, levels: 3 });
    const source = await fetchTiles("f", [4, 1], signal);
    const bytes: Writable = { data: Uint8Array.of(1, 2, 3, 4), shape: [2, 2] };
    answer = tensors({ max: bytes, mean: bytes, scale: floats(0.5, 0.25), every: ints(4) });
    expect(await source.load(1, 2, 0, signal)).toMatchObject({ scale: [0.5, 0.25], every: 4 });
    expect(asked[1]).toBe("/api/flows/f/tile?layer=4&head=1&level=1&row=2&col=0");
    answer = tensors({ max: { data: Uint8Array.of(1) }, mean: bytes, scale: floats(1, 1), every: ints(1) });
    await expect(source.load(1, 2, 0, signal)).rejects.toThrow("not 2 x 2");
  });

  test("a response of another version raises a readable error", async () => {
    answer = tensors({ mass: { data: new Float32Array(4), shape: [2, 2] } });
    await expect(fetchHeads("f", { start: 0, stop: 1 }, null, signal)).rejects.toThrow('lacks "entropy"');
  });
});
