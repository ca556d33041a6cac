import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Network } from "../../src/canvas/routes";
import type { TraceAnswer } from "../../src/canvas/routes";
import { nodeText, Trace } from "../../src/canvas/trace";
import { fakeCanvas, place, pointer, press, smallView } from "./views";

const view = smallView();
const answer: TraceAnswer = {
  levels: [
    { layer: 2, nodes: [{ id: 0, position: 15, unit: null, row: 1, mass: 0.8 }] },
    { layer: 1, nodes: [{ id: 1, position: 3, unit: 3, row: null, mass: 0.5 }, { id: 2, position: 15, unit: null, row: 1, mass: 0.3 }] },
    { layer: 0, nodes: [{ id: 3, position: 3, unit: 3, row: null, mass: 0.6 }, { id: 4, position: 8, unit: 8, row: null, mass: 0.2 }] },
  ],
  edges: [
    { from: 0, to: 1, mass: 0.5, head: 4, heads: [[4, 0.9], [1, 0.1]] }, { from: 0, to: 2, mass: 0.3, head: null, heads: [] },
    { from: 1, to: 3, mass: 0.5, head: null, heads: [] }, { from: 2, to: 3, mass: 0.1, head: 0, heads: [[0, 1]] }, { from: 2, to: 4, mass: 0.2, head: 2, heads: [[2, 1]] },
  ],
  shown: 0.8, exact: 1, paths: [],
};
const network = new Network(answer), onHover = vi.fn(), onPick = vi.fn();
let drawn: ReturnType<typeof fakeCanvas>, canvas: HTMLCanvasElement, trace: Trace;

beforeEach(() => {
  vi.clearAllMocks();
  drawn = fakeCanvas();
  canvas = place();
  trace = new Trace(canvas, { onHover, onPick });
  trace.set({ view, network, route: [] });
  drawn.frame();
});
afterEach(() => {
  trace.destroy();
  drawn.restore();
  document.body.replaceChildren();
});

/** The place of a node, found by hit tests: the middle of the points that hit it. */
function find(id: number): [number, number] {
  let n = 0, left = 0, top = 0;
  for (let y = 0; y < 900; y += 3) for (let x = 0; x < 800; x += 3) {
    const hit = trace.hit(x, y);
    if (hit?.kind === "node" && hit.id === id) [n, left, top] = [n + 1, left + x, top + y];
  }
  if (!n) throw new Error(`node ${id} is nowhere`);
  return [left / n, top / n];
}

test("levels go from the answer down to the prompt; every node and edge is drawn and can be hit", () => {
  expect(drawn.count("bezierCurveTo")).toBe(5);
  expect(drawn.texts()).toEqual(expect.arrayContaining(["answer", "1", "prompt", "Paris", "Lille"]));
  const places = [0, 1, 2, 3, 4].map(find);
  expect(places[0][1]).toBeLessThan(places[1][1]);
  expect(places[2][1]).toBeLessThan(places[4][1]);
  expect(Math.abs(places[1][0] - places[3][0])).toBeLessThan(12); // the same position on two levels
});

test("pointing between two nodes hits their curve", () => {
  const [a, b] = [find(2), find(4)], mid = trace.hit((a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
  expect(mid).toEqual({ kind: "edge", from: 2, to: 4 });
});

test("pointing at a node draws the best route through it above a translucent cover", () => {
  const [x, y] = find(4);
  drawn.clear();
  pointer(canvas, "pointermove", x, y);
  drawn.frame();
  expect(onHover).toHaveBeenLastCalledWith({ kind: "node", id: 4 });
  expect(drawn.count("bezierCurveTo")).toBe(2); // 0 - 2 - 4
  pointer(canvas, "click", x, y);
  expect(onPick).toHaveBeenLastCalledWith({ kind: "node", id: 4 }, { add: false });
});

test("keys move along a level, and between levels to the nearest node", () => {
  press(canvas, "ArrowRight");
  press(canvas, "ArrowDown");
  const first = onHover.mock.lastCall?.[0].id;
  expect([1, 2]).toContain(first);
  press(canvas, "ArrowDown");
  expect([3, 4]).toContain(onHover.mock.lastCall?.[0].id);
  press(canvas, "ArrowDown"); // there is no level below
  expect([3, 4]).toContain(onHover.mock.lastCall?.[0].id);
  press(canvas, "Enter");
  expect(onPick).toHaveBeenCalledTimes(1);
});

test("the text of a node is the predicted token at the top level, the read token below", () => {
  // Position 15 is after the prompt of 15 tokens: it reads "In" and predicts " Paris".
  expect([0, 1, 2, 3, 4].map((id) => nodeText(view, network, id))).toEqual(["Paris", "Paris", "In", "Paris", "Lille"]);
  expect(nodeText(view, network, 99)).toBe("?");
  const last = { id: 0, position: 14, unit: 14, row: 0, mass: 1 }; // the last token of the prompt predicts the first of the answer
  const two = new Network({ ...answer, levels: [{ layer: 1, nodes: [last] }, { layer: 0, nodes: [{ ...last, id: 1 }, { ...last, id: 2, unit: null, row: null }] }] });
  expect([0, 1, 2].map((id) => nodeText(view, two, id))).toEqual(["In", "Where?", "position 14"]);
});

test("an empty network draws nothing", () => {
  drawn.clear();
  trace.set({ view, network: new Network({ levels: [], edges: [], shown: 0, exact: 0, paths: [] }), route: [] });
  drawn.frame();
  expect(drawn.count("bezierCurveTo")).toBe(0);
  expect(press(canvas, "ArrowDown")).toBe(true);
});
