import { render } from "preact";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { CasePage, type CasePageProps } from "../../src/case/CasePage";
import { Painter } from "../../src/case/painter";
import { layOut } from "../../src/case/layout";
import { indexOf } from "../../src/case/pointer";
import { useCase } from "../../src/case/state";
import { navigate, place } from "../../src/model/link";
import { UserError } from "../../src/model/types";
import { plainView, settled, smallSource, smallView } from "./synthetic";

/** Reports every element as visible. */
class AllVisible {
  private readonly tell: IntersectionObserverCallback;
  constructor(tell: IntersectionObserverCallback) {
    this.tell = tell;
  }
  observe(target: Element): void {
    this.tell([{ target, isIntersecting: true } as IntersectionObserverEntry], this as unknown as IntersectionObserver);
  }
  disconnect(): void {}
}

let root: HTMLElement;

beforeEach(() => {
  vi.stubGlobal("IntersectionObserver", AllVisible);
  navigate({ page: "flow", flow: "f" });
  root = document.body.appendChild(document.createElement("main"));
});

afterEach(() => {
  render(null, root);
  root.remove();
  vi.unstubAllGlobals();
});

const show = async (props: Partial<CasePageProps> = {}, source = smallSource()): Promise<void> => {
  render(<CasePage case={{ id: "c", variants: [{ name: "flow", label: "flow", source }] }} {...props} />, root);
  await settled(30);
};
const options = (): HTMLElement[] => [...root.querySelectorAll<HTMLElement>('[role="option"]')];
const press = (target: Element | Document, key: string, more: KeyboardEventInit = {}): boolean => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
const title = (): string => root.querySelector("h2")!.textContent!.trim();
const numbers = (): number[] => [...root.querySelectorAll(".case-bars > .case-list > li > .case-share, .case-bars > .case-list > li > .case-bar .case-share")].map((s) => parseFloat(s.textContent!));

describe("the page", () => {
  it("shows the question, the answer, the prompt and bars that add up to 100%", async () => {
    await show();
    expect(root.querySelector("h1")!.textContent).toBe("Q?");
    expect(options().map((o) => o.textContent)).toEqual(["One", " two", " three"]);
    expect(root.querySelector(".case-prompt")!.textContent).toContain("Aa. Bb. Cc");
    expect(title()).toBe("Sources of the whole answer (3 tokens)");
    expect(numbers()).toEqual([42, 33, 25]);
    expect(root.querySelector(".case-origin")!.textContent).toBe(
      "25% of the whole flow came from the documents, 50% from question and template, 12% from the answer's own words. This is normal; shares above are of the documents' part.",
    );
    expect(root.querySelector(".case-found")!.textContent).toContain("1 of 1");
  });

  it("text is shown as text, never as markup", async () => {
    const evil = "<img src=x onerror=alert(1)>";
    const view = smallView({ documents: [evil, evil], question: evil, expected: evil, answer: [evil, "b", "c"], meta: { model: evil }, notes: [evil] });
    await show({}, smallSource({ view }));
    expect(root.querySelector("img, script")).toBeNull();
    expect(root.querySelector("h1")!.textContent).toBe(evil);
  });

  it("the hint shows a row's share of an input if rows have a whole", async () => {
    const hint = (): string => root.querySelector("#case-hint")!.textContent!;
    navigate({ page: "flow", flow: "f" }, { query: { in: "s1" } });
    await show();
    expect(hint()).toBe("Coloured by what each word took from “Aa.”; at most 50% of what the word took from the documents.");
    navigate({ page: "flow", flow: "f" }, { query: { in: "t2" } });
    await settled(30);
    expect(hint()).toBe("Coloured by what each word took from “Sys”; at most 19% of everything the word took.");
    render(null, root);
    await show({}, smallSource({ view: smallView({ normalized: false }) }));
    expect(hint()).toBe("Coloured by what each word took from “Sys”."); // scores of 17 would be 1,700%
  });

  it("shows that a method is loading, and keeps the previous one until then", async () => {
    let come = (): void => {};
    const late = { ...smallSource(), view: () => new Promise<ReturnType<typeof smallView>>((done) => (come = () => done(smallView({ answer: ["all of it"] })))) };
    render(<CasePage case={{ id: "c", variants: [{ name: "flow", label: "flow", source: smallSource() }, { name: "late", label: "late", source: late }] }} />, root);
    await settled(30);
    const controls = root.querySelector(".case-controls")!;
    const select = controls.querySelector("select")!;
    const now = (): unknown[] => [controls.getAttribute("aria-busy"), select.value, options().length];
    expect(now()).toEqual(["false", "flow", 3]);
    select.value = "late";
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await settled(30);
    expect(now()).toEqual(["true", "late", 3]);
    come();
    await settled(30);
    expect(now()).toEqual(["false", "late", 1]);
  });

  it("bars expand into their parts", async () => {
    navigate({ page: "flow", flow: "f" }, { query: { by: "document", rows: "2" } });
    await show();
    const open = root.querySelector<HTMLElement>('[aria-expanded="false"]')!;
    expect(open.getAttribute("aria-label")).toBe("sentences of First");
    open.click();
    await settled(10);
    expect(root.querySelector(".case-inside")!.textContent).toContain("Bb. Cc");
  });

  it("a bar selects its piece, and the answer is coloured by the share it took", async () => {
    await show();
    root.querySelector<HTMLElement>(".case-pick")!.click();
    await settled(30);
    expect(root.querySelector(".case-pick")!.getAttribute("aria-pressed")).toBe("true");
    expect(options().map((o) => o.dataset.heat)).toEqual(["heat-12", "heat-6", undefined]);
  });

  it("shows an error", async () => {
    const source = { ...smallSource(), view: () => Promise.reject(new Error("no bytes")) };
    render(<CasePage case={{ id: "c", variants: [{ name: "flow", label: "flow", source }] }} />, root);
    await settled(10);
    expect(root.querySelector('[role="alert"]')!.textContent).toContain("no bytes");
  });

  it("slots share the state", async () => {
    const Inside = () => <output>{useCase().rows.value.start}</output>;
    navigate({ page: "flow", flow: "f" }, { query: { rows: "3" } });
    await show({ tools: <Inside />, extra: <Inside /> });
    expect([...root.querySelectorAll("output")].map((o) => o.textContent)).toEqual(["2", "2"]);
  });
});

