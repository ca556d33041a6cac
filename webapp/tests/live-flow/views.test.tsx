import { render } from "preact";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Network } from "../../src/canvas/routes";
import { CaseState } from "../../src/case/state";
import { largest, write } from "../../src/live/flow/HeadsTab";
import { FlowViews } from "../../src/live/flow/FlowViews";
import type { FlowViewsProps } from "../../src/live/flow/FlowViews";
import { merge } from "../../src/live/flow/LayerTab";
import { ordinal, tokenText } from "../../src/live/flow/MatrixTab";
import { headsText, routeText } from "../../src/live/flow/routetext";
import { encode } from "../../src/model/safetensors";
import type { Edges, FlowSource } from "../../src/model/types";
import { fakeCanvas, smallView } from "../canvas/views";

const view = smallView();
const edges: Edges = { rows: Int32Array.of(1, 0), pieces: Int32Array.of(0, 1), mass: Float32Array.of(0.5, 0.25), total: 1 };
const source: FlowSource = {
  view: async () => view, rows: async () => view.total, received: async () => new Float32Array(3), edges: vi.fn(async () => edges), page: null,
};
const asked: string[] = [];
let refuse: Response | null;
const L = 4, H = 3;
let best: number; // the strongest head

function answer(path: string): Response {
  if (refuse) return refuse.clone();
  const url = new URL(path, "http://x"), what = url.pathname.split("/").pop();
  if (what === "heads") {
    const map = { data: Float32Array.from({ length: L * H }, (_, i) => (i === 1 ? NaN : i === best ? 0.9 : i / 20)), shape: [L, H] };
    return new Response(encode({ mass: map, entropy: map, sink: map, distance: map, weight: map }));
  }
  if (what === "layer") {
    const heads = (url.searchParams.get("heads") ?? "").split(",").map(Number), n = heads.length;
    const ints = (f: (i: number) => number) => ({ data: Int32Array.from({ length: n }, (_, i) => f(i)) });
    return new Response(encode({ query: ints(() => 1), key: ints(() => 3), head: ints((i) => heads[i]), mass: { data: new Float32Array(n).fill(0.4) }, totals: { data: new Float32Array(n).fill(0.8) }, relative: { data: new Float32Array(n).fill(0.5) } }));
  }
  if (what === "trace") {
    const levels = [[0, 15, null, 1, 0.8], [1, 3, 3, null, 0.8]].map(([id, position, unit, row, mass], i) => ({ layer: 1 - i, nodes: [{ id, position, unit, row, mass }] }));
    return Response.json({ levels, edges: [{ from: 0, to: 1, mass: 0.8, head: 2, heads: [[2, 1]] }], shown: 0.8, exact: 1, paths: [{ nodes: [0, 1], mass: 0.8, share: 0.8 }] });
  }
  if (what === "tiles") return Response.json({ tokens: 18, size: 256, levels: 1 });
  const bytes = { data: new Uint8Array(65536).fill(200), shape: [256, 256] };
  return new Response(encode({ max: bytes, mean: bytes, scale: { data: Float32Array.of(0.9, 0.4) }, every: { data: Int32Array.of(8) } }));
}

let drawn: ReturnType<typeof fakeCanvas>, state: CaseState, root: HTMLElement;
const onWeigh = vi.fn();
const text = (): string => root.textContent ?? "";
const tab = (name: string): HTMLElement => [...root.querySelectorAll<HTMLElement>("[role=tab]")].find((t) => t.textContent === name) as HTMLElement;
const button = (name: string): HTMLButtonElement => [...root.querySelectorAll("button")].find((b) => b.textContent === name) as HTMLButtonElement;

async function show(props: Partial<FlowViewsProps> = {}): Promise<void> {
  state = await CaseState.open({ id: "c", variants: [{ name: "flow", label: "flow", source }] }, {});
  render(<FlowViews flow="f1" state={state} onWeigh={onWeigh} {...props} />, root);
  await vi.waitFor(() => expect(text()).toContain("75% of the flow"));
}

