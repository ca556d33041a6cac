/** The whole model: the flow from prompt to answer as curves, from documents down to tokens. */
import { computed, effect, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import type { CaseState } from "../case/state";
import { showShare } from "../model/scale";
import { asideName, baseOf, documentName, granularities, hasShare, type Piece } from "../model/shares";
import type { By, Edges, FlowSource, Span, View } from "../model/types";
import { Curves } from "./curves";
import type { CurvesData, CurvesHit } from "./curves";
import { oneLine, textOf } from "./layout";
import type { Room } from "./layout";
import { Loader } from "./loader";
import type { How } from "./picture";
import { isAside } from "./plan";
import { Choice, Stage, TextTable } from "./Stage";

/** The part of a case's shared state that this picture reads and writes. */
export type Shown = Pick<CaseState, "view" | "variant" | "pinned" | "preview" | "selected" | "units" | "wholeRow" | "pinnedRow" | "layout" | "pin" | "select">;

/** The number of curves requested, plus one for each row, since the template's curves could use up all of them. A frame can move 1,000. */
const MOST = 400, CEILING = 1000;
/** The pieces of the prompt: a fixed granularity, or "auto" for the finest that fits. */
export type Grain = By | "auto";

const GRAINS: Record<By, string> = { document: "Documents", sentence: "Sentences", token: "Tokens" };

interface Answered {
  /** The view of the request. Another method of the same case has other rows and pieces. */
  view: View;
  by: By;
  units: Span | null;
  edges: Edges;
}

/** The state of one picture. It is not component state, so that moving the pointer renders no component. */
class Model {
  readonly loader = new Loader<Answered>();
  readonly readout = signal("");
  readonly zoomed = signal(false);
  /** Pieces that Shift-click added to the selected one. */
  readonly added = signal<Span[]>([]);
  /** The last loaded edges, if they belong to the current view. */
  readonly found;
  readonly data;
  picture: Curves | null = null;
  private asked: { view: View; units: Span | null; by: By } | null = null;

  constructor(readonly state: Shown, private readonly source: () => FlowSource, readonly grain: Signal<Grain>, readonly room: Signal<Room>) {
    this.found = computed<Answered | null>(() => {
      const found = this.loader.state.value.data;
      return found?.view === state.view.value ? found : null;
    });
    this.data = computed<CurvesData>(() => {
      const found = this.found.value, pinned = state.pinned.value, own = state.units.value;
      const row = pinned ? (state.pinnedRow.value ?? state.wholeRow.value) : state.wholeRow.value;
      return {
        view: state.view.value, by: found?.by ?? "token", edges: found?.edges ?? null, rows: pinned, scores: row.scores,
        picked: own ? [own, ...this.added.value] : this.added.value, room: this.room.value, grain: this.grain.value,
      };
    });
  }

  /** Requests the edges of the visible units. */
  look(units: Span, by: By, zoomed: boolean): void {
    this.zoomed.value = zoomed;
    const view = this.picture?.view;
    if (!view) return;
    this.asked = { view, units: zoomed ? units : null, by };
    this.fetch();
  }

  fetch(): void {
    const view = this.state.view.value, source = this.source();
    if (this.asked?.view !== view) return; // from another method: the picture requests again once it has the new text
    const { units, by } = this.asked;
    const rows = this.state.pinned.value ?? { start: 0, stop: view.answer.length };
    const key = [this.state.variant.value.name, by, rows.start, rows.stop, units?.start, units?.stop].join();
    this.loader.ask(key, async () => ({ view, by, units, edges: await source.edges(by, rows, units, Math.min(CEILING, MOST + rows.stop - rows.start)) }));
  }

  pick(hit: CurvesHit, how: How): void {
    const { state } = this;
    if (hit.kind === "row" || hit.kind === "edge") {
      const pinned = state.pinned.peek(), row = { start: hit.row, stop: hit.row + 1 };
      if (how.add && pinned) state.pin({ start: Math.min(pinned.start, row.start), stop: Math.max(pinned.stop, row.stop) });
      else state.pin(pinned?.start === row.start && pinned.stop === row.stop && hit.kind === "row" ? null : row);
    }
    if (hit.kind === "row") return;
    const piece: Piece | null = hit.group >= 0 ? { by: hit.by, index: hit.group } : null;
    const units = hit.kind === "piece" ? hit.units : piece && state.layout.peek().unitsOf(piece);
    if (!units) return;
    const own = state.units.peek(), known = (span: Span) => span.start === units.start && span.stop === units.stop;
    if (how.add && own && !known(own)) this.added.value = this.added.value.some(known) ? this.added.value.filter((s) => !known(s)) : [...this.added.value, units];
    else {
      this.added.value = [];
      if (piece) state.select(own && known(own) ? null : piece, { reveal: true });
    }
  }

  hover(hit: CurvesHit | null): void {
    this.readout.value = hit ? this.say(hit) : "";
    this.state.preview.value = hit && hit.kind !== "piece" ? { start: hit.row, stop: hit.row + 1 } : null;
  }

  /** Highlights the row that is hovered in another pane. Returns a function that stops it. */
  follow(): () => void {
    return effect(() => {
      const preview = this.state.preview.value;
      if (this.readout.peek()) return; // the pointer is over this picture
      this.picture?.point(preview && preview.stop - preview.start === 1 ? { kind: "row", row: preview.start } : null);
    });
  }

  private say(hit: CurvesHit): string {
    const view = this.state.view.peek(), found = this.found.peek();
    const shown = (want: (e: number) => boolean) => found ? found.edges.mass.reduce((sum, m, e) => sum + (want(e) ? m : 0), 0) : 0;
    const rows = this.state.pinned.peek() ?? { start: 0, stop: view.answer.length }, count = rows.stop - rows.start;
    if (hit.kind === "row") {
      const mass = shown((e) => found?.edges.rows[e] === hit.row);
      return `“${oneLine(view.answer[hit.row])}”, token ${hit.row + 1} of the answer: its curves carry ${this.part(mass)}.`;
    }
    if (hit.kind === "edge") {
      const share = this.share(hit.by, hit.group, hit.row, hit.mass);
      const part = share === null ? this.part(hit.mass) : `${showShare(share)} of what this token took from the ${sourcesOf(view)}`;
      return `${this.name(hit.by, hit.group, view)} → “${oneLine(view.answer[hit.row])}”: ${part}.`;
    }
    const { scores } = this.data.peek();
    const taker = count === view.answer.length ? "the answer" : count === 1 ? "the selected token" : `the ${count} selected tokens`;
    const isShare = hasShare(view, hit.units.start);
    const whole = isShare ? baseOf(view, scores) : view.normalized ? 1 : sumOf(scores, { start: 0, stop: scores.length });
    const of = isShare ? `what ${taker} took from the ${sourcesOf(view)}` : `everything ${taker} took`;
    return `${this.name(hit.by, hit.group, view)}: ${showShare(sumOf(scores, hit.units) / (whole || 1))} of ${of}.`;
  }

  /** The mass of a curve as a share of what its token took from the documents; null if it comes from outside of documents. */
  share(by: By, group: number, row: number, mass: number): number | null {
    const view = this.state.view.peek();
    const units = group < 0 ? null : this.state.layout.peek().unitsOf({ by, index: group });
    if (units ? !hasShare(view, units.start) : view.documents.length) return null;
    return mass / (view.base[row] || 1);
  }

  /** A mass as text. It is a part of the row, or for rows that do not add up to 1 a part of the picture. */
  part(mass: number): string {
    if (this.state.view.peek().normalized) return `${showShare(mass)} of everything this token took`;
    return `${showShare(mass / (this.found.peek()?.edges.total || 1))} of the visible flow`;
  }

  name(by: By, group: number, view: View): string {
    if (group < 0) return asideName(view);
    if (by === "document") return documentName(view, group);
    const units = this.state.layout.peek().unitsOf({ by, index: group });
    return units ? `“${textOf(view, units, 120)}”` : "";
  }
}

interface Props {
  source?: FlowSource;
  state: Shown;
  /** The choices above the picture, if another component stores them. */
  grain?: Signal<Grain>;
  room?: Signal<Room>;
}

/** Curves between the prompt and the answer, linked to everything else that shows `state`. */
export function WholeModel({ source, state, grain, room }: Props): VNode {
  const it = useMemo(
    () => new Model(state, () => source ?? state.variant.value.source, grain ?? signal<Grain>("auto"), room ?? signal<Room>("text")),
    [state, source, grain, room],
  );
  const pinned = state.pinned.value, view = state.view.value, variant = state.variant.value;
  useEffect(() => it.fetch(), [it, pinned, view, variant]);
  useEffect(() => () => it.loader.stop(), [it]);
  useEffect(() => it.follow(), [it]);
  const loading = it.loader.state.value, found = it.found.value, edges = found?.edges;
  const grains: (readonly [Grain, string])[] = [["auto", "Auto"], ...granularities(view).map((by) => [by, by === "token" && view.kind === "piece" ? "Pieces" : GRAINS[by]] as const)];
  const chosen = grains.some(([by]) => by === it.grain.value) ? it.grain.value : "auto"; // another method of the case may lack this granularity
  return (
    <section class="flow-whole" aria-label="Curves between prompt and answer">
      <div class="flow-bar">
        <Choice label="Pieces" options={grains} value={chosen} choose={(grain) => (it.grain.value = grain)} />
        <Choice label="Width" options={[["text", "By text"], ["mass", "By flow"]]} value={it.room.value} choose={(room) => (it.room.value = room)} />
        <span class="flow-steps">
          <button type="button" class="button" aria-label="Zoom in" onClick={() => it.picture?.zoomBy(2)}>+</button>
          <button type="button" class="button" aria-label="Zoom out" onClick={() => it.picture?.zoomBy(0.5)}>−</button>
          <button type="button" class="button" disabled={!it.zoomed.value} onClick={() => it.picture?.showAll()}>All</button>
        </span>
        {found && <Said found={found} view={view} />}
      </div>
      <Stage
        make={(canvas) => (it.picture = new Curves(canvas, {
          onHover: (hit) => it.hover(hit),
          onPick: (hit, how) => it.pick(hit, how),
          onOpen: (hit) => hit.kind === "piece" && it.picture?.show(hit.units),
          onWindow: (units, by, zoomed) => it.look(units, by, zoomed),
        }))}
        data={it.data.value}
        file={`${view.title} - flow`}
        label="Prompt above, answer below. Left and right move the cursor, up and down switch between prompt and answer, Enter selects, plus and minus zoom."
        hint="Point at the prompt or the answer to highlight its curves. Click selects, Shift-click adds. Ctrl + wheel zooms, drag moves, a double click zooms into a piece."
        readout={it.readout}
        state={loading}
        retry={() => it.loader.retry()}
        empty={edges && !edges.rows.length ? "No flow to the shown answer tokens comes from this part of the prompt." : null}
      />
      <TextTable title="The 20 strongest curves as a table" head={["From the prompt", "To the answer", `Share of what the token took from the ${sourcesOf(view)}`]} rows={topRows(it, view)} />
    </section>
  );
}

function Said({ found, view }: { found: Answered; view: View }): VNode {
  const { edges, by } = found, n = edges.rows.length, all = edges.total || 1;
  let mass = 0, aside = 0;
  edges.mass.forEach((m, e) => {
    mass += m;
    if (isAside(view, by, edges.pieces[e])) aside += m;
  });
  const what = by === "token" ? "the first token" : asideName(view).toLowerCase();
  return (
    <span class="flow-said flow-push">
      {n === 1 ? "1 curve shows" : `${n.toLocaleString("en")} curves show`} <b>{showShare(Math.min(1, mass / all))}</b> of the flow{found.units ? " from the visible part of the prompt" : ""}
      {aside > 0.005 * all && <>, {showShare(aside / all)} of it in grey: {what}</>}
    </span>
  );
}

function topRows(it: Model, view: View): string[][] {
  const found = it.found.value;
  if (!found) return [];
  const { edges, by } = found;
  const order = Array.from(edges.mass.keys()).sort((a, b) => edges.mass[b] - edges.mass[a]).slice(0, 20);
  return order.map((e) => {
    const [piece, row, mass] = [edges.pieces[e], edges.rows[e], edges.mass[e]];
    const share = it.share(by, piece, row, mass);
    return [it.name(by, piece, view), `“${oneLine(view.answer[row])}” (${row + 1})`, share === null ? it.part(mass) : showShare(share)];
  });
}

const sourcesOf = (view: View): string => (view.documents.length ? "documents" : "prompt");

function sumOf(scores: ArrayLike<number>, { start, stop }: Span): number {
  let sum = 0;
  for (let u = start; u < stop; u++) sum += Math.max(0, scores[u]);
  return sum;
}
