/** For a case with gold: precision and recall of the largest pieces, and the share on gold. */
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import { MOST_K } from "../model/link";
import { showShare } from "../model/scale";
import { goldOf, precisionAt } from "../model/shares";
import { plural } from "./names";
import { useCase } from "./state";

export function Found(): VNode | null {
  const state = useCase();
  const view = state.view.value;
  const by = state.by.value;
  const k = state.k.value;
  const gold = useMemo(() => goldOf(view, by), [view, by]);
  if (!gold?.size) return null;
  const { values } = state.shares.value;
  const found = precisionAt(values, gold, k);
  let held = 0;
  for (const piece of gold) held += values[piece] ?? 0;
  const names = plural(view, by);
  return (
    <div class="case-found card">
      <label>
        Top{" "}
        <input
          type="number"
          min={1}
          max={MOST_K}
          value={k}
          onInput={(event) => {
            const next = Math.round(Number(event.currentTarget.value));
            if (next >= 1 && next <= MOST_K) state.k.value = next;
          }}
        />{" "}
        {names}
      </label>
      <dl>
        <div>
          <dt>Precision</dt>
          <dd>
            {showShare(found.precision)} <span>{found.hits} of {k}</span>
          </dd>
        </div>
        <div>
          <dt>Recall</dt>
          <dd>
            {showShare(found.recall)} <span>{found.hits} of {found.gold} <span class="badge gold">gold</span></span>
          </dd>
        </div>
        <div>
          <dt>Share on gold</dt>
          <dd>{showShare(held)}</dd>
        </div>
      </dl>
    </div>
  );
}
