/** Display options of a case: pieces, method, colours. */
import type { VNode } from "preact";
import { NORMALISES, type Normalise } from "../model/link";
import { LEVELS, type Scale, SCALES, showShare } from "../model/scale";
import { granularities, hasSink } from "../model/shares";
import type { By } from "../model/types";
import { useCase } from "./state";

const BY: Record<By, string> = { document: "Documents", sentence: "Sentences", token: "Tokens" };
const SCALE: Record<Scale, string> = { linear: "Linear", sqrt: "Square root", log: "Logarithm", rank: "Rank" };
const NORMALISE: Record<Normalise, string> = { row: "shown tokens", selection: "selected tokens", global: "whole answer" };

export function Controls(): VNode {
  const state = useCase();
  const view = state.view.value;
  const { variants } = state.case;
  const coming = state.coming.value;
  return (
    <div class="case-controls" role="group" aria-label="Display options" aria-busy={coming !== null}>
      <div class="choice" role="group" aria-label="Show sources by">
        {granularities(view).map((by) => (
          <button key={by} type="button" aria-pressed={state.by.value === by} onClick={() => (state.by.value = by)}>
            {by === "token" && view.kind === "piece" ? "Pieces" : BY[by]}
          </button>
        ))}
      </div>
      {variants.length > 1 && (
        <label>
          Method{" "}
          <select value={coming ?? state.variant.value.name} onChange={(event) => state.use(variants.find((v) => v.name === event.currentTarget.value) ?? variants[0]!)}>
            {variants.map(({ name, label }) => (
              <option key={name} value={name}>{label}</option>
            ))}
          </select>
        </label>
      )}
      <label title="The strongest colour stands for the largest share of these answer tokens">
        Colours against{" "}
        <select value={state.normalise.value} onChange={(event) => (state.normalise.value = event.currentTarget.value as Normalise)}>
          {NORMALISES.map((name) => (
            <option key={name} value={name}>{NORMALISE[name]}</option>
          ))}
        </select>
      </label>
      <label>
        Scale{" "}
        <select value={state.scale.value} onChange={(event) => (state.scale.value = event.currentTarget.value as Scale)}>
          {SCALES.map((name) => (
            <option key={name} value={name}>{SCALE[name]}</option>
          ))}
        </select>
      </label>
      {hasSink(view) && (
        <label class="case-check" title="The first token is an attention sink: it collects attention that heads do not use">
          <input type="checkbox" checked={state.hideSink.value} onChange={(event) => (state.hideSink.value = event.currentTarget.checked)} /> Hide first token
        </label>
      )}
      <Legend />
    </div>
  );
}

function Legend(): VNode {
  const state = useCase();
  const { largest } = state.heat.value;
  return (
    <span class="case-legend" aria-hidden="true">
      {state.scale.value === "rank" ? "low" : "0"}
      <span class="case-ramp">
        {Array.from({ length: LEVELS }, (_, i) => (
          <i key={i} data-heat={`heat-${i + 1}`} />
        ))}
      </span>
      {state.scale.value === "rank" ? "top rank" : showShare(largest)}
      {state.view.value.gold !== null && <span class="case-gold-key">gold</span>}
    </span>
  );
}
