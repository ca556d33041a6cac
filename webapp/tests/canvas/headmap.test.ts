import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { HeadMap, shade } from "../../src/canvas/headmap";
import type { HeadMapData } from "../../src/canvas/headmap";
import { fakeCanvas, place, pointer, press } from "./views";

const values = Float32Array.of(0, 0.5, NaN, 1, 0.25, 0.1);
const data = (change: Partial<HeadMapData> = {}): HeadMapData => ({ layers: 2, heads: 3, values, most: 1, sqrt: false, chosen: new Set(), write: (v) => v.toFixed(2), ...change });
const onHover = vi.fn(), onPick = vi.fn(), onToggle = vi.fn();
let drawn: ReturnType<typeof fakeCanvas>, canvas: HTMLCanvasElement, map: HeadMap;

beforeEach(() => {
  vi.clearAllMocks();
  drawn = fakeCanvas(400);
  canvas = place();
  map = new HeadMap(canvas, { onHover, onPick, onToggle });
  map.set(data());
  drawn.frame();
});
afterEach(() => {
  map.destroy();
  drawn.restore();
  document.body.replaceChildren();
});

test("a recorded head is a cell with its number, another head is a dot", () => {
  expect(drawn.texts()).toEqual(expect.arrayContaining(["0.00", "0.50", "1.00", "0.25", "0.10"]));
  expect(drawn.count("arc")).toBe(1);
});

test("colours grow with the value; a square root separates small values", () => {
  expect([0, 0.25, 1, 7].map((v) => shade(v, 1, false))).toEqual([0, 64, 255, 255]);
  expect(shade(0.25, 1, true)).toBe(128);
  expect(shade(0.5, 0, true)).toBe(0);
});

test("hits cells and row labels, and nothing beside them", () => {
  const cell = map.box({ layer: 1, head: 2 });
  expect(map.hit(cell.x + 3, cell.y + 3)).toEqual({ layer: 1, head: 2 });
  expect(map.hit(5, cell.y + 3)).toEqual({ layer: 1, head: -1 });
  expect(map.hit(cell.x + cell.width + 3, cell.y + 3)).toBeNull();
  expect(map.hit(cell.x, 2)).toBeNull();
  pointer(canvas, "click", cell.x + 3, cell.y + 3, { ctrlKey: true });
  expect(onPick).toHaveBeenCalledWith({ layer: 1, head: 2 }, { add: true });
});

test("keys move through the grid and stop at its edges; a row's label is left of its first head", () => {
  press(canvas, "ArrowRight");
  expect(onHover).toHaveBeenLastCalledWith({ layer: 0, head: 0 });
  press(canvas, "End");
  press(canvas, "ArrowRight");
  press(canvas, "ArrowDown");
  press(canvas, "ArrowDown");
  expect(onHover).toHaveBeenLastCalledWith({ layer: 1, head: 2 });
  press(canvas, " ");
  expect(onToggle).toHaveBeenLastCalledWith({ layer: 1, head: 2 });
  press(canvas, "Enter");
  expect(onPick).toHaveBeenLastCalledWith({ layer: 1, head: 2 }, { add: false });
  press(canvas, "Home", { ctrlKey: true });
  press(canvas, "Enter");
  expect(onPick).toHaveBeenLastCalledWith({ layer: 0, head: -1 }, { add: false });
  expect(press(canvas, "x")).toBe(true);
});

test("chosen heads have an outline of two colours, visible on every cell", () => {
  const before = drawn.count("stroke");
  map.set(data({ chosen: new Set([4, 5]) }));
  drawn.frame();
  expect(drawn.count("stroke") - 2 * before).toBe(4);
});

test("a model of 80 layers and 64 heads fits the width, without numbers", () => {
  drawn.clear();
  map.set(data({ layers: 80, heads: 64, values: new Float32Array(5120).fill(0.5) }));
  drawn.frame();
  const last = map.box({ layer: 79, head: 63 });
  expect(last.x + last.width).toBeLessThanOrEqual(400.001);
  expect(last.height).toBeGreaterThanOrEqual(9);
  expect(drawn.texts()).not.toContain("0.50");
});

test("drawing labels ends even without room for a cell", () => {
  vi.spyOn(HTMLElement.prototype, "clientWidth", "get").mockReturnValue(20); // less than the width of the row labels
  map.resize();
  drawn.frame();
  expect(map.box({ layer: 0, head: 2 }).width).toBeGreaterThan(0);
});
