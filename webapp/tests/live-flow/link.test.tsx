import { render } from "preact";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { CaseState } from "../../src/case/state";
import { FlowViews } from "../../src/live/flow/FlowViews";
import { decodeFlow, encodeFlow, FLOW } from "../../src/live/flow/link";
import type { FlowSettings } from "../../src/live/flow/link";
import { amend, format, navigate, parse, place, type Query } from "../../src/model/link";
import { encode } from "../../src/model/safetensors";
import type { FlowSource } from "../../src/model/types";
import { fakeCanvas, smallView } from "../canvas/views";

const HERE = { page: "live", run: "r" } as const;
const all: FlowSettings = {
  tab: "layer", grain: "sentence", room: "mass", heads: [[18, 6], [18, 7]], lead: [3, 0], layer: 18, measure: "sink", relative: "absolute", weighed: true, only: [18, 7], cells: "mean", keep: 75, nodes: 48,
};
const written = (settings: FlowSettings): Query => Object.fromEntries(Object.entries(encodeFlow(settings)).filter(([, value]) => value !== undefined)) as Query;

describe("the keys", () => {
  test("survive a readable address", () => {
    expect(decodeFlow(parse(format(HERE, written(all))).query)).toEqual(all);
    expect(format(HERE, written(all))).toContain("f.heads=18.6,18.7&");
  });

  test("with default values are left out", () => expect(written(FLOW)).toEqual({}));

  test.each([
    { "f.tab": "constructor", "f.layer": "-1", "f.measure": "toString", "f.relative": "1", "f.weighed": "1", "f.cells": "min", "f.keep": "7", "f.nodes": "7", "f.head": "1", "f.only": "a.b" },
    { "f.tab": "", "f.grain": "auto,", "f.room": "__proto__", "f.heads": "1,,x.2,3.-1,4.5.6", "f.layer": "99999", "f.head": "1.2.3" },
  ])("nonsense is what it is by default: %j", (query) => expect(decodeFlow(query as Query)).toEqual(FLOW));

  test("a head occurs once, a share stays in its bounds, and the number of heads is limited", () => {
    expect(decodeFlow({ "f.heads": "1.2,1.2,01.02,1.3" }).heads).toEqual([[1, 2], [1, 3]]);
    expect([decodeFlow({ "f.keep": "10" }).keep, decodeFlow({ "f.keep": "99" }).keep]).toEqual([50, 99]);
    const many = { ...FLOW, heads: Array.from({ length: 1000 }, (_, i) => [i, 10] as const) };
    const query = { ...written(many), k: "7" };
    expect(parse(format(HERE, query)).query).toEqual(query);
  });
});

const view = smallView();
const source: FlowSource = {
  view: async () => view, rows: async () => view.total, received: async () => new Float32Array(3), page: null,
  edges: async () => ({ rows: Int32Array.of(1), pieces: Int32Array.of(0), mass: Float32Array.of(0.5), total: 1 }),
};
const L = 4, H = 3;
const asked: string[] = [];

/** 4 x 3 heads; 0.1 was not recorded. Later heads count more, except for the first row, where 1.1 counts most. */
function answer(path: string): Response {
  const url = new URL(path, "http://x"), what = url.pathname.split("/").pop();
  if (what === "heads") {
    const best = url.searchParams.get("stop") === "1" ? 4 : 11;
    const map = { data: Float32Array.from({ length: L * H }, (_, i) => (i === 1 ? NaN : i === best ? 0.9 : i / 20)), shape: [L, H] };
    return new Response(encode({ mass: map, entropy: map, sink: map, distance: map, weight: map }));
  }
  if (what === "tiles") return Response.json({ tokens: 18, size: 256, levels: 1 });
  if (what === "trace") return Response.json({ levels: [], edges: [], shown: 0, exact: 1, paths: [] });
  const heads = (url.searchParams.get("heads") ?? "").split(",").map(Number), n = heads.length;
  const floats = { data: new Float32Array(n).fill(0.5) }, ones = { data: new Int32Array(n).fill(1) };
  return new Response(encode({ query: ones, key: ones, head: { data: Int32Array.from(heads) }, mass: floats, totals: floats, relative: floats }));
}

let drawn: ReturnType<typeof fakeCanvas>, state: CaseState | null = null, root: HTMLElement;
const chosenTab = (): string => root.querySelector('[role=tab][aria-selected="true"]')?.textContent ?? "";
const pressed = (): string[] => [...root.querySelectorAll('.flow-bar [aria-pressed="true"]')].map((b) => b.textContent ?? "");
const button = (name: string): HTMLElement => [...root.querySelectorAll("button")].find((b) => b.textContent === name) as HTMLElement;
const layers = (): string[] => asked.filter((path) => path.includes("/layer?"));

async function show(query: Query): Promise<void> {
  render(null, root);
  state?.dispose();
  navigate(HERE, { query });
  asked.length = 0;
  state = await CaseState.open({ id: "c", variants: [{ name: "flow", label: "flow", source }] }, place.peek().query);
  render(<FlowViews flow="f1" state={state} onWeigh={vi.fn()} />, root);
}

