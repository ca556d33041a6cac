/** The colours of the pictures, read from CSS variables, so that text and canvas share one style sheet. */

/** Red, green, blue from 0 to 255, and opacity from 0 to 1. */
export type Rgba = readonly [number, number, number, number];

export interface Theme {
  paper: string;
  card: string;
  ink: string;
  soft: string;
  line: string;
  accent: string;
  bar: string;
  /** For parts that are no evidence: residual edges, template and question. */
  quiet: string;
  /** The answer's end of a curve. */
  answer: string;
  /** (8) one for each head drawn in its own colour. Their dashes differ too. */
  heads: string[];
  /** (256) from the smallest to the largest value. */
  ramp: string[];
  /** (256) the ramp as numbers, for bitmaps. */
  ramp32: Uint32Array;
  sans: string;
  serif: string;
}

/** The dashes of the eight head colours, so that heads differ by more than colour. */
export const DASHES: readonly (readonly number[])[] = [
  [], [9, 3], [2, 3], [9, 3, 2, 3], [5, 5], [9, 3, 2, 3, 2, 3], [14, 4], [1, 5],
];

/** The number of heads with their own colour. */
export const HEAD_COLOURS = DASHES.length;

// The light theme of canvas.css, used without a style sheet (an exported picture in a bare page).
const FALLBACK: Record<string, string> = {
  "--paper": "#faf9f7", "--card": "#ffffff", "--ink": "#1d1b19", "--soft": "#6a645d", "--line": "#e4dfd8",
  "--accent": "#a8430a", "--bar": "#d86a26", "--other": "#b9b2a9", "--flow-answer": "#5d4a3f",
  "--flow-ramp-0": "#ffffff", "--flow-ramp-1": "#fbe3d0", "--flow-ramp-2": "#f0a873", "--flow-ramp-3": "#cf5a17", "--flow-ramp-4": "#5e1f05",
  "--series-1": "#c2500f", "--series-2": "#0b6e8f", "--series-3": "#6b4fa3", "--series-4": "#2f7a3d",
  "--series-5": "#a8326e", "--series-6": "#7a6a00", "--series-7": "#3c4a57", "--series-8": "#8a3b2a",
};

/** The numbers of a colour as a browser computes it (`rgb()`, `rgba()`, `color(srgb ...)`) or as `#rrggbb`; null for anything else. */
export function parseColour(text: string): Rgba | null {
  const hex = /^#([0-9a-f]{6})$/i.exec(text.trim());
  if (hex) {
    const n = parseInt(hex[1], 16);
    return [n >> 16, (n >> 8) & 255, n & 255, 1];
  }
  const call = /^(rgba?|color)\((srgb\s)?([^)]*)\)$/i.exec(text.trim());
  const numbers = call?.[3]?.match(/[\d.]+(e-?\d+)?/g)?.map(Number);
  if (!call || !numbers || numbers.length < 3) return null;
  const unit = call[1] === "color" ? 255 : 1;
  const [r, g, b, alpha = 1] = numbers as [number, number, number, number?];
  return [Math.round(r * unit), Math.round(g * unit), Math.round(b * unit), alpha];
}

/** 256 steps through the given colours, evenly spaced. */
export function makeRamp(stops: readonly Rgba[]): Rgba[] {
  const mix = (a: number, b: number, t: number) => Math.round(a + (b - a) * t);
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2), t = at - low;
    const a = stops[low] as Rgba, b = stops[low + 1] as Rgba;
    return [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t), 1] as Rgba;
  });
}

/** The same colour with another opacity. */
export function fade(colour: string, alpha: number): string {
  const rgba = parseColour(colour);
  return rgba ? `rgba(${rgba[0]}, ${rgba[1]}, ${rgba[2]}, ${+(rgba[3] * alpha).toFixed(3)})` : colour;
}

/** A text colour with enough contrast on this colour. */
export function inkOn(colour: string, theme: Theme): string {
  const luminance = (text: string) => {
    const [r, g, b] = parseColour(text) ?? [0, 0, 0, 1];
    return 0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2;
  };
  const contrast = (a: number, b: number) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const under = luminance(colour);
  return contrast(luminance(theme.ink), under) >= contrast(luminance(theme.card), under) ? theme.ink : theme.card;
}

/** Reads the current values of the variables at this element. */
export function readTheme(host: Element): Theme {
  // A custom property with light-dark() is resolved only when a real property uses it, hence the probe element.
  const probe = document.createElement("span");
  probe.hidden = true;
  host.append(probe);
  const colour = (name: string): string => {
    probe.style.color = "";
    probe.style.color = `var(${name}, ${FALLBACK[name]})`;
    const rgba = parseColour(getComputedStyle(probe).color) ?? (parseColour(FALLBACK[name]) as Rgba);
    return rgba[3] < 1 ? `rgba(${rgba[0]}, ${rgba[1]}, ${rgba[2]}, ${rgba[3]})` : `rgb(${rgba[0]}, ${rgba[1]}, ${rgba[2]})`;
  };
  const family = (name: string, fallback: string) => getComputedStyle(host).getPropertyValue(name).trim() || fallback;
  const ramp = makeRamp([0, 1, 2, 3, 4].map((i) => parseColour(colour(`--flow-ramp-${i}`)) as Rgba));
  const theme: Theme = {
    paper: colour("--paper"), card: colour("--card"), ink: colour("--ink"), soft: colour("--soft"),
    line: colour("--line"), accent: colour("--accent"), bar: colour("--bar"), quiet: colour("--other"),
    answer: colour("--flow-answer"),
    heads: DASHES.map((_, i) => colour(`--series-${i + 1}`)),
    ramp: ramp.map((c) => `rgb(${c[0]}, ${c[1]}, ${c[2]})`),
    // Little-endian RGBA, the memory layout of ImageData on all machines that run browsers.
    ramp32: Uint32Array.from(ramp, (c) => ((255 << 24) | (c[2] << 16) | (c[1] << 8) | c[0]) >>> 0),
    sans: family("--sans", "system-ui, sans-serif"),
    serif: family("--serif", "Georgia, serif"),
  };
  probe.remove();
  return theme;
}

/** Calls back when the colours may have changed (system theme, attribute of the root element). Returns a function that stops it. */
export function watchTheme(changed: () => void): () => void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", changed);
  const root = new MutationObserver(changed);
  root.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "style", "data-theme"] });
  return () => {
    dark.removeEventListener("change", changed);
    root.disconnect();
  };
}
