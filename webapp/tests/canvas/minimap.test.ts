import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Minimap } from "../../src/canvas/minimap";
import { fakeCanvas, place } from "./views";

let drawn: ReturnType<typeof fakeCanvas>, map: Minimap, resize: (width: number, height: number) => void;

beforeEach(() => {
  drawn = fakeCanvas();
  vi.stubGlobal("ResizeObserver", class {
    constructor(tell: ResizeObserverCallback) {
      resize = (width, height) => tell([{ contentRect: { width, height } } as ResizeObserverEntry], this as unknown as ResizeObserver);
    }
    observe(): void {}
    disconnect(): void {}
  });
  map = new Minimap(place());
  map.setText({ units: 40, borders: [0, 20], gold: [[4, 6]] });
  resize(20, 100);
  drawn.frame();
});
afterEach(() => {
  map.dispose();
  drawn.restore();
  vi.unstubAllGlobals();
  document.body.replaceChildren();
});

test("the picture below the viewport is redrawn on the same canvas", () => {
  const made = vi.spyOn(document, "createElement");
  const sized = vi.spyOn(HTMLCanvasElement.prototype, "height", "set");
  const stills = new Set(drawn.calls.filter(([name]) => name === "drawImage").map(([, still]) => still));
  for (const level of [1, 5, 9]) {
    map.setLevels(new Uint8Array(40).fill(level));
    drawn.frame();
  }
  drawn.calls.filter(([name]) => name === "drawImage").forEach(([, still]) => stills.add(still));
  expect([made.mock.calls.length, sized.mock.calls.length, stills.size]).toEqual([0, 0, 1]);
  resize(20, 200);
  drawn.frame();
  expect((([...stills] as HTMLCanvasElement[])[0]!).height).toBe(200);
  vi.restoreAllMocks();
});

test("scrolling redraws the viewport only; new levels clear and redraw everything", () => {
  drawn.clear();
  map.setViewport(3, 9);
  drawn.frame();
  expect([drawn.count("fillRect"), drawn.count("drawImage"), drawn.count("strokeRect")]).toEqual([0, 1, 1]);
  drawn.clear();
  map.setLevels(new Uint8Array(40).fill(3));
  drawn.frame();
  expect(drawn.count("fillRect")).toBeGreaterThan(2);
  expect(drawn.count("clearRect")).toBe(2);
});
