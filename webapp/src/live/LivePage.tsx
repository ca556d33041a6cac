/** The page of `attributor serve`: load a model, let it answer, and show the flow of the answer. */

import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { CasePage } from "../case/CasePage";
import { useCase } from "../case/state";
import { navigate, route } from "../model/link";
import { serverFlow } from "../model/server";
import type { Case } from "../model/types";
import { ShareMenu } from "../share/ShareMenu";
import { plural } from "../ui/format";
import { Compose } from "./Compose";
import { FlowViews } from "./flow/FlowViews";
import { Load } from "./Load";
import "./live.css";
import { Progress } from "./Progress";
import { RunList } from "./RunList";
import { arrived, failure, job, ready, runs, start, weigh } from "./state";
import type { RunInfo } from "./types";

const open = (run: string): void => navigate({ page: "live", run });

/** The whole page of `attributor serve`. */
export default function LivePage(): JSX.Element {
  useEffect(() => start(open), []);
  useEffect(keepFiles, []);
  const shown = route.value.page === "live" ? route.value.run : null;
  const info = runs.value?.runs.find((one) => one.id === shown) ?? null;
  useEffect(() => {
    document.title = info === null ? "attributor" : `${info.title} · attributor`;
  }, [info?.title]);
  const lost = failure.value?.about === "list" && !runs.value?.runs.length ? failure.value : null;
  const busy = job.value !== null && job.value.kind !== "load";
  return (
    <div class="live">
      <aside class="live-side" aria-label="Model, prompt and runs">
        <Load />
        <Compose opened={open} />
        <RunList shown={shown} open={open} />
      </aside>
      <div class="live-main" aria-busy={busy}>
        {lost && (
          <p class="live-error" role="alert">
            {lost.message}
          </p>
        )}
        {info !== null ? <Shown key={info.flow} info={info} /> : shown !== null && runs.value !== null ? <Gone /> : <Welcome />}
      </div>
    </div>
  );
}

/** Stops the browser from opening a file that is dropped beside the documents. */
function keepFiles(): () => void {
  const stay = (event: DragEvent): void => {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  };
  document.addEventListener("dragover", stay);
  document.addEventListener("drop", stay);
  return () => {
    document.removeEventListener("dragover", stay);
    document.removeEventListener("drop", stay);
  };
}

function Shown({ info }: { info: RunInfo }): JSX.Element {
  const it = useMemo<Case>(
    () => ({ id: info.id, variants: [{ name: "flow", label: info.weights, source: serverFlow(info.flow) }] }),
    [info.flow],
  );
  return (
    <>
      {(info.notes.length > 0 || info.heads !== null) && (
        <ul class="live-notes" aria-label="About this run">
          {info.heads !== null && <li>Flow through {plural(info.heads.length, "chosen head")} only: {heads(info.heads)}.</li>}
          {info.notes.map((note) => (
            <li key={note}>{sentence(note)}</li>
          ))}
        </ul>
      )}
      <CasePage case={it} tools={<ShareMenu />} extra={<Flow info={info} />} />
    </>
  );
}

function heads(chosen: readonly (readonly number[])[]): string {
  const names = chosen.slice(0, 12).map(([layer, head]) => `${layer}.${head}`);
  return names.join(", ") + (chosen.length > names.length ? " …" : "");
}

/** Makes a sentence of a server's note, which is a clause. */
function sentence(note: string): string {
  const begun = note.charAt(0).toUpperCase() + note.slice(1);
  return /[.!?)]$/.test(begun) ? begun : `${begun}.`;
}

function Flow({ info }: { info: RunInfo }): JSX.Element {
  const state = useCase();
  useEffect(() => {
    if (arrived.peek() !== info.id) return;
    arrived.value = null;
    showResult();
  }, [info.id]);
  return (
    <>
      {job.value?.kind === "weigh" && (
        <div class="live-panel live-weigh">
          <Progress job={job.value} />
        </div>
      )}
      {failure.value?.about === "weigh" && (
        <p class="live-error" role="alert">
          {failure.value.message}
        </p>
      )}
      <FlowViews
        flow={info.flow}
        state={state}
        recorded={info.recorded}
        onWeigh={(chosen) => void weigh(info.id, { weights: null, heads: chosen }, open)}
      />
    </>
  );
}

/** Moves the focus to the new result, unless the user is typing. */
function showResult(): void {
  const at = document.activeElement;
  if (at instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) return;
  const title = document.querySelector<HTMLElement>(".live-main h1");
  if (title === null) return;
  title.tabIndex = -1;
  title.focus();
}

function Gone(): JSX.Element {
  return (
    <section class="live-welcome">
      <h2>This run is no longer kept</h2>
      <p>
        It was removed, dropped to free memory for newer runs, or lost when the server restarted. Run its prompt again. The form may still
        hold it.
      </p>
      <p>
        <a href="#/">Go to the first page</a>
      </p>
    </section>
  );
}

function Welcome(): JSX.Element {
  return (
    <section class="live-welcome">
      <h2>Where does an answer come from?</h2>
      <p>
        {ready.value ? "Give the model documents and a question" : "Load a model, give it documents and a question"}, and it answers.
        attributor then follows its attention back, layer by layer, from each word of the answer to the words of the prompt. You see which
        documents and sentences the answer came from, and through which layers and heads.
      </p>
      <p>New here? Press {ready.value ? "" : "Load, then "}Example, then “Answer and attribute”.</p>
    </section>
  );
}
