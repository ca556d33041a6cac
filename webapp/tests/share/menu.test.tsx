import { render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { CasePage } from "../../src/case/CasePage";
import { navigate } from "../../src/model/link";
import { serverFlow } from "../../src/model/server";
import type { FlowSource } from "../../src/model/types";
import { ShareMenu } from "../../src/share/ShareMenu";
import { settled, smallSource } from "../case/synthetic";

let root: HTMLElement;
const saved: { href: string; name: string }[] = [];
let click: ReturnType<typeof vi.spyOn>;

beforeEach(() => {
  vi.stubGlobal("IntersectionObserver", class { observe(): void {} disconnect(): void {} }); // prettier-ignore
  saved.length = 0;
  click = vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    saved.push({ href: this.getAttribute("href")!, name: this.download });
  });
  navigate({ page: "flow", flow: "f" });
  root = document.body.appendChild(document.createElement("main"));
});

afterEach(() => {
  render(null, root);
  root.remove();
  click.mockRestore();
  vi.unstubAllGlobals();
});

async function open(source: FlowSource): Promise<string[]> {
  render(<CasePage case={{ id: "c", variants: [{ name: "flow", label: "flow", source }] }} tools={<ShareMenu />} />, root);
  await settled(30);
  root.querySelector<HTMLElement>(".share > button")!.click();
  await settled();
  return items().map((item) => item.textContent!);
}
const items = (): HTMLElement[] => [...root.querySelectorAll<HTMLElement>("[role=menuitem]")];
const said = (): string => root.querySelector(".share-said")!.textContent!;

it("offers the flow file of the server, which the browser downloads", async () => {
  const flow = serverFlow("a b");
  expect(await open({ ...smallSource(), page: flow.page, file: flow.file! })).toContain("Flow file (.safetensors)");
  items().find((item) => item.textContent!.startsWith("Flow file"))!.click();
  await settled(10);
  expect(saved).toEqual([{ href: "/api/flows/a%20b/file", name: "small.safetensors" }]);
  expect(said()).toBe("The browser saves the flow file");
});

it("offers no flow file for other sources", async () => {
  const found = await open(smallSource());
  expect(found).toContain("One-file page (HTML)");
  expect(found.join()).not.toContain("Flow file");
});

it("shows the server's message when it cannot make the page", async () => {
  const refused = { error: { code: "flow_gone", message: "This run made room for newer ones: run it again." } };
  vi.stubGlobal("fetch", async () => Response.json(refused, { status: 404 }));
  await open({ ...smallSource(), page: "/api/flows/f/page" });
  items()[1]!.click();
  await settled(10);
  expect(said()).toBe("This run made room for newer ones: run it again.");
  expect(saved).toEqual([]);
});
