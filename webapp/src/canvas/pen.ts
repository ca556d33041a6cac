/** Drawing operations with two targets, canvas and SVG, so that an export equals the picture on the screen. */

/** A colour, or a vertical gradient between two. Use one gradient object for many shapes: it is converted once. */
export type Paint = string | Gradient;

export interface Gradient {
  y0: number;
  y1: number;
  top: string;
  bottom: string;
}

export interface Stroke {
  stroke: Paint;
  width: number;
  alpha?: number;
  dash?: readonly number[];
}

export interface Shape {
  fill?: Paint;
  stroke?: Paint;
  width?: number;
  radius?: number;
  alpha?: number;
  dash?: readonly number[];
}

export interface Lettering {
  fill: string;
  size: number;
  serif?: boolean;
  bold?: boolean;
  align?: "left" | "center" | "right";
  /** The width in pixels to which the text is cut, with an ellipsis. */
  within?: number;
  /** True to rotate the text by 90 degrees, reading upwards. */
  upright?: boolean;
}

/** All lengths are CSS pixels of the picture. The y of a text is its vertical middle. */
export interface Pen {
  rect(x: number, y: number, width: number, height: number, shape: Shape): void;
  dot(x: number, y: number, radius: number, shape: Shape): void;
  line(x0: number, y0: number, x1: number, y1: number, stroke: Stroke): void;
  /** A curve from (x0, y0) to (x1, y1), vertical at both ends. */
  curve(x0: number, y0: number, x1: number, y1: number, stroke: Stroke): void;
  text(x: number, y: number, text: string, lettering: Lettering): void;
  image(source: HTMLCanvasElement, x: number, y: number, width: number, height: number): void;
  /** Clip drawing to this box until `unclip`. */
  clip(x: number, y: number, width: number, height: number): void;
  unclip(): void;
}

export interface Fonts {
  sans: string;
  serif: string;
}

const widths = new Map<string, number>();
let ruler: CanvasRenderingContext2D | null = null;

/** The CSS font of a lettering. */
export function fontOf(lettering: Lettering, fonts: Fonts): string {
  return `${lettering.bold ? 600 : 400} ${lettering.size}px ${lettering.serif ? fonts.serif : fonts.sans}`;
}

/** The width of a text in pixels, cached. */
export function measure(text: string, font: string): number {
  const key = `${font}\n${text}`;
  const known = widths.get(key);
  if (known !== undefined) return known;
  ruler ??= document.createElement("canvas").getContext("2d");
  if (ruler && ruler.font !== font) ruler.font = font;
  const width = ruler ? ruler.measureText(text).width : text.length * 7;
  if (widths.size > 20000) widths.clear();
  widths.set(key, width);
  return width;
}

/** The text, or as much of its start as fits with an ellipsis; "" if not even two letters fit. */
export function fit(text: string, within: number, font: string): string {
  const start = text.length > 400 ? text.slice(0, 400) : text;
  if (measure(start, font) <= within && start.length === text.length) return text;
  let low = 0, high = start.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(start.slice(0, middle).trimEnd() + "…", font) <= within) low = middle;
    else high = middle - 1;
  }
  // Do not cut a surrogate pair.
  const cut = low && /[\uD800-\uDBFF]/.test(start[low - 1]) ? low - 1 : low;
  return cut < 2 ? "" : start.slice(0, cut).trimEnd() + "…";
}

/** Draws on a canvas whose transform is already in CSS pixels. */
export class CanvasPen implements Pen {
  private readonly gradients = new Map<Gradient, CanvasGradient>();
  constructor(private readonly context: CanvasRenderingContext2D, private readonly fonts: Fonts) {}

  rect(x: number, y: number, width: number, height: number, shape: Shape): void {
    const c = this.context;
    c.beginPath();
    const radius = Math.min(shape.radius ?? 0, width / 2, height / 2);
    if (radius > 0) c.roundRect(x, y, width, height, radius);
    else c.rect(x, y, width, height);
    this.finish(shape);
  }

  dot(x: number, y: number, radius: number, shape: Shape): void {
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.finish(shape);
  }

  line(x0: number, y0: number, x1: number, y1: number, stroke: Stroke): void {
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.lineTo(x1, y1);
    this.finish(stroke);
  }

  curve(x0: number, y0: number, x1: number, y1: number, stroke: Stroke): void {
    const middle = (y0 + y1) / 2;
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.bezierCurveTo(x0, middle, x1, middle, x1, y1);
    this.finish(stroke);
  }

  text(x: number, y: number, text: string, lettering: Lettering): void {
    const c = this.context, font = fontOf(lettering, this.fonts);
    const shown = lettering.within === undefined ? text : fit(text, lettering.within, font);
    if (!shown) return;
    c.font = font;
    c.fillStyle = lettering.fill;
    c.textAlign = lettering.align ?? "left";
    c.textBaseline = "middle";
    if (!lettering.upright) c.fillText(shown, x, y);
    else {
      c.save();
      c.translate(x, y);
      c.rotate(-Math.PI / 2);
      c.fillText(shown, 0, 0);
      c.restore();
    }
  }

  image(source: HTMLCanvasElement, x: number, y: number, width: number, height: number): void {
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(source, x, y, width, height);
  }

  clip(x: number, y: number, width: number, height: number): void {
    this.context.save();
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.context.clip();
  }

  unclip(): void {
    this.context.restore();
  }

  private finish(shape: Shape): void {
    const c = this.context;
    c.globalAlpha = shape.alpha ?? 1;
    if (shape.fill) {
      c.fillStyle = this.paint(shape.fill);
      c.fill();
    }
    if (shape.stroke) {
      c.strokeStyle = this.paint(shape.stroke);
      c.lineWidth = shape.width ?? 1;
      c.setLineDash(shape.dash as number[] | undefined ?? []);
      c.stroke();
    }
    c.globalAlpha = 1;
  }

  private paint(paint: Paint): string | CanvasGradient {
    if (typeof paint === "string") return paint;
    let gradient = this.gradients.get(paint);
    if (!gradient) {
      gradient = this.context.createLinearGradient(0, paint.y0, 0, paint.y1);
      gradient.addColorStop(0, paint.top);
      gradient.addColorStop(1, paint.bottom);
      this.gradients.set(paint, gradient);
    }
    return gradient;
  }
}
