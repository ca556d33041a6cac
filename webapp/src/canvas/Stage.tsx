/** The place of one picture: its canvas, what is under the pointer as text, and what is said while data come or do not. */
import type { ReadonlySignal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { fileName, save } from "../share/download";
import { report } from "../ui/messages";
import "./canvas.css";
import type { Loaded } from "./loader";
import type { Picture } from "./picture";

export interface StageProps<D, H, P extends Picture<D, H>> {
  /** Makes the picture; called once. */
  make(canvas: HTMLCanvasElement): P;
  /** What to show; null for nothing yet. */
  data: D | null;
  /** What the picture is, for those who do not see it. */
  label: string;
  /** How it is used, below the picture. */
  hint?: string;
  /** What is under the pointer or the cursor; a sentence. */
  readout?: ReadonlySignal<string>;
  /** What is said about loading; left out, nothing is. */
  state?: Loaded<unknown>;
  retry?(): void;
  /** The sentence for data without anything in them. */
  empty?: string | null;
  /** What the picture is called when it is saved; left out, it cannot be. */
  file?: string;
  /** "none" where other elements say what the canvas shows, and take its keys. */
  role?: "application" | "none";
  children?: ComponentChildren;
}

/** Shows one picture. */
export function Stage<D, H, P extends Picture<D, H>>(props: StageProps<D, H, P>): VNode {
  const canvas = useRef<HTMLCanvasElement>(null), picture = useRef<P | null>(null);
  const { make, data } = props;
  // Not a passive effect: those end a frame after the canvas was taken out, and until then its size is followed down to nothing.
  useLayoutEffect(() => {
    const made = make(canvas.current as HTMLCanvasElement);
    picture.current = made;
    return () => {
      picture.current = null;
      made.destroy();
    };
  }, []);
  useEffect(() => {
    if (data !== null) picture.current?.set(data);
  }, [data]);
  const role = props.role ?? "application";
  const file = (ending: string): string => fileName(props.file ?? "", ending);
  const svg = (): void => void (picture.current && save(file("svg"), picture.current.toSVG(props.file), "image/svg+xml"));
  const png = (): void => void picture.current?.toPNG().then((made) => save(file("png"), made, "image/png"), report);
  return (
    <div class="flow-stage">
      <div class={data === null ? "flow-frame flow-blank" : "flow-frame"} aria-busy={props.state?.stale ?? false}>
        <div class="flow-place">
          {role === "none"
            ? <canvas ref={canvas} class="flow-canvas" aria-hidden="true" />
            : <canvas ref={canvas} class="flow-canvas" role={role} aria-label={props.label} tabIndex={0} />}
        </div>
        {props.children}
        {props.empty && <p class="flow-empty">{props.empty}</p>}
        {props.state && <Notice state={props.state} {...(props.retry && { retry: props.retry })} />}
      </div>
      <div class="flow-foot">
        <p class="flow-readout" aria-live="polite">{props.readout?.value || props.hint || " "}</p>
        {props.file && data !== null && (
          <span class="flow-take">
            <button type="button" class="button quiet" title="Save this picture as SVG" onClick={svg}>SVG</button>
            <button type="button" class="button quiet" title="Save this picture as PNG" onClick={png}>PNG</button>
          </span>
        )}
      </div>
    </div>
  );
}

/** That it takes a while, that it failed, or that it cannot be had any more. */
export function Notice({ state, retry }: { state: Loaded<unknown>; retry?: () => void }): VNode | null {
  if (state.gone) return <p class="flow-notice" role="alert">The recording of this run was evicted to make room: run it again to see inside the model.</p>;
  if (state.error) {
    return (
      <p class="flow-notice flow-failed" role="alert">
        <span>{state.error}</span>
        {retry && <button type="button" class="button" onClick={retry}>Try again</button>}
      </p>
    );
  }
  if (state.slow) return <p class="flow-notice flow-waiting" role="status"><i aria-hidden="true" />Computing …</p>;
  return null;
}

/** The picture as text: a table that is made when it is opened. */
export function TextTable({ title, head, rows }: { title: string; head: readonly string[]; rows: readonly (readonly string[])[] }): VNode {
  return (
    <details class="flow-table">
      <summary>{title}</summary>
      {rows.length ? (
        <div class="flow-scroll" tabIndex={0} role="region" aria-label={title}>
          <table>
            <thead><tr>{head.map((h) => <th key={h} scope="col">{h}</th>)}</tr></thead>
            <tbody>{rows.map((row, i) => <tr key={i}>{row.map((cell, j) => <td key={j}>{cell}</td>)}</tr>)}</tbody>
          </table>
        </div>
      ) : <p class="soft">Nothing to list.</p>}
    </details>
  );
}

/** Buttons of which one is pressed. */
export function Choice<T extends string>({ label, options, value, choose }: {
  label: string; options: readonly (readonly [T, string])[]; value: T; choose(value: T): void;
}): VNode {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([key, text]) => (
        <button key={key} type="button" aria-pressed={key === value} onClick={() => choose(key)}>{text}</button>
      ))}
    </div>
  );
}