beforeEach(() => {
  vi.clearAllMocks();
  asked.length = 0;
  refuse = null;
  best = L * H - 1;
  location.hash = ""; // the selection is stored in the hash
  dispatchEvent(new Event("hashchange"));
  vi.stubGlobal("fetch", async (path: string) => (asked.push(path), answer(path)));
  drawn = fakeCanvas();
  root = document.createElement("div");
  document.body.append(root);
});
afterEach(() => {
  render(null, root);
  state.dispose();
  root.remove();
  drawn.restore();
  vi.unstubAllGlobals();
});

// Passive effects also have a timer, which must not fire after the page is gone.
afterAll(() => new Promise((resolve) => setTimeout(resolve, 200)));

describe("the tabs", () => {
  test("follow the ARIA pattern: one tab stop, arrows move and wrap", async () => {
    await show();
    const tabs = [...root.querySelectorAll<HTMLElement>("[role=tab]")];
    expect(tabs.map((t) => t.tabIndex)).toEqual([0, -1, -1, -1, -1]);
    tabs[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
    await vi.waitFor(() => expect(tab("Matrix").getAttribute("aria-selected")).toBe("true"));
    expect(root.querySelector("[role=tabpanel]")?.getAttribute("aria-labelledby")).toBe(tab("Matrix").id);
  });

  test("the whole model requests edges of all rows from the case's source, up to the limit of curves", async () => {
    await show();
    expect(source.edges).toHaveBeenCalledTimes(1);
    const [, rows, units, limit] = vi.mocked(source.edges).mock.calls[0];
    expect([rows, units]).toEqual([{ start: 0, stop: 3 }, null]);
    expect(limit).toBeLessThanOrEqual(1000);
    expect(asked).toEqual([]); // the recording is not needed
  });

  test("lists its curves as a table", async () => {
    await show();
    const cells = [...root.querySelectorAll("td")].map((td) => td.textContent);
    expect(cells[1]).toBe("“Paris” (2)");
    expect(cells[2]).toBe("50% of everything this token took"); // of the template
  });

  test("without a recording the other tabs say what to do, and send no request", async () => {
    await show({ recorded: false });
    for (const name of ["Heads", "Routes", "Matrix"]) {
      tab(name).click();
      await vi.waitFor(() => expect(text()).toContain("evicted to make room: run it again"));
    }
    expect(asked).toEqual([]);
  });

  test("a recording that is evicted later shows the same notice; other failures can be retried", async () => {
    await show();
    refuse = Response.json({ error: { code: "recording_gone", message: "x" } }, { status: 409 });
    tab("Routes").click();
    await vi.waitFor(() => expect(root.querySelector("[role=alert]")?.textContent).toContain("run it again"));
    refuse = Response.json({ error: { code: "busy", message: "The server has no memory left; choose fewer rows." } }, { status: 503 });
    tab("Heads").click();
    await vi.waitFor(() => expect(text()).toContain("no memory left; choose fewer rows."));
    refuse = null;
    button("Try again").click();
    await vi.waitFor(() => expect(text()).toContain("Largest entropy"));
  });
});

describe("heads", () => {
  test("the grid announces its current cell; chosen heads are passed to onWeigh", async () => {
    await show();
    tab("Heads").click();
    await vi.waitFor(() => expect(text()).toContain("Largest entropy"));
    const grid = root.querySelector("[role=grid]") as HTMLElement;
    expect([grid.getAttribute("aria-rowcount"), grid.getAttribute("aria-colcount")]).toEqual(["4", "4"]);
    const key = (name: string) => grid.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
    await vi.waitFor(() => expect(key("ArrowRight")).toBe(false)); // passive effects, which pass the data to the picture, run after the paint
    for (const name of ["ArrowDown", " ", "ArrowDown", " "]) expect(key(name)).toBe(false);
    await vi.waitFor(() => expect(root.querySelector("#flow-cell")?.textContent).toContain("Layer 2, head 0"));
    expect(root.querySelector("#flow-cell")?.getAttribute("aria-selected")).toBe("true");
    button("Flow through these heads only").click();
    expect(onWeigh).toHaveBeenCalledWith([[1, 0], [2, 0]]);
    for (const name of ["ArrowUp", "ArrowUp", "ArrowRight", " "]) key(name); // head 0.1 was not recorded
    await vi.waitFor(() => expect(text()).toContain("not recorded, because its weight in this run is 0"));
    expect(text()).toContain("2 heads chosen");
    button("Open them").click();
    await vi.waitFor(() => expect(asked.filter((path) => path.includes("/layer?"))).toHaveLength(2));
  });

  test("leaving the grid removes the outline of the cell", async () => {
    await show();
    tab("Heads").click();
    await vi.waitFor(() => expect(text()).toContain("Largest entropy"));
    const grid = root.querySelector("[role=grid]") as HTMLElement, canvas = root.querySelector("canvas") as HTMLElement;
    grid.focus();
    const key = () => grid.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true, cancelable: true }));
    await vi.waitFor(() => expect(key()).toBe(false));
    await vi.waitFor(() => expect(root.querySelector("#flow-cell")?.textContent).toContain("Layer"));
    expect(canvas.classList.contains("flow-pointing")).toBe(true);
    grid.blur();
    expect(canvas.classList.contains("flow-pointing")).toBe(false);
    await vi.waitFor(() => expect(root.querySelector("#flow-cell")?.textContent).toBe("Arrow keys move through the heads."));
  });

  test("requests follow the selection of rows and units, one request for many changes", async () => {
    await show();
    tab("Heads").click();
    await vi.waitFor(() => expect(text()).toContain("Largest entropy"));
    for (const start of [0, 1, 0, 1, 2]) state.pin({ start, stop: start + 1 });
    state.select({ by: "document", index: 0 });
    await vi.waitFor(() => expect(asked).toHaveLength(2));
    expect(asked[1]).toBe("/api/flows/f1/heads?start=2&stop=3&unit_start=3&unit_stop=8");
  });
});

