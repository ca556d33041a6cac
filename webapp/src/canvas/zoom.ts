/** Zooming with d3-zoom that keeps the page's scrolling: the wheel zooms with Ctrl or Command; a horizontal wheel moves. */
import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import type { D3ZoomEvent, ZoomBehavior, ZoomTransform } from "d3-zoom";

export interface ZoomOptions {
  /** The largest zoom factor; 1 shows everything. */
  largest: number;
  width: number;
  height: number;
  /** The left and top margins of the zoomable area. */
  left?: number;
  top?: number;
}

/** The zoom of one canvas. */
export class Zoomer {
  private readonly behaviour: ZoomBehavior<HTMLCanvasElement, unknown>;
  private now: ZoomTransform = zoomIdentity;
  private readonly wheel: (event: WheelEvent) => void;
  private size: ZoomOptions = { largest: 1, width: 1, height: 1 };

  constructor(private readonly canvas: HTMLCanvasElement, moved: (transform: ZoomTransform) => void) {
    this.behaviour = zoom<HTMLCanvasElement, unknown>()
      .filter((event: Event) => this.mine(event))
      // A trackpad's pinch sends many small steps with Ctrl, a mouse wheel sends few large ones.
      .wheelDelta((event: WheelEvent) => {
        const pixels = event.deltaY * (event.deltaMode === 1 ? 25 : event.deltaMode ? 500 : 1);
        return -pixels * (Math.abs(pixels) < 40 ? 0.01 : 0.003);
      })
      .on("zoom", (event: D3ZoomEvent<HTMLCanvasElement, unknown>) => {
        this.now = event.transform;
        moved(event.transform);
      });
    // A double click opens an element in all pictures, so it must not zoom.
    select(canvas).call(this.behaviour).on("dblclick.zoom", null);
    this.wheel = (event) => {
      if (event.ctrlKey || event.metaKey || Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
      event.preventDefault();
      this.moveBy(-event.deltaX, 0);
    };
    canvas.addEventListener("wheel", this.wheel, { passive: false });
  }

  get transform(): ZoomTransform {
    return this.now;
  }

  /** Sets the size and the largest zoom factor. Keeps the visible part if it still exists. */
  fit(size: ZoomOptions): void {
    if (size.largest === this.size.largest && size.width === this.size.width && size.height === this.size.height) return;
    const scale = size.width / this.size.width, first = this.size.width === 1;
    this.size = size;
    const { left = 0, top = 0 } = size;
    const all: [[number, number], [number, number]] = [[left, top], [left + size.width, top + size.height]];
    this.behaviour.extent(all).translateExtent(all).scaleExtent([1, Math.max(1, size.largest)]);
    const k = Math.min(Math.max(1, size.largest), this.now.k);
    this.to(first ? zoomIdentity : zoomIdentity.translate(this.now.x * scale, this.now.y * scale).scale(k));
  }

  /** Zooms by a factor around the middle, or around a place of the canvas. */
  by(factor: number, around?: [number, number]): void {
    select(this.canvas).call(this.behaviour.scaleBy, factor, around);
  }

  /** Moves the content by this many pixels. */
  moveBy(x: number, y: number): void {
    select(this.canvas).call(this.behaviour.translateBy, x / this.now.k, y / this.now.k);
  }

  to(transform: ZoomTransform): void {
    select(this.canvas).call(this.behaviour.transform, transform);
  }

  all(): void {
    this.to(zoomIdentity);
  }

  /** Shows the part of the width between `from` and `to`, each 0 to 1. */
  window(from: number, to: number): void {
    const k = Math.min(Math.max(1, this.size.largest), 1 / Math.max(1e-9, to - from));
    const middle = (from + to) / 2, left = Math.min(Math.max(0, middle - 0.5 / k), 1 - 1 / k);
    this.to(zoomIdentity.translate(-left * k * this.size.width, 0).scale(k));
  }

  private mine(event: Event): boolean {
    if (event instanceof WheelEvent) return event.ctrlKey || event.metaKey;
    // One finger scrolls the page unless the picture is zoomed in.
    if (event.type.startsWith("touch")) return (event as TouchEvent).touches.length > 1 || this.now.k > 1;
    return (event as MouseEvent).button === 0 && !(event as MouseEvent).shiftKey;
  }

  destroy(): void {
    select(this.canvas).on(".zoom", null);
    this.canvas.removeEventListener("wheel", this.wheel);
  }
}
