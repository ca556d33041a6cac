/** The model panel. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";

import { bytes, large } from "../ui/format";
import { LoadForm } from "./LoadForm";
import { Progress } from "./Progress";
import { failure, job, model, ready, wanted } from "./state";
import type { ModelState } from "./types";

/** Shows the form, the progress of a load, or one line about the loaded model. */
export function Load(): JSX.Element {
  const state = model.value;
  const changing = useSignal(false);
  const loading = job.value?.kind === "load" || state?.state === "loading";
  const failed = failure.value?.about === "load" || (wanted.value !== null && !loading);
  const form = !loading && (changing.value || failed || !ready.value);
  return (
    <section class="live-panel" aria-labelledby="live-model" aria-busy={loading}>
      <h2 id="live-model">Model</h2>
      {ready.value && state && !loading && (
        <div class="live-loaded">
          <p>
            <b>{state.id}</b>
            <span class="live-soft">{facts(state)}</span>
          </p>
          <button
            type="button"
            aria-expanded={form}
            onClick={() => {
              changing.value = !form;
              wanted.value = null;
              if (failure.value?.about === "load") failure.value = null;
            }}
          >
            {form ? "Keep this model" : "Change"}
          </button>
        </div>
      )}
      {job.value?.kind === "load" && (
        <>
          {wanted.value && <p class="live-asked">{wanted.value.id}</p>}
          <Progress job={job.value} />
        </>
      )}
      {form && state && <LoadForm key={state.id ?? ""} state={state} done={() => (changing.value = false)} />}
      {!loading && (
        <p class="live-soft">
          {state && `Runs may take ${bytes(state.memory.budget)} of memory; the oldest are dropped first. `}
          Nothing leaves this machine{form && "; a model that is not stored here is downloaded"}.
        </p>
      )}
    </section>
  );
}

function facts(state: ModelState): string {
  const said = [
    state.layers !== null && state.heads !== null ? `${state.layers} layers of ${state.heads} heads` : null,
    state.parameters !== null ? `${large(state.parameters)} parameters` : null,
    state.max_tokens !== null ? `reads ${state.max_tokens.toLocaleString("en")} tokens` : null,
    state.device && `${state.dtype === "auto" ? "" : `${state.dtype} `}on ${state.device}`,
  ];
  return said.filter(Boolean).join(" · ");
}