test("a layer shows the strongest head first, with its weight and share", async () => {
  await show();
  tab("Layer and head").click();
  await vi.waitFor(() => expect(text()).toContain("3.2"));
  expect(asked[1]).toContain("layer?layer=3&heads=2&");
  const chip = root.querySelector(".flow-chips button") as HTMLElement;
  await vi.waitFor(() => expect(chip.textContent).toBe("Head 3.226.7% of its attention on the prompt50.0% drawn"));
  expect(chip.title).toContain("50.0% of the largest");
});

test("a head shown alone does not hide the heads of the next layer", async () => {
  await show();
  tab("Layer and head").click();
  await vi.waitFor(() => expect(text()).toContain("3.2"));
  const choose = (label: string, value: string): void => {
    const select = [...root.querySelectorAll("label")].find((l) => l.textContent?.startsWith(label))!.querySelector("select")!;
    select.value = value;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const chips = (): string[] => [...root.querySelectorAll(".flow-chips b")].map((b) => b.textContent ?? "");
  const alone = (): number => root.querySelectorAll('.flow-chips [aria-pressed="true"]').length;
  choose("Head", "all");
  await vi.waitFor(() => expect(chips()).toEqual(["Head 3.0", "Head 3.1", "Head 3.2"]));
  root.querySelectorAll<HTMLElement>(".flow-chips button")[2].click();
  await vi.waitFor(() => expect(alone()).toBe(1));
  choose("Layer", "2");
  await vi.waitFor(() => expect(chips()).toEqual(["Head 2.0", "Head 2.1", "Head 2.2"]));
  expect(alone()).toBe(0);
});

test("a click on a token does not change the shown head", async () => {
  await show();
  tab("Layer and head").click();
  await vi.waitFor(() => expect(text()).toContain("3.2"));
  best = 4;
  state.select({ by: "token", index: 3 });
  await vi.waitFor(() => expect(asked.at(-1)).toContain("unit_start=3"));
  await vi.waitFor(() => expect(asked.filter((path) => path.includes("/layer?")).at(-1)).toContain("layer?layer=3&heads=2&start=0&stop=3&unit_start=3"));
  expect(asked.filter((path) => path.includes("/layer?layer=1"))).toEqual([]);
});

test("routes are listed as buttons", async () => {
  await show();
  tab("Routes").click();
  await vi.waitFor(() => expect(text()).toContain("“Paris” (written after “In”)  ← head 0.2 ←  “Paris”"));
  const route = root.querySelector(".flow-routes li button") as HTMLElement;
  route.click();
  await vi.waitFor(() => expect(route.getAttribute("aria-pressed")).toBe("true"));
  expect(text()).toContain("shows 80% of the flow from the whole answer to the prompt");
  state.pin({ start: 1, stop: 2 }); // a new network has no highlighted route, so no route is faded
  await vi.waitFor(() => expect(asked.filter((path) => path.includes("/trace?"))).toHaveLength(2));
  await vi.waitFor(() => expect(root.querySelector(".flow-routes li button")?.getAttribute("aria-pressed")).toBe("false"));
});

test("a picked node is not picked in the next network, whose nodes have the same ids", async () => {
  await show();
  tab("Routes").click();
  await vi.waitFor(() => expect(text()).toContain("Strongest routes that move"));
  const canvas = root.querySelector("canvas") as HTMLElement;
  await vi.waitFor(() => {
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true }));
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
    expect(text()).toContain("Routes through what you picked");
  });
  state.pin({ start: 1, stop: 2 });
  await vi.waitFor(() => expect(text()).toContain("from “Paris” to the"));
  await vi.waitFor(() => expect(text()).toContain("Strongest routes that move"));
});

