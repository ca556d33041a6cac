/** The live door: load a model, ask it, and follow its answer back. */

import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { CasePage } from "../case/CasePage";
import { useCase } from "../case/state";
import { navigate, route } from "../model/link";
import { serverFlow } from "../model/server";
import type { Case } from "../model/types";
import { ShareMenu } from "../share/ShareMenu";
import { Compose } from "./Compose";
import { FlowViews } from "./flow/FlowViews";
import { Load } from "./Load";
import "./live.css";
import { RunList } from "./RunList";
import { failure, job, runs, start, weigh } from "./state";
import type { RunInfo } from "./types";

const open = (run: string): void => navigate({ page: "live", run });

/** Everything that `attributor serve` shows. */
export default function LivePage(): JSX.Element {
  useEffect(start, []);
  const shown = route.value.page === "live" ? route.value.run : null;
  const info = runs.value?.runs.find((one) => one.id === shown) ?? null;
  return (
    <div class="live">
      <aside class="live-side" aria-label="Model, prompt and runs">
        <Load />
        <Compose opened={open} />
        <RunList shown={shown} open={open} />
      </aside>
      <div class="live-main">
        {failure.value?.about === "list" && runs.value === null && (
          <p class="live-error" role="alert">
            {failure.value.message}
          </p>
        )}
        {info !== null ? <Shown key={info.flow} info={info} /> : shown !== null && runs.value !== null ? <Gone /> : <Welcome />}
      </div>
    </div>
  );
}

function Shown({ info }: { info: RunInfo }): JSX.Element {
  const it = useMemo<Case>(
    () => ({ id: info.id, variants: [{ name: "flow", label: info.weights, source: serverFlow(info.flow) }] }),
    [info.flow],
  );
  return <CasePage case={it} tools={<ShareMenu />} extra={<Flow info={info} />} />;
}

function Flow({ info }: { info: RunInfo }): JSX.Element {
  const state = useCase();
  return (
    <FlowViews
      flow={info.flow}
      state={state}
      recorded={info.recorded}
      onWeigh={(heads) => {
        if (job.value === null) void weigh(info.id, { weights: null, heads }, open);
      }}
    />
  );
}

function Gone(): JSX.Element {
  return (
    <section class="live-welcome">
      <h2>This run is no longer kept</h2>
      <p>It was removed, or made room for newer ones, or the server was started again. Its prompt may still stand in the form: run it again.</p>
    </section>
  );
}

function Welcome(): JSX.Element {
  return (
    <section class="live-welcome">
      <h2>Where does an answer come from?</h2>
      <p>
        Load a model, give it documents and a question, and it answers. Its attention is then followed back, layer by layer, from each word of
        the answer to the words of the prompt: you see which documents and sentences it took from, and through which layers and heads.
      </p>
      <p>New here? Press Load, then Example, then “Answer and attribute”.</p>
    </section>
  );
}
