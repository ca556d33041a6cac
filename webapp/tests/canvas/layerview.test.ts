import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { LayerView } from "../../src/canvas/layerview";
import type { LayerData, LayerEdge } from "../../src/canvas/layerview";
import { DASHES } from "../../src/canvas/theme";
import { fakeCanvas, place, pointer, press, smallView } from "./views";

const view = smallView();
const edges: LayerEdge[] = [
  { row: 1, unit: 3, head: 0, mass: 0.6 }, { row: 1, unit: 8, head: 1, mass: 0.3 }, { row: 2, unit: 4, head: 0, mass: 0.1 }, { row: 0, unit: 0, head: 2, mass: 0.2 },
];
const data = (change: Partial<LayerData> = {}): LayerData => ({ view, edges, rows: { start: 0, stop: 3 }, colours: [0, 1, -1], only: null, picked: [], full: null, ...change });
const onHover = vi.fn(), onPick = vi.fn(), onDrawn = vi.fn();
const inPicture = (): LayerEdge[] => onDrawn.mock.lastCall?.[0] as LayerEdge[];
let drawn: ReturnType<typeof fakeCanvas>, canvas: HTMLCanvasElement, layer: LayerView;

beforeEach(() => {
  vi.clearAllMocks();
  drawn = fakeCanvas();
  canvas = place();
  layer = new LayerView(canvas, { onHover, onPick, onDrawn });
});
afterEach(() => {
  layer.destroy();
  drawn.restore();
  document.body.replaceChildren();
});
const show = (change: Partial<LayerData> = {}): void => {
  drawn.clear();
  layer.set(data(change));
  drawn.frame();
};

test("shows the attended tokens in the order of the text, with dots for gaps", () => {
  show();
  const texts = drawn.texts();
  expect(texts.filter((t) => ["<s>", "Paris", "is", "Lille"].includes(t))).toEqual(["<s>", "Paris", "is", "Lille", "Paris"]); // the last is the answer's
  expect(texts.filter((t) => t === "⋯")).toHaveLength(2); // no gap between "Paris" and "is"
  expect(drawn.count("bezierCurveTo")).toBe(4);
});

test("heads differ by dashes too; heads without a colour have no dashes", () => {
  show();
  const dashes = drawn.calls.filter(([name]) => name === "setLineDash").map(([, dash]) => String(dash));
  expect(dashes).toContain(String(DASHES[1]));
});

test("without room for all tokens those with the most attention stay, and the drawn part is reported", () => {
  const many = Array.from({ length: 400 }, (_, i) => ({ row: 0, unit: i, head: 0, mass: i === 7 ? 1 : 0.001 + i / 1e6 }));
  const ends = Int32Array.from({ length: 400 }, (_, i) => 9 * (i + 1));
  show({ view: smallView({ text: "some word".repeat(400), ends }), edges: many });
  expect(inPicture().length).toBeGreaterThan(4);
  expect(inPicture().length).toBeLessThan(20);
  expect(inPicture().map((edge) => edge.unit)).toContain(7);
});

test("destroying a picture under the pointer ends the hover", () => {
  show();
  press(canvas, "ArrowUp");
  expect(onHover).toHaveBeenLastCalledWith({ kind: "unit", unit: 0 });
  layer.destroy();
  expect(onHover).toHaveBeenLastCalledWith(null);
});

test("of hundreds of rows those with the most attention are shown", () => {
  const rows = Array.from({ length: 512 }, () => " word");
  show({ view: smallView({ answer: rows }), rows: { start: 0, stop: 512 }, edges: [{ row: 300, unit: 3, head: 0, mass: 1 }] });
  expect(inPicture()).toHaveLength(1);
  expect(drawn.texts().filter((t) => t === "word").length).toBeLessThan(40);
});

describe("weights", () => {
  const widths = (): number[] => {
    const found: number[] = [];
    vi.spyOn(LayerView.prototype as unknown as { curve(pen: unknown, edge: LayerEdge, s: number): void }, "curve").mockImplementation(function (this: LayerView, _pen, edge) {
      found.push(Math.min(1, edge.mass / (this as unknown as { largest: number }).largest));
    });
    show();
    show({ full: 1 });
    vi.restoreAllMocks();
    return found;
  };

  test("are relative to the largest mass, or absolute", () => {
    const found = widths();
    expect(found[3]).toBe(1);
    expect(found[7]).toBeCloseTo(0.6, 9);
  });
});

test("pointing hits a token, a row or a curve, but no hidden head", () => {
  show();
  pointer(canvas, "pointermove", 400, 412 - 8);
  expect(onHover.mock.lastCall?.[0]).toMatchObject({ kind: "row", row: 1 });
  const hits = (change: Partial<LayerData>): string[] => {
    show(change);
    const found = new Set<string>();
    for (let x = 0; x < 800; x += 2) {
      const hit = layer.hit(x, 200);
      if (hit?.kind === "edge") found.add(`${hit.edge.head}`);
    }
    return [...found].sort();
  };
  expect(hits({})).toEqual(["0", "1", "2"]);
  expect(hits({ only: 1 })).toEqual(["1"]);
});

test("keys move through answer and prompt", () => {
  show();
  press(canvas, "ArrowDown");
  expect(onHover).toHaveBeenLastCalledWith({ kind: "row", row: 0 });
  press(canvas, "ArrowUp");
  press(canvas, "ArrowRight");
  expect(onHover).toHaveBeenLastCalledWith({ kind: "unit", unit: 3 });
  press(canvas, " ");
  expect(onPick).toHaveBeenLastCalledWith({ kind: "unit", unit: 3 }, { add: false });
});
