import { signal } from "@preact/signals";
import { render } from "preact";
import { afterAll, afterEach, beforeEach, expect, test, vi } from "vitest";

import { WholeModel } from "../../src/canvas/WholeModel";
import { CaseState } from "../../src/case/state";
import type { Edges, FlowSource, Variant, View } from "../../src/model/types";
import { fakeCanvas, smallView } from "./views";

const tokens: Edges = { rows: Int32Array.of(2, 0), pieces: Int32Array.of(14, 1), mass: Float32Array.of(0.5, 0.25), total: 1 };
const sentences: Edges = { rows: Int32Array.of(0), pieces: Int32Array.of(0), mass: Float32Array.of(0.6), total: 0.8 };

/** A method of an evaluation: one row, pieces instead of tokens. */
const whole = smallView({
  kind: "piece", text: "Paris is big. Lyon too.", ends: Int32Array.of(13, 23), sentenceOf: Int32Array.of(0, 1), documentOf: Int32Array.of(0, 0), sentences: 2,
  documents: ["Cities"], answer: ["In Paris."], total: Float32Array.of(0.6, 0.2), base: Float32Array.of(0.8), sink: false, normalized: false,
});

function variant(name: string, view: View, edges: () => Promise<Edges>): Variant {
  const source: FlowSource = { view: async () => view, rows: async () => view.total, received: async () => new Float32Array(view.answer.length), edges, page: null };
  return { name, label: name, source };
}

let drawn: ReturnType<typeof fakeCanvas>, root: HTMLElement, state: CaseState;
const cells = (): (string | null)[] => [...root.querySelectorAll("td")].map((td) => td.textContent);

beforeEach(() => {
  drawn = fakeCanvas();
  root = document.body.appendChild(document.createElement("div"));
});
afterEach(() => {
  render(null, root);
  state.dispose();
  root.remove();
  drawn.restore();
});
afterAll(() => new Promise((resolve) => setTimeout(resolve, 200))); // passive effects also have a timer

test("curves of one method are never drawn over the text of another", async () => {
  const arrive: ((edges: Edges) => void)[] = [];
  const second = variant("sum", whole, () => new Promise<Edges>((resolve) => arrive.push(resolve)));
  state = await CaseState.open({ id: "c", variants: [variant("flow", smallView(), async () => tokens), second] }, {});
  render(<WholeModel state={state} />, root);
  await vi.waitFor(() => expect(cells()).toHaveLength(6));
  expect(cells()[1]).toBe("“.” (3)");
  state.use(second);
  await vi.waitFor(() => expect(state.view.value).toBe(whole));
  await vi.waitFor(() => expect(root.textContent).toContain("Nothing to list."));
  expect(root.textContent).not.toContain("of the flow");
  await vi.waitFor(() => expect(arrive.length).toBeGreaterThan(0)); // a picture with new text requests again
  arrive.at(-1)!(sentences);
  await vi.waitFor(() => expect(cells()).toEqual(["“Paris is big.”", "“In Paris.” (1)", "75%"]));
  expect(root.textContent).toContain("75% of the flow");
});

test("pieces of an evaluation have the granularities of the case page: sentences, not both", async () => {
  const edges = vi.fn(async () => sentences);
  const grains = (): (string | null)[] => [...root.querySelectorAll('[aria-label="Pieces"] button')].map((b) => b.textContent);
  const pressed = (): string | null | undefined => root.querySelector('[aria-label="Pieces"] [aria-pressed="true"]')?.textContent;
  const bare = variant("bare", smallView({ ...whole, sentences: 0, documents: [], sentenceOf: Int32Array.of(-1, -1), documentOf: Int32Array.of(-1, -1) }), edges);
  const methods = [variant("flow", smallView(), async () => tokens), variant("sum", whole, edges), bare] as const;
  state = await CaseState.open({ id: "c", variants: [...methods] }, {});
  render(<WholeModel state={state} grain={signal("token")} />, root);
  await vi.waitFor(() => expect([grains(), pressed()]).toEqual([["Auto", "Documents", "Sentences", "Tokens"], "Tokens"]));
  state.use(methods[1]);
  await vi.waitFor(() => expect([grains(), pressed()]).toEqual([["Auto", "Documents", "Sentences"], "Auto"]));
  await vi.waitFor(() => expect(edges).toHaveBeenCalledWith("sentence", { start: 0, stop: 1 }, null, expect.any(Number)));
  expect(edges).not.toHaveBeenCalledWith("token", expect.anything(), null, expect.any(Number));
  state.use(bare);
  await vi.waitFor(() => expect([grains(), pressed()]).toEqual([["Auto", "Pieces"], "Pieces"]));
});
