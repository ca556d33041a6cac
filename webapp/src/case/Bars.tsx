/** Sources as bars: documents expand into sentences, sentences into tokens. The documents' text has 100%; the line
 * below the list says how much of the whole flow that is. */
import { type Signal, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { originSentence } from "../model/origin";
import { showShare } from "../model/scale";
import { goldOf, hasSink, type Origin, originOf, type Piece } from "../model/shares";
import { type BarList, innerBy, LISTED_SHARE, listBars, listInside, type Rest } from "./barlist";
import { same } from "./fit";
import { Found } from "./Found";
import { nameOf, plural, rowsName, whereOf } from "./names";
import { type CaseState, useCase } from "./state";

const FIRST = 40; // bars at first, and with each "show more"
const FIRST_NARROW = 8; // on a narrow screen, where the prompt follows below the bars
const INSIDE = 10; // the same for the bars inside an expanded bar

interface Open {
  /** How many inner bars of each open piece are listed. */
  limits: Signal<ReadonlyMap<string, number>>;
  limit: Signal<number>;
}

export function Bars(): VNode {
  const state = useCase();
  const view = state.view.value;
  const by = state.by.value;
  const first = matchMedia("(max-width: 700px)").matches ? FIRST_NARROW : FIRST;
  const open = useMemo<Open>(() => ({ limits: signal(new Map()), limit: signal(first) }), [view, by]);
  const shares = state.shares.value;
  const limit = open.limit.value;
  const list = listBars(view, shares, limit, limit > first ? 0 : LISTED_SHARE);
  const origin = originOf(view, state.row.value);
  return (
    <section class="case-bars" aria-labelledby="case-selection">
      <Heading state={state} />
      <Found />
      <List list={list} state={state} open={open} largest={list.pieces[0]?.share ?? 0} depth={0} />
      {list.more > 0 && (
        <button type="button" class="button quiet case-more" onClick={() => (open.limit.value += FIRST)}>
          Show {Math.min(limit + FIRST - list.pieces.length, list.more)} more {plural(view, by)}
        </button>
      )}
      <footer class="case-origin">
        {origin && <Composition origin={origin} />}
        <p>{origin ? originSentence(view, origin) : `How much of the whole flow came from the ${view.documents.length ? "documents" : "prompt"} is not known.`}</p>
        {hasSink(view) && state.hideSink.value && <p>Percentages leave out the first token, which holds {showShare(shares.sinkOfAll)}.</p>}
      </footer>
    </section>
  );
}

function Heading({ state }: { state: CaseState }): VNode {
  const view = state.view.value;
  const { rows } = state.row.value;
  const few = rows.stop - rows.start < view.answer.length;
  const kept = few && same(rows, state.pinned.value);
  const live = useRef<HTMLParagraphElement>(null);
  const text = few ? view.answer.slice(rows.start, Math.min(rows.stop, rows.start + 24)).join("").trim() : "";
  const said = announcement(state);
  useEffect(() => {
    // announced once the pointer or the arrow keys rest
    const timer = setTimeout(() => live.current && (live.current.textContent = said), 350);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <>
      <h2 id="case-selection">
        Sources of {rowsName(view, rows)}
        {few && (
          <>
            : <bdi>{text}{rows.stop - rows.start > 24 ? "…" : ""}</bdi>
          </>
        )}
        {kept && <span class="badge case-kept">kept</span>}
      </h2>
      <p ref={live} class="visually-hidden" aria-live="polite" />
    </>
  );
}

function announcement(state: CaseState): string {
  const view = state.view.value;
  const list = listBars(view, state.shares.value, 1);
  const first = list.pieces[0];
  const { rows } = state.row.value;
  const word = rows.stop - rows.start === 1 ? ` ${view.answer[rows.start]!.trim()}` : "";
  if (!first) return `Sources of ${rowsName(view, rows)}${word}: none.`;
  return `Sources of ${rowsName(view, rows)}${word}: largest share ${showShare(first.share)}, from ${nameOf(view, state.layout.value, first.piece)}.`;
}

/** The whole flow as one bar. The line below it has the same numbers as text. */
function Composition({ origin }: { origin: Origin }): VNode {
  return (
    <div class="case-whole" aria-hidden="true">
      {ORIGINS.map((part) => (
        <i key={part} class={`part-${part}`} style={{ width: `${100 * origin[part]}%` }} />
      ))}
    </div>
  );
}

const ORIGINS = ["documents", "prompt", "answer", "missing"] as const;

interface ListProps {
  list: BarList;
  state: CaseState;
  open: Open;
  /** The share that fills the bar completely. */
  largest: number;
  depth: number;
}

function List({ list, state, open, largest, depth }: ListProps): VNode {
  return (
    <ol class="case-list">
      {list.pieces.map(({ piece, share }) => (
        <Bar key={`${piece.by}${piece.index}`} {...{ piece, share, state, open, largest, depth }} />
      ))}
      {list.rest.map((rest) => (
        <RestRow key={rest.kind} rest={rest} />
      ))}
    </ol>
  );
}

function RestRow({ rest }: { rest: Rest }): VNode {
  return (
    <li class="case-rest">
      <i class={`part-${rest.kind}`} aria-hidden="true" />
      <span>{rest.name}</span>
      <span class="case-share">{showShare(rest.share)}</span>
    </li>
  );
}

interface BarProps extends Omit<ListProps, "list"> {
  piece: Piece;
  share: number;
}

function Bar({ piece, share, state, open, largest, depth }: BarProps): VNode {
  const view = state.view.value;
  const layout = state.layout.value;
  const selected = state.selected.value;
  const pressed = selected?.by === piece.by && selected.index === piece.index;
  const name = nameOf(view, layout, piece);
  const where = depth ? "" : whereOf(view, layout, piece);
  const inner = innerBy(view, piece);
  const key = `${piece.by}${piece.index}`;
  const limit = open.limits.value.get(key) ?? 0;
  const setLimit = (to: number): void => {
    const next = new Map(open.limits.value);
    if (to) next.set(key, to);
    else next.delete(key);
    open.limits.value = next;
  };
  const inside = limit && inner ? listInside(view, layout, state.row.value, state.shares.value, piece, limit, limit > INSIDE ? 0 : LISTED_SHARE) : null;
  const isGold = piece.by !== "token" && goldOf(view, piece.by)?.has(piece.index);
  return (
    <li>
      <div class="case-bar">
        {inner ? (
          <button type="button" class="case-open" aria-expanded={limit > 0} aria-label={`${plural(view, inner)} of ${name}`} onClick={() => setLimit(limit ? 0 : INSIDE)}>
            <svg viewBox="0 0 10 10" aria-hidden="true"><path d="M3 1.5 7 5 3 8.5" /></svg>
          </button>
        ) : (
          <span class="case-open" />
        )}
        <button
          type="button"
          class="case-pick"
          aria-pressed={pressed}
          onClick={() => state.select(pressed ? null : piece, { reveal: true })}
          onPointerEnter={() => (state.hovered.value = piece)}
          onPointerLeave={() => (state.hovered.value = null)}
        >
          <span class={piece.by === "token" ? "case-name token" : "case-name"}>
            <bdi>{name}</bdi>
          </span>
          <span class="case-share">{showShare(share)}</span>
          {(where || isGold) && (
            <span class="case-where">
              {isGold && <span class="badge gold">gold</span>} <bdi>{where}</bdi>
            </span>
          )}
          <span class="case-track" aria-hidden="true">
            <i style={{ width: `${largest > 0 ? Math.min(100, (100 * share) / largest) : 0}%` }} />
          </span>
        </button>
      </div>
      {inside && (
        <div class="case-inside">
          <List list={inside} state={state} open={open} largest={largest} depth={depth + 1} />
          {inside.more > 0 && (
            <button type="button" class="button quiet case-more" onClick={() => setLimit(limit + 4 * INSIDE)}>
              Show {Math.min(limit + 4 * INSIDE - inside.pieces.length, inside.more)} more
            </button>
          )}
        </div>
      )}
    </li>
  );
}
