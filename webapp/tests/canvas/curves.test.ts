import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Curves } from "../../src/canvas/curves";
import type { CurvesData, CurvesHit } from "../../src/canvas/curves";
import { CURVES, PIECES, Plan, progress } from "../../src/canvas/plan";
import { fakeCanvas, place, pointer, press, smallView } from "./views";

const lens = { k: 1, applyX: (x: number) => x, invertX: (x: number) => x };
const view = smallView();
const edges = { rows: Int32Array.of(1, 0, 1, 2), pieces: Int32Array.of(0, 1, -1, 1), mass: Float32Array.of(0.4, 0.2, 0.9, 0.05), total: 1.6 };
const data = (change: Partial<CurvesData> = {}): CurvesData => ({ view, by: "document", edges, rows: null, scores: view.total, picked: [], room: "text", grain: "document", ...change });

describe("the plan", () => {
  const plan = new Plan(data(), null);
  plan.fit(800, 460, (text) => 10 * text.length);

  test("draws the largest curve last; the template does not set the scale", () => {
    expect(plan.order).toEqual([3, 1, 0, 2]);
    expect([plan.part(0), plan.part(1), plan.part(2)]).toEqual([1, 0.5, 1].map((x) => expect.closeTo(x, 6)));
    expect(plan.asides).toBe(1);
    expect(new Plan(data({ by: "token", edges: { ...edges, pieces: Int32Array.of(0, 3, 4, 5) } }), null).isAside(0)).toBe(true);
  });

  test("finds pieces, curves and rows at their places", () => {
    const [x, width] = plan.extent({ start: 3, stop: 8 }, lens);
    expect(plan.hit(x + width / 2, PIECES + 5, lens)).toEqual({ kind: "piece", by: "document", group: 0, units: { start: 3, stop: 8 } });
    expect(plan.hit(plan.rows.x[1] + 3, plan.rowTop + 5, lens)).toEqual({ kind: "row", row: 1 });
    expect(plan.hit(1, plan.rowTop + 5, lens)).toBeNull();
    const ends = plan.ends(0, lens) as [number, number];
    for (const down of [0.05, 0.3, 0.5, 0.8]) {
      const y = CURVES + down * (plan.rowTop - CURVES), at = ends[0] + (ends[1] - ends[0]) * progress(down);
      expect(plan.hit(at, y, lens)).toMatchObject({ kind: "edge", row: 1 });
    }
    expect(plan.hit(799, CURVES + 20, lens)).toBeNull();
    expect(plan.hit(5, 5, lens)).toBeNull();
  });

  test("curves of text outside of documents end at its part with the most flow", () => {
    expect(plan.unitsOf("document", -1)).toEqual({ start: 0, stop: 3 });
    const scores = new Float32Array(15);
    scores[14] = 1;
    expect(new Plan(data({ scores }), null).unitsOf("document", -1)).toEqual({ start: 13, stop: 15 });
  });

  test("documents above sentences can be hit", () => {
    const fine = new Plan(data({ grain: "sentence" }), plan);
    fine.fit(800, 460, () => 10);
    expect(fine.at).toBe(plan.at); // the layout of the view is reused
    const [x] = fine.extent({ start: 3, stop: 6 }, lens);
    expect(fine.hit(x + 3, 25, lens)).toMatchObject({ kind: "piece", by: "document", group: 0 });
    expect(fine.hit(x + 3, PIECES + 3, lens)).toMatchObject({ kind: "piece", by: "sentence", group: 0 });
  });

  test("100,000 units are laid out and hit-tested fast", () => {
    const u = 100_000, ends = Int32Array.from({ length: u }, (_, i) => 5 * (i + 1));
    const big = smallView({ text: "abcd ".repeat(u), ends, total: new Float32Array(u).fill(1 / u), documentOf: ends.map((_, i) => Math.floor(i / 500)), sentenceOf: ends.map((_, i) => Math.floor(i / 25)), sentences: 4000, documents: Array(200).fill("") });
    const n = 1000, many = { rows: new Int32Array(n), pieces: Int32Array.from({ length: n }, (_, i) => i % 200), mass: new Float32Array(n).fill(1e-3), total: 1 };
    const started = performance.now(), plan = new Plan(data({ view: big, scores: big.total, edges: many }), null);
    plan.fit(800, 460, () => 10);
    for (let i = 0; i < 100; i++) plan.hit(8 * i, 200, lens);
    expect(performance.now() - started).toBeLessThan(1500);
    expect(plan.window(lens)).toEqual({ units: { start: 0, stop: u }, by: "document", zoomed: false });
  });

  test("the horizontal progress of a curve is that of the Bézier curve", () => {
    for (const t of [0, 0.1, 0.35, 0.5, 0.77, 1]) {
      const u = 1 - t, y = 3 * u * u * t * 0.5 + 3 * u * t * t * 0.5 + t ** 3, x = 3 * u * t * t + t ** 3;
      expect(progress(y)).toBeCloseTo(x, 5);
    }
  });
});

