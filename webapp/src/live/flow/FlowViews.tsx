/** Five pictures of the flow through the network, linked to the text and the bars of the case. */
import type { VNode } from "preact";
import { useLayoutEffect, useMemo } from "preact/hooks";

import type { CaseState } from "../../case/state";
import { WholeModel } from "../../canvas/WholeModel";
import "./flow.css";
import { Focus } from "./focus";
import type { Tab } from "./link";
import { HeadsTab } from "./HeadsTab";
import { LayerTab } from "./LayerTab";
import { MatrixTab } from "./MatrixTab";
import { TraceTab } from "./TraceTab";

export interface FlowViewsProps {
  /** The flow's id. */
  flow: string;
  state: CaseState;
  /** False if the run's recording was dropped: only the whole model can be shown. */
  recorded?: boolean;
  /** Requests the flow of the same recording through these (layer, head) only. */
  onWeigh?: (heads: [number, number][]) => void;
}

const TABS: readonly (readonly [Tab, string])[] = [["whole", "Whole model"], ["heads", "Heads"], ["layer", "Layer and head"], ["trace", "Routes"], ["matrix", "Matrix"]];

/** Tabs with the pictures of one run. */
export function FlowViews({ flow, state, recorded = true, onWeigh }: FlowViewsProps): VNode {
  const focus = useMemo(() => new Focus(flow, state), [flow, state]);
  useLayoutEffect(() => focus.follow(), [focus]); // before the user can choose
  const tab = focus.tab.value;
  const move = (event: KeyboardEvent): void => {
    const at = TABS.findIndex(([key]) => key === tab), last = TABS.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    focus.tab.value = (TABS[to] as readonly [Tab, string])[0];
    (event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("[role=tab]")[to]?.focus();
  };
  return (
    <section class="flow-views" aria-label="Flow through the model">
      <header class="flow-head">
        <h2>Flow through the model</h2>
        <div class="flow-tabs" role="tablist" aria-label="Pictures of the flow" onKeyDown={move}>
          {TABS.map(([key, name]) => (
            <button
              key={key} type="button" role="tab" id={`flow-tab-${key}`} aria-selected={tab === key} aria-controls="flow-panel"
              tabIndex={tab === key ? 0 : -1} onClick={() => (focus.tab.value = key)}
            >
              {name}
            </button>
          ))}
        </div>
        <p class="flow-scope">{focus.rowsText()}{focus.units.value ? ", from the selected input" : ""}</p>
      </header>
      <div id="flow-panel" role="tabpanel" aria-labelledby={`flow-tab-${tab}`}>
        {tab === "whole" && <WholeModel state={state} grain={focus.grain} room={focus.room} />}
        {tab !== "whole" && !recorded && (
          <p class="flow-gone">
            The recording of this run was evicted to make room: run it again to see inside the model. The tab “Whole model” still works.
          </p>
        )}
        {recorded && tab === "heads" && <HeadsTab focus={focus} onWeigh={onWeigh} />}
        {recorded && tab === "layer" && <LayerTab focus={focus} />}
        {recorded && tab === "trace" && <TraceTab focus={focus} />}
        {recorded && tab === "matrix" && <MatrixTab focus={focus} />}
      </div>
    </section>
  );
}
