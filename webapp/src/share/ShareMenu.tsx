/** The menu to copy the link and to save a page, a picture or a table. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { api } from "../api/client";
import { useCase } from "../case/state";
import { UserError } from "../model/types";
import { toCsv } from "./csv";
import { fileName, save, saveFrom } from "./download";
import { standalone } from "./page";
import { barsSvg, toPng } from "./picture";
import "./share.css";
import { shownNow, tableRows } from "./table";
import { encodeView } from "./view";

const ROOM = 3_600_000; // bytes of rows in a page made by the browser; base64 adds a third

/** The menu button in the tools of a case page. */
export function ShareMenu(): JSX.Element {
  const state = useCase();
  const open = useSignal(false);
  const said = useSignal("");
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open.value) return;
    const outside = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) open.value = false;
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open.value]);

  const act = (what: string, action: () => Promise<void> | void) => async () => {
    open.value = false;
    said.value = "";
    try {
      await action();
      said.value = what;
    } catch (error) {
      if (!(error instanceof UserError)) console.error(error);
      said.value = error instanceof UserError ? error.message : "That did not work; the browser may forbid it here.";
    }
    root.current?.querySelector("button")?.focus();
  };
  const name = (ending: string): string => fileName(state.view.value.title.replace(/^attributor:\s*/, ""), ending);

  const link = act("Link copied", () => navigator.clipboard.writeText(location.href));
  const page = act("Page saved", async () => {
    const { source } = state.variant.value;
    const view = state.view.value;
    if (source.page !== null) {
      save(name("html"), await api.bytes(source.page), "text/html");
      return;
    }
    const bytes = await encodeView(view, source, ROOM, (done, total) => {
      said.value = `Reading rows for the page: ${done} of ${total}`;
    });
    save(name("html"), await standalone(view.title, bytes), "text/html");
  });
  const svg = act("SVG saved", () => save(name("svg"), barsSvg(shownNow(state)), "image/svg+xml"));
  const png = act("PNG saved", async () => save(name("png"), await toPng(barsSvg(shownNow(state))), "image/png"));
  const csv = act("Table saved", () => {
    const { header, rows } = tableRows(shownNow(state));
    save(name("csv"), toCsv(header, rows), "text/csv");
  });
  const json = act("JSON saved", () => save(name("json"), JSON.stringify(shownNow(state), null, 2), "application/json"));

  const items: [string, () => Promise<void>][] = [
    ["Copy the link", link],
    ["One-file page (HTML)", page],
    ["Picture (PNG)", png],
    ["Picture (SVG)", svg],
    ["Table (CSV)", csv],
    ["Everything shown (JSON)", json],
  ];
  const { file } = state.variant.value.source;
  if (file) items.splice(2, 0, ["Flow file (.safetensors)", act("The browser saves the flow file", () => saveFrom(file, name("safetensors")))]);
  return (
    <div class="share" ref={root} onKeyDown={(event) => move(event, root.current, () => (open.value = false))}>
      <button type="button" class="button quiet" aria-haspopup="menu" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        Share
      </button>
      {open.value && (
        <ul role="menu" aria-label="Share">
          {items.map(([label, action], i) => (
            <li key={label} role="none">
              <button type="button" role="menuitem" tabIndex={-1} autofocus={i === 0} ref={i === 0 ? focus : null} onClick={() => void action()}>
                {label}
              </button>
            </li>
          ))}
        </ul>
      )}
      <span class="share-said" role="status">
        {said.value}
      </span>
    </div>
  );
}

function focus(element: HTMLElement | null): void {
  element?.focus();
}

function move(event: KeyboardEvent, root: HTMLElement | null, close: () => void): void {
  const items = [...(root?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
  if (items.length === 0) return;
  const at = items.indexOf(document.activeElement as HTMLElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    items.at(to % items.length)?.focus();
  } else if (event.key === "Escape") {
    event.stopPropagation();
    close();
    root?.querySelector("button")?.focus();
  } else if (event.key === "Tab") {
    close();
  }
}