test("the matrix shows that rows were left out", async () => {
  await show();
  tab("Matrix").click();
  await vi.waitFor(() => expect(text()).toContain("Only every 8th row was computed"));
});

describe("texts", () => {
  test("ordinal numbers", () => {
    expect([2, 3, 4, 11, 12, 13, 21, 32, 111].map(ordinal)).toEqual(["2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "32nd", "111th"]);
  });

  test("numbers of heads", () => {
    expect([write("mass", 0.1234), write("entropy", 1.5), write("distance", 1234.5), write("sink", NaN)]).toEqual(["12.3%", "1.50", "1,235", "not recorded"]);
    expect(largest(Float32Array.of(NaN, 2, 1))).toBe(2);
    expect(largest(new Float32Array(200_000))).toBe(0);
  });

  test("tokens by position, including units of several tokens", () => {
    expect([0, 3, 15, 16, 99].map((p) => tokenText(view, p))).toEqual(["<s>", "Paris", "In", "Paris", "token 99"]);
    const first = Int32Array.from({ length: 16 }, (_, u) => 2 * u);
    expect([6, 7, 30].map((p) => tokenText(smallView({ firstToken: first }), p))).toEqual(["Paris", "Paris", "In"]);
  });

  test("routes leave out layers in which they stay", () => {
    const node = (id: number, position: number) => ({ id, position, unit: position, row: null, mass: 1 });
    const network = new Network({
      levels: [2, 1, 0].map((layer, i) => ({ layer, nodes: [node(i, i < 2 ? 4 : 3)] })), shown: 1, exact: 1, paths: [],
      edges: [{ from: 0, to: 1, mass: 1, head: null, heads: [] }, { from: 1, to: 2, mass: 1, head: 7, heads: [[7, 0.75], [2, 0.25]] }],
    });
    expect(routeText(view, network, [0, 1, 2])).toBe("“is”  ← head 0.7 ←  “Paris”");
    expect(routeText(view, network, [0, 1])).toBe("“is” stays where it is");
    expect(headsText(network, network.trace.edges[1])).toBe("head 0.7 (75%), head 0.2 (25%)");
  });

  test("heads of several layers are merged in the order of choice", () => {
    const one = (head: number, mass: number) => ({ query: Int32Array.of(1), key: Int32Array.of(3), head: Int32Array.of(head), mass: Float32Array.of(mass), totals: Float32Array.of(mass), relative: Float32Array.of(mass / 2), used: 2 });
    const found = merge([[9, 1], [2, 4]], { start: 0, stop: 3 }, [{ layer: 2, heads: [4], answer: one(4, 0.5) }, { layer: 9, heads: [1], answer: one(1, 0.25) }]);
    expect(found.edges.map((e) => [e.head, e.mass])).toEqual([[1, 0.5], [0, 0.25]]);
    expect([found.totals, found.weights, found.used]).toEqual([[0.25, 0.5], [0.125, 0.25], 2]);
  });
});
