/** One case in linked panes: the answer, the prompt as heat, bars, and the map of the whole prompt. */
import { signal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { amend, encodeSettings, place, type Settings } from "../model/link";
import { type Case, UserError } from "../model/types";
import { lasting } from "./fit";
import { CaseProvider, CaseState } from "./state";

export interface CasePageProps {
  case: Case;
  /** Where there is a next or previous case (j, k and buttons). */
  onNext?: (() => void) | undefined;
  onPrevious?: (() => void) | undefined;
  /** Set where the numbers can no longer be had (the run was evicted): a sentence that says what to do. */
  gone?: string | null | undefined;
  /** In the header (share menu), linked by `useCase()`. */
  tools?: ComponentChildren;
  /** Below the panes (live flow views), linked by `useCase()`. */
  extra?: ComponentChildren;
}

// How things are shown goes along with j and k, but not with a link that someone opens.
let carried: Settings | null = null;

export function CasePage({ case: it, onNext, onPrevious, gone, tools, extra }: CasePageProps): VNode {
  const opened = useMemo(() => signal<CaseState | string | null>(null), [it]);
  useEffect(() => {
    let left = false;
    if (carried) amend(encodeSettings(carried));
    carried = null;
    CaseState.open(it, place.peek().query).then(
      (state) => (left ? state.dispose() : (opened.value = state)),
      (error: unknown) => {
        if (!left) opened.value = error instanceof UserError ? error.message : `This case could not be read: ${String(error)}`;
      },
    );
    return () => {
      left = true;
      if (opened.value instanceof CaseState) opened.value.dispose();
    };
  }, [it]);
  const go = (where: (() => void) | undefined) => (): void => {
    if (opened.value instanceof CaseState) carried = lasting(opened.value.settings());
    where?.();
  };
  const state = opened.value;
  if (state === null) return <p class="case-wait">Reading the case …</p>;
  if (typeof state === "string") return <p class="error">{state}</p>;
  return (
    <CaseProvider value={state}>
      <div class="case-frame">
        <header>{tools}</header>
        {gone && <p class="error">{gone}</p>}
        {onPrevious && <button type="button" class="button" onClick={go(onPrevious)}>Previous</button>}
        {onNext && <button type="button" class="button" onClick={go(onNext)}>Next</button>}
      </div>
      {extra}
    </CaseProvider>
  );
}
