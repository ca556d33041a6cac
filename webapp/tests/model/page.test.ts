import { beforeEach, expect, test } from "vitest";
import { embeddedFlow } from "../../src/model/page";
import { viewFile } from "./views";

function embed(bytes: Uint8Array | string, type = "application/octet-stream"): void {
  const script = document.createElement("script");
  script.setAttribute("type", type);
  script.id = "view";
  script.textContent = typeof bytes === "string" ? bytes : `\n${Buffer.from(bytes).toString("base64")}\n`;
  document.body.append(script);
}

beforeEach(() => document.body.replaceChildren());

test("the flow of an exported page is read", async () => {
  const values = new Uint16Array(12).fill(65535);
  embed(viewFile({}, { rows: { data: values, shape: [2, 6] }, largest: { data: new Float32Array([1, 0.5]) } }));
  const flow = embeddedFlow()!;
  expect(flow.page).toBeNull();
  expect(flow.peek!({ start: 1, stop: 2 })).toBeNull();
  expect((await flow.view()).text).toBe("Hi A😀b\n⟦U+202E⟧end");
  expect([...(await flow.rows({ start: 1, stop: 2 }))]).toEqual([0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
  expect(flow.peek!({ start: 1, stop: 2 })![0]).toBe(0.5);
  expect([...(await flow.received({ start: 0, stop: 2 }))]).toEqual([2, 1]);
  expect((await flow.edges("document", { start: 0, stop: 2 }, null, 1)).total).toBe(9);
});

test("a page without a flow returns null", () => {
  expect(embeddedFlow()).toBeNull();
  embed("{}", "application/json");
  expect(embeddedFlow()).toBeNull();
});

test("a damaged page raises an error on first use", async () => {
  embed("!!!!");
  await expect(embeddedFlow()!.view()).rejects.toThrow(/damaged: export it again/);
  document.body.replaceChildren();
  embed(viewFile());
  await expect(embeddedFlow()!.view()).rejects.toThrow(/carries no scores/);
  document.body.replaceChildren();
  embed(viewFile().slice(0, 100));
  await expect(embeddedFlow()!.view()).rejects.toThrow(/only the beginning/);
});
