/** The frame of one picture: its canvas, a line of text for the element under the pointer, notices while loading or after an error. */
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
  /** The data to show; null before they are loaded. */
  data: D | null;
  /** The description for screen readers. */
  label: string;
  /** Instructions below the picture. */
  hint?: string;
  /** A sentence about the element under the pointer or the cursor. */
  readout?: ReadonlySignal<string>;
  /** The loading state for notices; without it there are none. */
  state?: Loaded<unknown>;
  retry?(): void;
  /** The sentence to show for empty data. */
  empty?: string | null;
  /** The name of the saved picture; without it the picture cannot be saved. */
  file?: string;
  /** "none" if other elements describe the canvas and handle its keys. */
  role?: "application" | "none";
  children?: ComponentChildren;
}

/** Shows one picture with its notices. */
export function Stage<D, H, P extends Picture<D, H>>(props: StageProps<D, H, P>): VNode {
  const canvas = useRef<HTMLCanvasElement>(null), picture = useRef<P | null>(null);
  const { make, data } = props;
  // A layout effect: a passive effect ends one frame after the canvas is removed, and until then resizes to 0 reach the picture.
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

/** A notice while loading takes long, after an error, or once the recording is gone. */
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

/** The picture as a table that opens on click. */
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

/** Buttons, exactly one of them pressed. */
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
