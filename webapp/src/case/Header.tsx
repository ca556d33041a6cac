/** The question, the expected answer, and the settings of the run. */
import type { ComponentChildren, VNode } from "preact";
import { OWN_ANSWER } from "../model/types";
import { useCase } from "./state";

interface HeaderProps {
  onNext: (() => void) | undefined;
  onPrevious: (() => void) | undefined;
  onHelp: () => void;
  tools: ComponentChildren;
}

/** Buttons for the previous and the next case. Also shown beside a case that cannot be read. */
export function Steps({ onNext, onPrevious }: Pick<HeaderProps, "onNext" | "onPrevious">): VNode | null {
  if (!onNext && !onPrevious) return null;
  return (
    <nav aria-label="Cases">
      <button type="button" class="button" disabled={!onPrevious} onClick={onPrevious} aria-keyshortcuts="k" title="Previous case (k)">
        ‹ Previous
      </button>
      <button type="button" class="button" disabled={!onNext} onClick={onNext} aria-keyshortcuts="j" title="Next case (j)">
        Next ›
      </button>
    </nav>
  );
}

export function Header({ onNext, onPrevious, onHelp, tools }: HeaderProps): VNode {
  const view = useCase().view.value;
  const { model, weights, [OWN_ANSWER]: own, ...made } = view.meta;
  const meta = [
    model,
    weights && `weights ${weights}`,
    view.firstToken && `${view.firstToken[view.ends.length]!.toLocaleString("en")} prompt tokens`,
    view.answer.length > 1 && `${view.answer.length.toLocaleString("en")} answer tokens`,
    view.documents.length > 0 && `${view.documents.length.toLocaleString("en")} documents`,
  ].filter(Boolean);
  const details = Object.entries(made);
  const { notes } = view;
  return (
    <header class="case-header">
      <div class="case-question">
        <h1>
          <bdi>{view.question?.trim() || "Sources of the answer"}</bdi>
        </h1>
        {view.expected !== null && (
          <p class="case-expected">
            Expected <bdi>{view.expected}</bdi>
            {own && (
              <>
                {" "}
                · the model wrote <bdi>{own}</bdi>
              </>
            )}
          </p>
        )}
        <p class="case-meta">
          <bdi>{meta.join(" · ")}</bdi>
        </p>
        {details.length > 0 && (
          <details class="case-meta">
            <summary>Details of the run</summary>
            <dl>
              {details.map(([key, value]) => (
                <div key={key}>
                  <dt>{key.replaceAll("_", " ")}</dt>
                  <dd>
                    <bdi>{value}</bdi>
                  </dd>
                </div>
              ))}
            </dl>
          </details>
        )}
        {notes.length === 1 && <p class="case-meta">{notes[0]}</p>}
        {notes.length > 1 && (
          <details class="case-meta">
            <summary>{notes.length} notes</summary>
            <ul>
              {notes.map((note) => (
                <li key={note}>{note}</li>
              ))}
            </ul>
          </details>
        )}
      </div>
      <div class="case-tools">
        <Steps onNext={onNext} onPrevious={onPrevious} />
        {tools}
        <button type="button" class="button quiet" onClick={onHelp} aria-keyshortcuts="?" aria-label="Keyboard help" title="Keyboard help (?)">
          ?
        </button>
      </div>
    </header>
  );
}