beforeEach(() => {
  vi.stubGlobal("fetch", async (path: string) => (asked.push(path), answer(path)));
  drawn = fakeCanvas();
  root = document.body.appendChild(document.createElement("div"));
});
afterEach(() => {
  render(null, root);
  state?.dispose();
  state = null;
  root.remove();
  drawn.restore();
  vi.unstubAllGlobals();
});
afterAll(() => new Promise((resolve) => setTimeout(resolve, 200)));

describe("a link", () => {
  test("shows the named heads with the named scale", async () => {
    await show({ "f.tab": "layer", "f.heads": "3.0,2.1", "f.relative": "absolute", "f.weighed": "yes", "f.only": "2.1" });
    await vi.waitFor(() => expect(layers()).toHaveLength(2));
    expect(layers()[0]).toContain("layer=3&heads=0&");
    expect(layers()[1]).toContain("layer=2&heads=1&");
    expect([chosenTab(), pressed()]).toEqual(["Layer and head", ["Absolute"]]);
    expect(root.querySelector<HTMLInputElement>(".flow-bar input")?.checked).toBe(true);
    await vi.waitFor(() => expect(root.querySelector('.flow-chips [aria-pressed="true"] b')?.textContent).toBe("Head 2.1"));
  });

  test("sets pieces and widths of the whole model, and follows changes", async () => {
    await show({ "f.grain": "sentence", "f.room": "mass" });
    expect([chosenTab(), pressed()]).toEqual(["Whole model", ["Sentences", "By flow"]]);
    button("By text").click();
    await vi.waitFor(() => expect(place.value.query).toEqual({ "f.grain": "sentence" }));
  });

  test("sets a whole layer, a measure, a matrix, routes", async () => {
    await show({ "f.tab": "layer", "f.layer": "2" });
    await vi.waitFor(() => expect(layers()[0]).toContain("layer=2&heads=0,1,2&"));
    await show({ "f.tab": "heads", "f.measure": "distance", "f.heads": "1.0,1.2" });
    await vi.waitFor(() => expect(root.textContent).toContain("2 heads chosen 1.0, 1.2"));
    expect(pressed()).toEqual(["Distance"]);
    await show({ "f.tab": "matrix", "f.heads": "1.2", "f.cells": "mean" });
    await vi.waitFor(() => expect(asked).toContain("/api/flows/f1/tiles?layer=1&head=2"));
    expect(pressed()).toEqual(["Mean"]);
    await show({ "f.tab": "trace", "f.keep": "75", "f.nodes": "12" });
    await vi.waitFor(() => expect(asked[0]).toContain("keep=0.75&nodes=12"));
  });

  test("to missing or unrecorded heads shows the recorded ones and cleans the address", async () => {
    await show({ "f.tab": "layer", "f.heads": "0.1,99.0,2.0", "f.layer": "77", k: "3" });
    await vi.waitFor(() => expect(layers()).toHaveLength(1));
    expect(layers()[0]).toContain("layer=2&heads=0&");
    await vi.waitFor(() => expect(place.value.query).toEqual({ "f.tab": "layer", "f.heads": "2.0", k: "3" }));
  });

  test("keeps the head that was strongest when it was first shown", async () => {
    await show({});
    button("Layer and head").click();
    await vi.waitFor(() => expect(layers()[0]).toContain("layer=3&heads=2&"));
    state!.pin({ start: 0, stop: 1 }); // for this row another head is stronger
    await vi.waitFor(() => expect(place.value.query).toEqual({ "f.tab": "layer", "f.head": "3.2", rows: "1" }));
    await show(place.peek().query);
    await vi.waitFor(() => expect(layers()[0]).toContain("layer=3&heads=2&"));
  });
});

test("writes choices to the address, and keeps other keys", async () => {
  await show({ k: "3", x: "y" });
  button("Heads").click();
  await vi.waitFor(() => expect(root.textContent).toContain("Largest entropy"));
  button("Sink").click();
  await vi.waitFor(() => expect(place.value.query).toMatchObject({ k: "3", x: "y", "f.tab": "heads", "f.measure": "sink" }));
  button("Layer and head").click();
  await vi.waitFor(() => expect(button("Absolute")).toBeTruthy());
  button("Absolute").click();
  await vi.waitFor(() => expect(place.value.query).toMatchObject({ k: "3", x: "y", "f.tab": "layer", "f.relative": "absolute" }));
});

test("a new address in the same tab is followed, and an immediate choice is not lost", async () => {
  await show({});
  button("Heads").click(); // before any effect has run
  await vi.waitFor(() => expect(place.value.query).toEqual({ "f.tab": "heads" }));
  amend({ "f.tab": "trace", "f.keep": "60" });
  await vi.waitFor(() => expect(asked.some((path) => path.includes("keep=0.6&"))).toBe(true));
  expect(chosenTab()).toBe("Routes");
});
