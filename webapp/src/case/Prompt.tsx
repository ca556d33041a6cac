/** The whole prompt as plain text, one text node for each chunk, with the map beside it. Text near the viewport is coloured. */
import { effect } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { showShare } from "../model/scale";
import { documentName, goldOf } from "../model/shares";
import { versionOf } from "./fit";
import { PromptPane } from "./pane";
import { useCase } from "./state";

const LINE = 1.7; // em a line, as in case.css
const WIDTH = 80; // approximate characters in a line: estimates the height of text that was never drawn

export function Prompt(): VNode {
  const state = useCase();
  const view = state.view.value;
  const layout = state.layout.value;
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const gold = useMemo(() => goldOf(view, "document"), [view]);
  // Rendered once for each view: 100,000 tokens are 400 text nodes. The pane changes their colours.
  const blocks = useMemo(
    () =>
      layout.blocks.map(({ document, chunks }, b) => {
        const text = layout.chunks.slice(chunks.start, chunks.stop).map((chunk, i) => {
          const shown = view.text.slice(chunk.start, chunk.stop);
          return (
            <div key={i} class="case-chunk" data-chunk={chunks.start + i} style={{ containIntrinsicSize: `auto ${height(shown)}em` }}>
              {shown}
            </div>
          );
        });
        if (document < 0) {
          const outside = view.documents.length > 0;
          return <div key={b} class={outside ? "case-block outside" : "case-block document"}>{text}</div>;
        }
        return (
          <section key={b} class="case-block document" aria-label={documentName(view, document)}>
            <h3>
              <span>
                <bdi>{documentName(view, document)}</bdi> {gold?.has(document) && <span class="badge gold">gold</span>}
              </span>
              <b data-document={document} />
            </h3>
            {text}
          </section>
        );
      }),
    [view, layout],
  );
  useLayoutEffect(() => {
    const pane = new PromptPane(scroller.current!, canvas.current!, tip.current!, state);
    return () => pane.dispose();
  }, [state, view]);
  useLayoutEffect(() => {
    const headings = [...scroller.current!.querySelectorAll<HTMLElement>("b[data-document]")];
    return effect(() => {
      const { values } = state.documentShares.value;
      for (const heading of headings) writeShare(heading, values[Number(heading.dataset.document)] ?? 0);
    });
  }, [state, view]);
  return (
    <>
      <div class="case-prompt" key={versionOf(view)} ref={scroller} id="case-prompt" role="region" aria-label="Prompt" tabIndex={0}>
        {blocks}
      </div>
      <canvas
        ref={canvas}
        class="case-map"
        role="slider"
        tabIndex={0}
        aria-orientation="vertical"
        aria-controls="case-prompt"
        aria-label="Place in the prompt"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={0}
      />
      <div ref={tip} class="case-tip" hidden aria-hidden="true" />
    </>
  );
}

function writeShare(heading: HTMLElement, share: number): void {
  const text = showShare(share);
  if (heading.textContent !== text) heading.textContent = text;
}

function height(text: string): number {
  let lines = 0;
  for (const line of text.split("\n")) lines += Math.max(1, Math.ceil(line.length / WIDTH));
  return Math.round(lines * LINE * 10) / 10;
}
