import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Picture } from "../../src/canvas/picture";
import type { Pen } from "../../src/canvas/pen";
import { fakeCanvas, place, pointer } from "./views";

const INK = { fill: "black", size: 12 };

/** One line across a picture whose height is half its width. */
class Line extends Picture<string, number> {
  readonly arranged: [string | null, number][] = [];
  hit(x: number): number {
    return x;
  }
  protected tall(width: number): number {
    return width / 2;
  }
  protected arrange(): void {
    this.arranged.push([this.data, this.width]);
  }
  protected paint(pen: Pen): void {
    pen.text(0, 0, `${this.data}, ${this.width} wide`, INK);
  }
  protected paintOver(pen: Pen): void {
    pen.text(0, 0, `over ${this.width}`, INK);
  }
}

let drawn: ReturnType<typeof fakeCanvas>, canvas: HTMLCanvasElement, line: Line, width: number, seen: () => void;

beforeEach(() => {
  drawn = fakeCanvas();
  width = 400;
  vi.spyOn(HTMLElement.prototype, "clientWidth", "get").mockImplementation(() => width);
  vi.stubGlobal("ResizeObserver", class {
    constructor(tell: () => void) {
      seen = tell;
    }
    observe(): void {}
    disconnect(): void {}
  });
  canvas = place();
});
afterEach(() => {
  line.destroy();
  drawn.restore();
  vi.unstubAllGlobals();
  document.body.replaceChildren();
});

function show(data: string): string[] {
  drawn.clear();
  line.set(data);
  drawn.frame();
  return drawn.texts();
}

test("in a hidden parent it keeps its last size, even with new data", () => {
  line = new Line(canvas);
  expect(show("a")).toEqual(["a, 400 wide"]);
  width = 0;
  seen();
  expect([canvas.style.width, canvas.style.height]).toEqual(["400px", "200px"]);
  expect(show("b")).toEqual(["b, 400 wide"]);
  width = 300;
  drawn.clear();
  seen();
  drawn.frame();
  expect(drawn.texts()).toEqual(["b, 300 wide"]);
  expect(line.arranged.map(([, wide]) => wide)).not.toContain(0);
});

test("in a parent that was never visible it is not drawn until there is room", () => {
  width = 0;
  line = new Line(canvas);
  expect(show("a")).toEqual([]);
  pointer(canvas, "pointermove", 3, 3);
  line.point(7);
  drawn.frame();
  expect(drawn.texts()).toEqual([]);
  expect(line.arranged).toEqual([]);
  width = 200;
  seen();
  drawn.frame();
  expect(drawn.texts()).toEqual(["a, 200 wide", "over 200"]);
});
