/** The form to load a model: its id and options. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useRef } from "preact/hooks";

import { failure, job, load, wanted } from "./state";
import type { LoadRequest, ModelState } from "./types";

type Field = "id" | "dtype" | "device" | "most" | "revision";

/** The field that an error code is about; "id" for all other codes. */
const FIELDS: Record<string, Field> = {
  out_of_memory: "dtype",
  invalid_revision: "revision",
  invalid_device_map: "device",
  invalid_input: "most",
};

/** The form starts with the last request if that failed, otherwise with the loaded model. */
export function LoadForm({ state, done }: { state: ModelState; done: () => void }): JSX.Element {
  const before = wanted.peek();
  const id = useSignal(before?.id ?? state.id ?? state.default_model);
  const revision = useSignal(before?.revision ?? state.revision ?? "");
  const dtype = useSignal<LoadRequest["dtype"]>(before?.dtype ?? known(state));
  const device = useSignal(before?.device_map ?? state.device_map);
  const most = useSignal(text(before ? before.max_tokens : limit(state)));
  const shown = useRef({ revision: revision.peek(), most: most.peek() }).current;
  const rename = (name: string): void => {
    id.value = name;
    if (revision.value === shown.revision) revision.value = ""; // an unchanged revision belongs to the previous model
    if (most.value === shown.most) most.value = "";
  };
  const failed = failure.value?.about === "load" ? failure.value : null;
  const said = failed?.message ?? (state.state === "failed" ? state.error : null);
  const wrong: Field | null = said === null ? null : (FIELDS[failed?.code ?? ""] ?? "id");
  const marks = (field: Field): { "aria-invalid"?: true; "aria-describedby"?: string } =>
    field === wrong ? { "aria-invalid": true, "aria-describedby": "live-load-error" } : {};
  const error = (...of: Field[]): ComponentChildren =>
    wrong !== null && of.includes(wrong) && (
      <p class="live-error live-wide" role="alert" id="live-load-error">
        {said}
      </p>
    );
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    done();
    await load({
      id: id.value.trim(),
      revision: revision.value.trim() || null,
      dtype: dtype.value,
      device_map: device.value,
      max_tokens: most.value === "" ? null : Number(most.value),
    });
  };
  const devices = state.device_maps.includes(device.value) ? state.device_maps : [...state.device_maps, device.value];
  return (
    <form class="live-form" onSubmit={(event) => void submit(event)} aria-label="Load a model">
      <label class="live-wide">
        Hub id
        <input
          required
          spellcheck={false}
          autocomplete="off"
          list="live-models"
          value={id.value}
          onInput={(event) => rename(event.currentTarget.value)}
          {...marks("id")}
        />
        <datalist id="live-models">
          <option value={state.default_model} />
        </datalist>
      </label>
      {error("id")}
      <label>
        Number type
        <select
          value={dtype.value}
          onChange={(event) => (dtype.value = event.currentTarget.value as LoadRequest["dtype"])}
          {...marks("dtype")}
        >
          {state.dtypes.map((name) => (
            <option key={name} value={name}>
              {name === "auto" ? "as saved" : name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Device
        <select value={device.value} onChange={(event) => (device.value = event.currentTarget.value)} {...marks("device")}>
          {devices.map((name) => (
            <option key={name} value={name}>
              {name === "auto" ? "auto: GPUs, then CPU" : name}
            </option>
          ))}
        </select>
      </label>
      {error("dtype", "device")}
      <label>
        Maximum tokens
        <input
          type="number"
          min={2}
          step={1}
          placeholder="the model's window"
          value={most.value}
          onInput={(event) => (most.value = event.currentTarget.value)}
          {...marks("most")}
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
          {...marks("revision")}
        />
      </label>
      {error("most", "revision")}
      <button class="live-primary" type="submit" disabled={id.value.trim() === "" || job.value !== null}>
        Load
      </button>
    </form>
  );
}

function known(state: ModelState): LoadRequest["dtype"] {
  return state.dtypes.find((name) => name === state.dtype) ?? "auto";
}

/** The limit that the user set; null if it is the model's window. */
function limit(state: ModelState): number | null {
  return state.max_tokens === state.window ? null : state.max_tokens;
}

function text(value: number | null | undefined): string {
  return value == null ? "" : String(value);
}
