/** The runs that the server keeps. */

import type { JSX } from "preact";

import { bytes, number } from "./format";
import { failure, remove, runs } from "./state";

/** A list to open runs from; `shown` is the one that is open. */
export function RunList({ shown, open }: { shown: string | null; open: (id: string) => void }): JSX.Element | null {
  const list = runs.value;
  if (list === null || list.runs.length === 0) return null;
  return (
    <section class="live-panel" aria-labelledby="live-runs">
      <h2 id="live-runs">Runs</h2>
      <ul class="live-runs">
        {list.runs.map((one) => (
          <li key={one.id} class={one.id === shown ? "live-open" : ""}>
            <button
              type="button"
              class="live-run"
              aria-current={one.id === shown ? "true" : undefined}
              onClick={() => open(one.id)}
            >
              <b>{one.title || "(empty answer)"}</b>
              <span class="live-soft">
                {number(one.prompt_tokens)} → {number(one.answer_tokens)} tokens ·{" "}
                {one.heads ? `${one.heads.length} chosen heads` : one.weights}
                {!one.recorded && " · layers no longer kept"}
              </span>
            </button>
            <button type="button" aria-label={`Remove the run ${one.title}`} onClick={() => void remove(one.id)}>
              ×
            </button>
          </li>
        ))}
      </ul>
      {failure.value?.about === "list" && (
        <p class="live-error" role="alert">
          {failure.value.message}
        </p>
      )}
      <p class="live-soft">
        Recordings take {bytes(list.used)} of {bytes(list.budget)}.
      </p>
    </section>
  );
}
