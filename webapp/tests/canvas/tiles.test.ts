import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { niceAbove } from "../../src/canvas/tileaxes";
import { strongest } from "../../src/canvas/tilepixels";
import { Tiles } from "../../src/canvas/tiles";
import { TileStore } from "../../src/canvas/tilestore";
import type { Tile, TilePlace, TileSource } from "../../src/canvas/tilestore";
import { fakeCanvas, place, pointer, press } from "./views";

const SIZE = 4;
const tile = (fill: number, scale = 1, every = 1, size = SIZE): Tile => ({
  max: new Uint8Array(size * size).fill(fill), mean: new Uint8Array(size * size).fill(fill >> 1), scale: [scale, scale / 2], every,
});
const at = (row: number, col = 0, level = 0): TilePlace => ({ level, row, col });

describe("the store", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const make = (most = 96, ms = 10) => {
    const stopped: string[] = [], asked: string[] = [], changed = vi.fn(), failed = vi.fn();
    let refuse: Error | null = null;
    const source: TileSource = {
      tokens: 64, size: SIZE, levels: 5,
      load: (level, row, col, signal) => new Promise((resolve, reject) => {
        const key = `${level}/${row}/${col}`;
        asked.push(key);
        setTimeout(() => (refuse ? reject(refuse) : resolve(tile(row))), ms);
        signal.addEventListener("abort", () => { stopped.push(key); reject(new DOMException("", "AbortError")); });
      }),
    };
    return { store: new TileStore(source, changed, failed, most), asked, stopped, changed, failed, refuse: (error: Error | null) => void (refuse = error) };
  };

  test("requests four tiles at a time, the most important first, and each once", async () => {
    const { store, asked, changed } = make();
    store.want([0, 1, 2, 3, 4, 5].map((row) => at(row)));
    expect(asked).toEqual(["0/0/0", "0/1/0", "0/2/0", "0/3/0"]);
    expect(store.pending).toBe(6);
    await vi.advanceTimersByTimeAsync(30);
    expect(asked).toHaveLength(6);
    store.want([0, 1].map((row) => at(row)));
    await vi.advanceTimersByTimeAsync(300);
    expect(asked).toHaveLength(6);
    expect(changed).toHaveBeenCalledTimes(6);
    expect(store.get(at(5))?.max[0]).toBe(5);
  });

  test("requests of tiles that leave the view are aborted; new ones wait until the view rests", async () => {
    const { store, asked, stopped } = make(96, 1000);
    store.want([at(0), at(1)]);
    for (let row = 2; row < 40; row++) store.want([at(row)]);
    expect(stopped).toEqual(["0/0/0", "0/1/0"]);
    await vi.advanceTimersByTimeAsync(149);
    expect(asked).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(2);
    expect(asked).toEqual(["0/0/0", "0/1/0", "0/39/0"]);
  });

  test("keeps the most recently requested tiles", async () => {
    const { store } = make(3);
    store.want([at(0), at(1), at(2)]);
    await vi.advanceTimersByTimeAsync(20);
    store.want([at(0), at(3)]); // 0 is requested again, so 1 is the oldest
    await vi.advanceTimersByTimeAsync(200);
    expect([0, 1, 2, 3].map((row) => store.get(at(row)) !== null)).toEqual([true, false, true, true]);
  });

  test("an error is reported once, clears the queue, and can be retried", async () => {
    const { store, asked, failed, refuse } = make();
    refuse(new Error("no"));
    store.want([0, 1, 2, 3, 4, 5, 6].map((row) => at(row)));
    await vi.advanceTimersByTimeAsync(500);
    expect(asked).toHaveLength(4);
    expect(failed).toHaveBeenCalled();
    refuse(null);
    store.want([at(0)]);
    await vi.advanceTimersByTimeAsync(500);
    expect(store.get(at(0))).not.toBeNull();
  });

  test("after destroy() nothing is reported", async () => {
    const { store, changed, failed } = make();
    store.want([at(0), at(1)]);
    store.destroy();
    await vi.advanceTimersByTimeAsync(500);
    expect(changed).not.toHaveBeenCalled();
    expect(failed).not.toHaveBeenCalled();
  });
});

test("the colour scale ends at round numbers, and the strongest cells have the largest values", () => {
  expect([0.03, 0.2, 0.21, 0.9, 3, 70].map(niceAbove)).toEqual([0.05, 0.2, 0.5, 1, 5, 100]);
  const a = tile(10), b = tile(20, 0.5);
  a.max[6] = 200;
  b.max[3] = 255;
  const found = strongest([{ place: at(0), tile: a }, { place: at(2, 1, 1), tile: b }], "max", SIZE, 2);
  expect(found.map(({ query, key }) => [query, key])).toEqual([[1, 2], [16, 14]]);
  expect(found[0].value).toBeCloseTo((200 / 255) ** 2, 9);
});

describe("the picture", () => {
  const onHover = vi.fn(), onScale = vi.fn(), onFail = vi.fn(), load = vi.fn((_level: number, row: number) => Promise.resolve(tile(128, 0.04 * (row + 1), 3, 256)));
  let drawn: ReturnType<typeof fakeCanvas>, canvas: HTMLCanvasElement, tiles: Tiles;
  const source: TileSource = { tokens: 1000, size: 256, levels: 3, load: (level, row, col, signal) => (void signal, void col, load(level, row)) };
  beforeEach(() => {
    vi.clearAllMocks();
    drawn = fakeCanvas(800);
    canvas = place();
    tiles = new Tiles(canvas, { onHover, onScale, onFail });
    tiles.set({ source, mode: "max", label: (p) => `t${p}` });
    drawn.frame();
  });
  afterEach(() => {
    tiles.destroy();
    drawn.restore();
    document.body.replaceChildren();
  });

  test("requests only tiles at or below the diagonal, at the level where a cell is a pixel or more", async () => {
    // 1000 tokens on 640 pixels: two tokens per cell, two tiles per side, of which one is above the diagonal.
    expect(load.mock.calls).toEqual(expect.arrayContaining([[1, 0], [1, 1], [1, 1]]));
    expect(load).toHaveBeenCalledTimes(3);
    await vi.waitFor(() => expect(onScale).toHaveBeenLastCalledWith(0.1, 0, 3));
    drawn.clear();
    drawn.frame();
    expect(drawn.count("drawImage")).toBe(3);
  });

  test("a cell has its tokens and both of its values", async () => {
    await vi.waitFor(() => expect(onScale).toHaveBeenLastCalledWith(0.1, 0, 3));
    pointer(canvas, "pointermove", 62 + 64, 52 + 320);
    const cell = onHover.mock.lastCall?.[0];
    expect(cell).toMatchObject({ query: 500, key: 100, span: 2, every: 3 });
    expect(cell.max).toBeCloseTo(0.04 * (128 / 255) ** 2, 9);
    expect(tiles.hit(10, 300)).toBeNull();
  });

  test("arrow keys move by one cell; zoomed in, single tokens show their texts", async () => {
    press(canvas, "ArrowDown");
    const first = onHover.mock.lastCall?.[0];
    press(canvas, "ArrowDown");
    expect(onHover.mock.lastCall?.[0].query - first.query).toBe(2);
    for (let i = 0; i < 6; i++) press(canvas, "+");
    drawn.clear();
    drawn.frame();
    expect(drawn.texts().filter((text) => /^t\d+$/.test(text)).length).toBeGreaterThan(20);
  });
});