describe("the keyboard", () => {
  it("moves through the answer with one tab stop, keeps one token or several, and releases them", async () => {
    await show();
    expect(options().map((o) => o.tabIndex)).toEqual([0, -1, -1]);
    options()[0]!.focus();
    press(options()[0]!, "ArrowRight");
    expect(document.activeElement).toBe(options()[1]);
    expect(options().map((o) => o.tabIndex)).toEqual([-1, 0, -1]);
    press(options()[1]!, "Enter");
    await settled(30);
    expect(title()).toContain("Sources of answer token 2");
    expect(options().map((o) => o.ariaSelected ?? o.getAttribute("aria-selected"))).toEqual(["false", "true", "false"]);
    press(options()[1]!, "ArrowRight", { shiftKey: true });
    await settled(30);
    expect(title()).toContain("answer tokens 2 to 3");
    press(document, "Escape");
    await settled(10);
    expect(title()).toContain("whole answer");
    press(options()[2]!, "Home");
    expect(document.activeElement).toBe(options()[0]);
    press(options()[0]!, "End");
    expect(document.activeElement).toBe(options()[2]);
  });

  it("j and k open other cases with the display options, without the selection", async () => {
    const onNext = vi.fn(() => navigate({ page: "flow", flow: "g" }));
    navigate({ page: "flow", flow: "f" }, { query: { rows: "2", scale: "log" } });
    await show({ onNext }, smallSource({ view: plainView() }));
    press(document, "j", { ctrlKey: true });
    press(root.querySelector('input[type="number"]')!, "j");
    expect(onNext).not.toHaveBeenCalled();
    press(document, "k");
    press(root.querySelector('input[type="checkbox"]')!, "j"); // a checkbox takes no letters
    expect(onNext).toHaveBeenCalledOnce();
    await show({ onNext });
    expect(place.value).toMatchObject({ route: { flow: "g" }, query: { scale: "log" } });
    expect(place.value.query.rows).toBeUndefined();
  });
});

it("a case that cannot be read still has buttons to other cases", async () => {
  const onNext = vi.fn();
  await show({ onNext }, { ...smallSource(), view: () => Promise.reject(new UserError("The record is cut off.")) });
  expect(root.querySelector("[role=alert]")!.textContent).toContain("The record is cut off.");
  root.querySelector<HTMLElement>('[aria-keyshortcuts="j"]')!.click();
  expect(onNext).toHaveBeenCalledOnce();
});

