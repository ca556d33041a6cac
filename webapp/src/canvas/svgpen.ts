/** A `Pen` that writes an SVG. */
import { escaped } from "../model/text";
import { fit, fontOf } from "./pen";
import type { Fonts, Gradient, Lettering, Paint, Pen, Shape, Stroke } from "./pen";

const n = (value: number): string => String(+value.toFixed(2));

export class SvgPen implements Pen {
  private readonly parts: string[] = [];
  private readonly defs: string[] = [];
  private readonly gradients = new Map<Gradient, string>();

  constructor(private readonly fonts: Fonts) {}

  rect(x: number, y: number, width: number, height: number, shape: Shape): void {
    const radius = shape.radius ? ` rx="${n(Math.min(shape.radius, width / 2, height / 2))}"` : "";
    this.parts.push(`<rect x="${n(x)}" y="${n(y)}" width="${n(Math.max(0, width))}" height="${n(Math.max(0, height))}"${radius}${this.look(shape)}/>`);
  }

  dot(x: number, y: number, radius: number, shape: Shape): void {
    this.parts.push(`<circle cx="${n(x)}" cy="${n(y)}" r="${n(radius)}"${this.look(shape)}/>`);
  }

  line(x0: number, y0: number, x1: number, y1: number, stroke: Stroke): void {
    this.parts.push(`<path d="M${n(x0)} ${n(y0)}L${n(x1)} ${n(y1)}"${this.look(stroke)}/>`);
  }

  curve(x0: number, y0: number, x1: number, y1: number, stroke: Stroke): void {
    const middle = n((y0 + y1) / 2);
    this.parts.push(`<path d="M${n(x0)} ${n(y0)}C${n(x0)} ${middle} ${n(x1)} ${middle} ${n(x1)} ${n(y1)}"${this.look(stroke)}/>`);
  }

  text(x: number, y: number, text: string, lettering: Lettering): void {
    const shown = lettering.within === undefined ? text : fit(text, lettering.within, fontOf(lettering, this.fonts));
    if (!shown) return;
    const anchor = { left: "start", center: "middle", right: "end" }[lettering.align ?? "left"];
    const turn = lettering.upright ? ` transform="rotate(-90 ${n(x)} ${n(y)})"` : "";
    const family = escaped(lettering.serif ? this.fonts.serif : this.fonts.sans);
    this.parts.push(`<text x="${n(x)}" y="${n(y)}" dy="0.35em" text-anchor="${anchor}" font-family="${family}" font-size="${n(lettering.size)}"` +
      `${lettering.bold ? ' font-weight="600"' : ""} fill="${lettering.fill}" xml:space="preserve"${turn}>${escaped(shown)}</text>`);
  }

  image(source: HTMLCanvasElement, x: number, y: number, width: number, height: number): void {
    this.parts.push(`<image x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}" preserveAspectRatio="none" ` +
      `image-rendering="pixelated" href="${source.toDataURL("image/png")}"/>`);
  }

  clip(x: number, y: number, width: number, height: number): void {
    const id = `clip${this.defs.length}`;
    this.defs.push(`<clipPath id="${id}"><rect x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}"/></clipPath>`);
    this.parts.push(`<g clip-path="url(#${id})">`);
  }

  unclip(): void {
    this.parts.push("</g>");
  }

  /** The whole file. */
  svg(width: number, height: number, background: string, title: string): string {
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${n(width)}" height="${n(height)}" viewBox="0 0 ${n(width)} ${n(height)}">` +
      `<title>${escaped(title)}</title>${this.defs.length ? `<defs>${this.defs.join("")}</defs>` : ""}` +
      `<rect width="100%" height="100%" fill="${background}"/>${this.parts.join("")}</svg>`;
  }

  private look(shape: Shape): string {
    const dash = shape.dash?.length ? ` stroke-dasharray="${shape.dash.join(" ")}"` : "";
    const stroke = shape.stroke ? ` stroke="${this.paint(shape.stroke)}" stroke-width="${n(shape.width ?? 1)}"${dash}` : "";
    const alpha = shape.alpha !== undefined && shape.alpha < 1 ? ` opacity="${n(shape.alpha)}"` : "";
    return ` fill="${shape.fill ? this.paint(shape.fill) : "none"}"${stroke}${alpha}`;
  }

  private paint(paint: Paint): string {
    if (typeof paint === "string") return paint;
    let id = this.gradients.get(paint);
    if (!id) {
      id = `shade${this.defs.length}`;
      this.gradients.set(paint, id);
      this.defs.push(`<linearGradient id="${id}" gradientUnits="userSpaceOnUse" x1="0" x2="0" y1="${n(paint.y0)}" y2="${n(paint.y1)}">` +
        `<stop offset="0" stop-color="${paint.top}"/><stop offset="1" stop-color="${paint.bottom}"/></linearGradient>`);
    }
    return `url(#${id})`;
  }
}
