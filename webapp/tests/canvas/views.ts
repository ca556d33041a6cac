/** A small view, and a canvas that records drawing calls. */
import { vi } from "vitest";

import type { View } from "../../src/model/types";

/** Two documents of two sentences each inside a template. Each word is a unit. */
export function smallView(change: Partial<View> = {}): View {
  const words = ["<s>", "Use", " it:", "Paris", " is", " big.", " Lyon", " too.", "Lille", " lies", " north.", " It", " rains.", "\n", "Where?"];
  const documentOf = [-1, -1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, -1, -1], sentenceOf = [-1, -1, -1, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, -1, -1];
  let at = 0;
  const total = Float32Array.from(words, (_, i) => (i === 0 ? 0.5 : i === 3 ? 0.2 : 0.3 / 13));
  return {
    title: "t", text: words.join(""), kind: "token", ends: Int32Array.from(words, (w) => (at += w.length)), firstToken: null,
    sentenceOf: Int32Array.from(sentenceOf), documentOf: Int32Array.from(documentOf), sentences: 4, documents: ["Cities", ""], gold: null, goldDocuments: null,
    answer: ["In", " Paris", "."], total, base: Float32Array.from({ length: 3 }, () => 0.2 + (9 * 0.3) / 13), onAnswer: null, missing: null, normalized: true, sink: true, question: null, expected: null, meta: {}, notes: [], ...change,
  };
}

export interface Drawn {
  calls: [string, ...unknown[]][];
  texts(): string[];
  count(name: string): number;
  clear(): void;
}

/** Gives all canvases a recording context and elements this size. `frame()` draws a frame. */
export function fakeCanvas(width = 800): Drawn & { frame(): void; restore(): void } {
  const calls: [string, ...unknown[]][] = [];
  const context = new Proxy({} as Record<string, unknown>, {
    get: (target, name: string) => {
      if (name === "measureText") return (text: string) => ({ width: 7 * text.length });
      if (name === "createImageData") return (w: number, h: number) => ({ data: new Uint8ClampedArray(4 * w * h) });
      if (name === "createLinearGradient") return (...given: unknown[]) => (calls.push([name, ...given]), { addColorStop: () => undefined });
      if (name in target) return target[name];
      return (...given: unknown[]) => {
        if (calls.push([name, ...given]) > 100_000) throw new Error("this is drawn without end");
      };
    },
    set: (target, name: string, value) => ((target[name] = value), true),
  });
  const frames: FrameRequestCallback[] = [];
  const spies = [
    vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockImplementation((() => context) as never),
    vi.spyOn(HTMLElement.prototype, "clientWidth", "get").mockReturnValue(width),
    vi.spyOn(globalThis, "requestAnimationFrame").mockImplementation((f) => frames.push(f)),
    vi.spyOn(globalThis, "cancelAnimationFrame").mockImplementation(() => void frames.splice(0)),
  ];
  return {
    calls,
    texts: () => calls.filter(([name]) => name === "fillText").map(([, text]) => String(text)),
    count: (name) => calls.filter(([n]) => n === name).length,
    clear: () => void calls.splice(0),
    frame: () => frames.splice(0).forEach((f) => f(0)),
    restore: () => spies.forEach((spy) => spy.mockRestore()),
  };
}

/** A canvas in its own element of the page. */
export function place(): HTMLCanvasElement {
  const box = document.createElement("div"), canvas = document.createElement("canvas");
  box.append(canvas);
  document.body.append(box);
  canvas.getBoundingClientRect = () => ({ left: 0, top: 0, width: 800, height: 460, right: 800, bottom: 460, x: 0, y: 0, toJSON: () => ({}) });
  return canvas;
}

export const pointer = (canvas: HTMLElement, name: string, x: number, y: number, more: MouseEventInit = {}): void =>
  void canvas.dispatchEvent(new MouseEvent(name, { clientX: x, clientY: y, bubbles: true, ...more }));

export const press = (canvas: HTMLElement, key: string, more: KeyboardEventInit = {}): boolean =>
  canvas.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true, bubbles: true, ...more }));