describe("the picture", () => {
  let drawn: ReturnType<typeof fakeCanvas>, canvas: HTMLCanvasElement, curves: Curves;
  const onHover = vi.fn(), onPick = vi.fn(), onOpen = vi.fn(), onWindow = vi.fn();
  beforeEach(() => {
    vi.clearAllMocks();
    drawn = fakeCanvas();
    canvas = place();
    curves = new Curves(canvas, { onHover, onPick, onOpen, onWindow });
    curves.set(data());
    drawn.frame();
  });
  afterEach(() => {
    curves.destroy();
    drawn.restore();
    document.body.replaceChildren();
  });

  test("draws every curve once with one gradient, and labels the pieces that are wide enough", () => {
    expect(drawn.count("bezierCurveTo")).toBe(4);
    expect(drawn.count("createLinearGradient")).toBe(1);
    expect(drawn.texts()).toEqual(expect.arrayContaining(["Cities", "Document 2", "In", "Paris", "."]));
    expect(onWindow).toHaveBeenLastCalledWith({ start: 0, stop: 15 }, "document", false);
  });

  test("pointing draws only the upper layer: a translucent cover and the curves of the element", () => {
    drawn.clear();
    pointer(canvas, "pointermove", 400, 440);
    drawn.frame();
    const hit = onHover.mock.lastCall?.[0] as CurvesHit;
    expect(hit).toEqual({ kind: "row", row: 1 });
    expect(drawn.count("bezierCurveTo")).toBe(2);
    pointer(canvas, "pointermove", 401, 440);
    expect(onHover).toHaveBeenCalledTimes(1); // still the same element
    pointer(canvas, "pointerleave", 0, 0);
    expect(onHover).toHaveBeenLastCalledWith(null);
  });

  test("a click picks, Shift-click adds, a double click opens", () => {
    pointer(canvas, "click", 400, 440);
    expect(onPick).toHaveBeenLastCalledWith({ kind: "row", row: 1 }, { add: false });
    pointer(canvas, "click", 400, 440, { shiftKey: true });
    expect(onPick).toHaveBeenLastCalledWith({ kind: "row", row: 1 }, { add: true });
    pointer(canvas, "dblclick", 400, 50);
    expect(onOpen.mock.lastCall?.[0]).toMatchObject({ kind: "piece", by: "document" });
    pointer(canvas, "click", 10, 5);
    expect(onPick).toHaveBeenCalledTimes(2);
  });

  test("keys move through answer and prompt, pick, and zoom; other keys go to the page", () => {
    expect(press(canvas, "ArrowRight")).toBe(false);
    press(canvas, "ArrowRight");
    expect(onHover).toHaveBeenLastCalledWith({ kind: "row", row: 1 });
    press(canvas, "Enter");
    expect(onPick).toHaveBeenLastCalledWith({ kind: "row", row: 1 }, { add: false });
    press(canvas, "ArrowUp");
    press(canvas, "ArrowRight");
    expect(onHover).toHaveBeenLastCalledWith({ kind: "piece", by: "document", group: 0, units: { start: 3, stop: 8 } });
    for (let i = 0; i < 9; i++) press(canvas, "ArrowRight");
    expect(onHover.mock.lastCall?.[0]).toMatchObject({ units: { start: 13, stop: 15 } });
    press(canvas, "+");
    expect(onWindow.mock.lastCall?.[2]).toBe(true);
    press(canvas, "0");
    expect(onWindow.mock.lastCall?.[2]).toBe(false);
    expect(press(canvas, "j")).toBe(true);
  });

  test("opening a piece zooms to it, at a finer granularity if that is automatic", () => {
    curves.set(data({ grain: "auto" }));
    curves.show({ start: 3, stop: 8 });
    const [units, by, zoomed] = onWindow.mock.lastCall as [{ start: number; stop: number }, string, boolean];
    expect([by, zoomed]).toEqual(["token", true]);
    expect(units.start).toBeLessThanOrEqual(3);
    expect(units.stop).toBeGreaterThanOrEqual(8);
    expect(units.stop - units.start).toBeLessThan(10);
  });

  test("an element hovered in another pane is highlighted without a callback", () => {
    drawn.clear();
    curves.point({ kind: "row", row: 0 });
    drawn.frame();
    expect(drawn.count("bezierCurveTo")).toBe(1);
    expect(onHover).not.toHaveBeenCalled();
  });

  test("device pixels change the size of the bitmap, not of the picture", () => {
    curves.resize(3);
    expect([canvas.width, canvas.height]).toEqual([2400, 1380]);
    expect([canvas.style.width, canvas.style.height]).toEqual(["800px", "460px"]);
  });

  test("the SVG has the same curves and texts", () => {
    const svg = curves.toSVG("Flow of this");
    expect(svg.match(/<path /g)).toHaveLength(4);
    for (const text of ["Flow of this", "Cities", "Paris"]) expect(svg).toContain(text);
  });

  test("destroy() removes its listeners and its second canvas", () => {
    curves.destroy();
    expect(canvas.parentElement?.querySelectorAll("canvas")).toHaveLength(1);
    pointer(canvas, "click", 400, 440);
    press(canvas, "ArrowRight");
    expect(onPick).not.toHaveBeenCalled();
    expect(onHover).not.toHaveBeenCalled();
  });
});
