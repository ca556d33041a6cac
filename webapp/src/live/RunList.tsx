/** The runs that the server stores. */

import type { JSX } from "preact";
import { useRef } from "preact/hooks";

import { bytes, clock, count, plural } from "../ui/format";
import { failure, remove, runs } from "./state";
import { isWeightsName, WEIGHTS } from "./weights";

/** A list to open runs from. `shown` is the id of the open run. */
export function RunList({ shown, open }: { shown: string | null; open: (id: string) => void }): JSX.Element | null {
  const list = runs.value;
  const title = useRef<HTMLHeadingElement>(null);
  if (list === null || list.runs.length === 0) return null;
  return (
    <section class="live-panel" aria-labelledby="live-runs">
      <h2 id="live-runs" ref={title} tabIndex={-1}>
        Runs
      </h2>
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
                {count(one.prompt_tokens)} → {count(one.answer_tokens)} tokens ·{" "}
                {one.heads ? `${plural(one.heads.length, "head")} chosen` : isWeightsName(one.weights) ? WEIGHTS[one.weights].short : one.weights} · {clock(one.created)}
                {!one.recorded && " · recording dropped"}
              </span>
            </button>
            <button type="button" aria-label={`Remove the run ${one.title}`} onClick={() => void remove(one.id).then(() => title.current?.focus())}>
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
        Runs take {bytes(list.used)} of {bytes(list.budget)} of memory.
      </p>
    </section>
  );
}
