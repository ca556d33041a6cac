import { render } from "preact";
import { afterEach, beforeEach, expect, test } from "vitest";

import { HeadMap } from "../../src/canvas/headmap";
import type { HeadMapData } from "../../src/canvas/headmap";
import { Stage } from "../../src/canvas/Stage";
import { fakeCanvas } from "./views";

const data: HeadMapData = { layers: 1, heads: 1, values: Float32Array.of(1), most: 1, sqrt: false, chosen: new Set(), write: String };
let drawn: ReturnType<typeof fakeCanvas>, root: HTMLElement;

beforeEach(() => {
  drawn = fakeCanvas();
  root = document.body.appendChild(document.createElement("div"));
});
afterEach(() => {
  drawn.restore();
  root.remove();
});

/** Records when it was destroyed, and whether its canvas was still in the page. */
class Watched extends HeadMap {
  ended: boolean[] = [];
  override destroy(): void {
    super.destroy();
    this.ended.push(this.canvas.isConnected);
  }
}

test("a picture is destroyed before its canvas leaves the page", () => {
  const made: Watched[] = [];
  const make = (canvas: HTMLCanvasElement): Watched => {
    const one = new Watched(canvas);
    made.push(one);
    return one;
  };
  render(<Stage make={make} data={data} label="all heads" />, root);
  expect(made).toHaveLength(1);
  render(null, root); // at once, not a frame later
  expect(made[0]?.ended).toEqual([true]);
  expect(root.querySelector("canvas")).toBeNull();
});
