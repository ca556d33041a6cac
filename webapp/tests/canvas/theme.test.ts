import { afterEach, describe, expect, test, vi } from "vitest";

import { SvgPen } from "../../src/canvas/svgpen";
import { escaped } from "../../src/model/text";
import { DASHES, fade, inkOn, makeRamp, parseColour, readTheme, watchTheme } from "../../src/canvas/theme";
import type { Rgba } from "../../src/canvas/theme";

afterEach(() => vi.restoreAllMocks());

describe("colours", () => {
  test("are parsed in all forms that browsers compute", () => {
    expect(parseColour("#d86a26")).toEqual([216, 106, 38, 1]);
    expect(parseColour("rgb(1, 2, 3)")).toEqual([1, 2, 3, 1]);
    expect(parseColour("rgba(1, 2, 3, 0.5)")).toEqual([1, 2, 3, 0.5]);
    expect(parseColour("rgb(1 2 3 / 0.5)")).toEqual([1, 2, 3, 0.5]);
    expect(parseColour("color(srgb 1 0.5 0)")).toEqual([255, 128, 0, 1]);
    expect(parseColour("var(--x)")).toBeNull();
    expect(fade("rgb(1, 2, 3)", 0.25)).toBe("rgba(1, 2, 3, 0.25)");
  });

  test("a ramp passes its colours in order", () => {
    const stops: Rgba[] = [[255, 255, 255, 1], [200, 100, 0, 1], [10, 0, 0, 1]], ramp = makeRamp(stops);
    expect([ramp[0], ramp[255]]).toEqual([stops[0], stops[2]]);
    for (let i = 1; i < 256; i++) expect(ramp[i][0]).toBeLessThanOrEqual(ramp[i - 1][0]);
  });

  test("the theme is read without a style sheet, leaves no element behind, and has eight distinct head colours", () => {
    const host = document.createElement("div");
    document.body.append(host);
    const theme = readTheme(host);
    expect(host.childNodes.length).toBe(0);
    expect(new Set(theme.heads).size).toBe(8);
    expect(new Set(DASHES.map(String)).size).toBe(8);
    expect(theme.ramp.length).toBe(256);
    const [r, g, b] = parseColour(theme.ramp[200]) as Rgba;
    expect(theme.ramp32[200]).toBe(((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
    expect([inkOn(theme.ramp[0], theme), inkOn(theme.ramp[255], theme)]).toEqual([theme.ink, theme.card]);
  });

  test("watchTheme reports changes of system theme and page attribute until it is stopped", async () => {
    const listeners = new Set<() => void>();
    vi.spyOn(globalThis, "matchMedia").mockReturnValue({ addEventListener: (_: string, f: () => void) => listeners.add(f), removeEventListener: (_: string, f: () => void) => listeners.delete(f) } as never);
    const changed = vi.fn(), stop = watchTheme(changed);
    listeners.forEach((f) => f());
    expect(changed).toHaveBeenCalledTimes(1);
    document.documentElement.dataset.theme = "dark";
    await vi.waitFor(() => expect(changed).toHaveBeenCalledTimes(2));
    stop();
    expect(listeners.size).toBe(0);
  });
});

describe("SVG", () => {
  const fonts = { sans: 'A, "B"', serif: "S" };

  test("is well-formed for any text", () => {
    const pen = new SvgPen(fonts);
    pen.text(1, 2, "<script>alert('&')</script>\u0000\u0007", { fill: "#000000", size: 12, upright: true });
    const svg = pen.svg(100, 50, "#ffffff", "a < b & c");
    expect(svg).not.toContain("<script");
    expect(escaped("\u0001a\ufffe<")).toBe("a&#60;");
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml");
    expect(parsed.querySelector("parsererror")).toBeNull();
    expect(svg).toContain("<title>a &#60; b &#38; c</title>");
    expect(svg).toContain("&#60;script&#62;alert(&#39;&#38;&#39;)&#60;/script&#62;</text>");
  });

  test("writes every shape, one gradient for all curves that share it, and closes its clip groups", () => {
    const pen = new SvgPen(fonts), gradient = { y0: 0, y1: 10, top: "#ff0000", bottom: "#0000ff" };
    pen.clip(0, 0, 10, 10);
    for (let i = 0; i < 3; i++) pen.curve(i, 0, 5, 10, { stroke: gradient, width: 2, alpha: 0.5, dash: [2, 1] });
    pen.unclip();
    pen.rect(0, 0, 4, 4, { fill: "#111111", radius: 9 });
    pen.dot(1, 1, 2, { stroke: "#222222" });
    pen.line(0, 0, 1, 1, { stroke: "#333333", width: 1 });
    const svg = pen.svg(10, 10, "#ffffff", "");
    expect(svg.match(/<linearGradient /g)).toHaveLength(1);
    expect(svg.match(/stroke-dasharray="2 1"/g)).toHaveLength(3);
    expect(svg).toContain('d="M2 0C2 5 5 5 5 10"');
    expect(svg).toContain('rx="2"');
    expect(svg.match(/<g /g)?.length).toBe(svg.match(/<\/g>/g)?.length);
  });
});