it("the tooltip shows the share of the shown rows, even if they change under a resting pointer", async () => {
  vi.stubGlobal("requestAnimationFrame", (draw: () => void) => setTimeout(draw));
  await show();
  let text: Node = root.querySelector("[data-chunk='1']")!;
  while (text.firstChild) text = text.firstChild; // a span, as this browser has no highlights
  document.caretPositionFromPoint = () => ({ offsetNode: text, offset: 0 }) as unknown as CaretPosition;
  const box = { left: 0, right: 9, top: 0, bottom: 9, height: 9 };
  const boxes = vi.spyOn(Range.prototype, "getClientRects").mockReturnValue([box] as unknown as DOMRectList);
  root.querySelector(".case-prompt")!.dispatchEvent(Object.assign(new Event("pointermove"), { clientX: 5, clientY: 5 }));
  await settled(10);
  const tip = root.querySelector<HTMLElement>(".case-tip")!;
  expect([tip.hidden, tip.textContent!.split("\n")[0]]).toEqual([false, "33%  sentence 1"]);
  press(options()[0]!, "Enter");
  await settled(30);
  expect(tip.textContent!.split("\n")[0]).toBe("67%  sentence 1");
  boxes.mockRestore();
  document.caretPositionFromPoint = undefined as never;
});

describe("without highlights", () => {
  const view = smallView();
  const layout = layOut(view);
  const make = (): { elements: HTMLElement[]; painter: Painter } => {
    const elements = layout.chunks.map((chunk) => {
      const element = document.createElement("div");
      element.textContent = view.text.slice(chunk.start, chunk.stop);
      return element;
    });
    return { elements, painter: new Painter(root, view, layout.chunks, elements) };
  };

  it("visible chunks are spans with the same text, with marks and colours", () => {
    const { elements, painter } = make();
    expect(painter.fallback).toBe(true);
    painter.recolour(Uint8Array.from([0, 0, 3, 12, 12, 0, 5, 0, 0]));
    painter.mark("hover", { start: 2, stop: 3 });
    expect([...elements[1]!.children].map((s) => [s.className, s.textContent])).toEqual([["heat-3 mark-hover", "Aa."], ["heat-12 mark-gold", " Bb. Cc"]]);
    painter.mark("hover", null);
    expect(elements[1]!.firstElementChild!.className).toBe("heat-3");
    expect(elements.map((e) => e.textContent)).toEqual(["<s>Sys", "Aa. Bb. Cc", "Dd. Ee.", "Q?"]);
    const second = elements[1]!.children[1]!.firstChild!;
    expect(indexOf(layout.chunks[1]!, elements[1]!, second, 1)).toBe(view.text.indexOf("Bb."));
  });
});

describe("with highlights", () => {
  it("text nodes stay whole, and ranges cover the right text", () => {
    const registry = new Map<string, Set<StaticRange>>();
    vi.stubGlobal("CSS", { highlights: registry });
    vi.stubGlobal("Highlight", class extends Set<StaticRange> {});
    vi.stubGlobal("StaticRange", class { constructor(init: StaticRangeInit) { Object.assign(this, init); } });
    const view = smallView();
    const layout = layOut(view);
    const elements = layout.chunks.map((chunk) => {
      const element = document.createElement("div");
      element.textContent = view.text.slice(chunk.start, chunk.stop);
      return element;
    });
    const painter = new Painter(root, view, layout.chunks, elements);
    const text = (name: string): string[] => [...registry.get(name)!].map((r) => r.startContainer.nodeValue!.slice(r.startOffset, r.endOffset));
    painter.recolour(Uint8Array.from([0, 0, 0, 12, 7, 0, 0, 7, 0]));
    expect([text("heat-12"), text("heat-7"), text("mark-gold")]).toEqual([["Bb."], [" Cc", "Ee."], ["Bb. Cc"]]);
    painter.mark("selected", { start: 4, stop: 7 });
    expect(text("mark-selected")).toEqual([" Cc", "Dd."]);
    painter.recolour(new Uint8Array(9));
    expect([text("heat-12"), text("heat-7"), text("mark-selected")]).toEqual([[], [], [" Cc", "Dd."]]);
    for (const element of elements) expect(element.childNodes).toHaveLength(1);
    painter.dispose();
    expect(text("mark-gold")).toEqual([]);
  });
});
