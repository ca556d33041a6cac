/** One case in linked panes: the answer, the bars, the prompt with its heat, and the map of the whole prompt. */
import { signal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { amend, encodeSettings, place, type Settings } from "../model/link";
import { type Case, UserError } from "../model/types";
import { Answer } from "./Answer";
import { Bars } from "./Bars";
import "./case.css";
import { Controls } from "./Controls";
import { lasting } from "./fit";
import { Header, Steps } from "./Header";
import { Help } from "./Help";
import { Prompt } from "./Prompt";
import { CaseProvider, CaseState } from "./state";

export interface CasePageProps {
  /** Pass the same object for the same case: another object is loaded again. */
  case: Case;
  /** Set if there is a next or previous case (j, k and buttons). */
  onNext?: (() => void) | undefined;
  onPrevious?: (() => void) | undefined;
  /** Set if the numbers are no longer available (the run was evicted): a sentence that says what to do. */
  gone?: string | null | undefined;
  /** Content of the header (share menu), linked by `useCase()`. */
  tools?: ComponentChildren;
  /** Content below the panes (live flow views), linked by `useCase()`. */
  extra?: ComponentChildren;
}

// Display settings carry over with j and k, but not to a link that the user opens.
let carried: Settings | null = null;

export function CasePage({ case: it, onNext, onPrevious, gone, tools, extra }: CasePageProps): VNode {
  // The previous case stays until the next one is loaded, so that stepping through cases does not flicker.
  const opened = useMemo(() => signal<CaseState | string | null>(null), []);
  const [help, setHelp] = useState(false);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let left = false;
    const show = (next: CaseState | string): void => {
      const before = opened.peek();
      opened.value = next;
      if (before instanceof CaseState) before.dispose();
    };
    if (carried) amend(encodeSettings(carried));
    carried = null;
    CaseState.open(it, place.peek().query).then(
      (state) => (left ? state.dispose() : show(state)),
      (error: unknown) => {
        if (!left) show(error instanceof UserError ? error.message : `This case could not be read: ${String(error)}`);
      },
    );
    return () => {
      left = true;
    };
  }, [it, tries]);
  useEffect(
    () => () => {
      if (opened.peek() instanceof CaseState) (opened.peek() as CaseState).dispose();
    },
    [],
  );
  const going = (where: (() => void) | undefined): (() => void) | undefined =>
    where &&
    ((): void => {
      if (opened.value instanceof CaseState) carried = lasting(opened.value.settings());
      where();
    });
  const next = going(onNext);
  const previous = going(onPrevious);
  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event.target)) return;
      const state = opened.value;
      if (event.key === "?") setHelp(true);
      else if (event.key === "j" && next) next();
      else if (event.key === "k" && previous) previous();
      else if (event.key === "Escape" && state instanceof CaseState && !document.querySelector("dialog[open]")) {
        state.pin(null);
        state.select(null);
      } else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  });
  const state = opened.value;
  if (state === null) return <p class="case-wait" role="status">Reading the case …</p>;
  if (typeof state === "string") {
    const again = (): void => {
      opened.value = null;
      setTries(tries + 1);
    };
    return (
      <div class="case-wait" role="alert">
        <p class="error">{state}</p>
        <div class="case-tools">
          <button type="button" class="button" onClick={again}>Try again</button>
          <Steps onNext={next} onPrevious={previous} />
        </div>
      </div>
    );
  }
  return (
    <CaseProvider value={state}>
      <div class="case-frame" aria-busy={state.case !== it}>
        <Header onNext={next} onPrevious={previous} onHelp={() => setHelp(true)} tools={state.case === it && tools} />
        {gone && <p class="case-error error" role="status">{gone}</p>}
        {state.error.value && <p class="case-error error" role="alert">{state.error.value}</p>}
        <Answer />
        <Controls />
        <div class="case-panes">
          <Bars />
          <Prompt />
        </div>
      </div>
      {state.case === it && extra}
      <Help open={help} onClose={() => setHelp(false)} />
    </CaseProvider>
  );
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement && /^(checkbox|radio|range|file|button)$/.test(target.type)) return false; // these take no letters
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.closest("dialog") !== null;
}
