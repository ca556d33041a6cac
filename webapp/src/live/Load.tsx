/** Which model answers, and how it is loaded. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";

import { bytes, number } from "./format";
import { Progress } from "./Progress";
import { failure, job, load, model, ready } from "./state";
import type { LoadRequest } from "./types";

/** The model panel: a form, the progress of a load, and then one line that says what is there. */
export function Load(): JSX.Element {
  const state = model.value;
  const changing = useSignal(false);
  const loading = job.value?.kind === "load" || state?.state === "loading";
  const form = !loading && (changing.value || !ready.value);
  return (
    <section class="live-panel" aria-labelledby="live-model">
      <h2 id="live-model">Model</h2>
      {ready.value && state && !loading && (
        <div class="live-loaded">
          <p>
            <b>{state.id}</b>
            <span class="live-soft">{facts(state)}</span>
          </p>
          <button type="button" aria-expanded={changing.value} onClick={() => (changing.value = !changing.value)}>
            {changing.value ? "Keep it" : "Change"}
          </button>
        </div>
      )}
      {job.value?.kind === "load" && <Progress job={job.value} />}
      {failure.value?.about === "load" && (
        <p class="live-error" role="alert">
          {failure.value.message}
        </p>
      )}
      {form && state && <Form key={state.id ?? ""} done={() => (changing.value = false)} />}
    </section>
  );
}

function facts(state: NonNullable<typeof model.value>): string {
  const said = [
    state.layers !== null && state.heads !== null ? `${state.layers} layers of ${state.heads} heads` : null,
    state.parameters !== null ? `${number(state.parameters / 1e6, 0)} M parameters` : null,
    state.window !== null ? `reads ${number(state.window)} tokens` : null,
    [state.dtype, state.device].filter(Boolean).join(" on ") || null,
  ];
  return said.filter(Boolean).join(" · ");
}

function Form({ done }: { done: () => void }): JSX.Element {
  const state = model.value!;
  const id = useSignal(state.id ?? state.default_model);
  const revision = useSignal(state.revision ?? "");
  const dtype = useSignal<LoadRequest["dtype"]>("auto");
  const device = useSignal("");
  const most = useSignal(state.max_tokens === null ? "" : String(state.max_tokens));
  const submit = (event: Event): void => {
    event.preventDefault();
    done();
    void load({
      id: id.value.trim(),
      revision: revision.value.trim() || null,
      dtype: dtype.value,
      device_map: device.value || null,
      max_tokens: most.value === "" ? null : Number(most.value),
    });
  };
  return (
    <form class="live-form" onSubmit={submit}>
      <label class="live-wide">
        Hub id
        <input
          required
          spellcheck={false}
          autocomplete="off"
          list="live-models"
          value={id.value}
          onInput={(event) => (id.value = event.currentTarget.value)}
        />
        <datalist id="live-models">
          <option value={state.default_model} />
        </datalist>
      </label>
      <label>
        Number type
        <select value={dtype.value} onChange={(event) => (dtype.value = event.currentTarget.value as LoadRequest["dtype"])}>
          {state.dtypes.map((name) => (
            <option key={name} value={name}>
              {name === "auto" ? "as saved" : name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Device
        <select value={device.value} onChange={(event) => (device.value = event.currentTarget.value)}>
          <option value="">default</option>
          {state.device_maps.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Most tokens
        <input
          type="number"
          min={2}
          step={1}
          placeholder={state.window === null ? "all it reads" : `${number(state.window)}, all it reads`}
          value={most.value}
          onInput={(event) => (most.value = event.currentTarget.value)}
        />
      </label>
      <label>
        Revision
        <input
          spellcheck={false}
          autocomplete="off"
          placeholder="main"
          value={revision.value}
          onInput={(event) => (revision.value = event.currentTarget.value)}
        />
      </label>
      <button class="live-primary" type="submit" disabled={id.value.trim() === "" || job.value !== null}>
        Load
      </button>
      <p class="live-soft live-wide">
        Recordings may take {bytes(state.memory.budget)}; the oldest go first. Nothing leaves this machine but the
        download of a model that is not here yet.
      </p>
    </form>
  );
}
