/** The first page of the explorer: a list of sources, and a form to open files. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { format, navigate } from "../model/link";
import { visible } from "../model/text";
import { bytes, plural } from "../ui/format";
import { report } from "../ui/messages";
import type { Picked } from "./files";
import { ALL_ENDINGS, ofDrop, ofInput } from "./files";
import { group } from "./group";
import { add, ofLocal, routeOf, sources, sourcesNote } from "./sources";
import type { Source } from "./sources";
import "./open.css";

const chosen = signal<readonly Picked[]>([]);
const problems = signal<readonly string[]>([]);
const busy = signal(false);
const over = signal(false);

const KINDS: Record<Source["kind"], string> = { run: "Evaluation run", list: "Case list", flow: "Flow" };

/** Open the chosen files. A single source is shown at once, several are listed. */
export async function load(picked: readonly Picked[]): Promise<void> {
  if (busy.value) return;
  busy.value = true;
  problems.value = [];
  try {
    const grouped = await group(picked);
    const opened = grouped.found.map(ofLocal);
    add(opened);
    problems.value = grouped.problems;
    chosen.value = [];
    if (opened.length === 1 && grouped.problems.length === 0) navigate(routeOf(opened[0]!));
  } catch (error) {
    report(error);
  } finally {
    busy.value = false;
  }
}

/** A form to choose or drop files, and the list of open sources. */
export function OpenPage(): JSX.Element {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    document.title = "attributor";
  }, []);
  const pick = (files: FileList | null) => {
    chosen.value = ofInput(files);
    problems.value = [];
    // Focus the button, so that Enter loads the files.
    if (chosen.value.length > 0) requestAnimationFrame(() => button.current?.focus());
    else if (files !== null && files.length > 0) void load([]);
  };
  const drop = async (event: DragEvent) => {
    event.preventDefault();
    over.value = false;
    if (event.dataTransfer === null) return;
    try {
      await load(await ofDrop(event.dataTransfer));
    } catch (error) {
      report(error);
    }
  };
  return (
    <div class="open-page">
      <h1>Where an answer came from</h1>
      <p class="soft open-lead">
        Open an evaluation run, a flow file, or a case list (JSON). The browser reads the files in parts. Nothing is uploaded.
      </p>
      <form
        class={`open-zone card${over.value ? " open-over" : ""}`}
        onSubmit={(event) => {
          event.preventDefault();
          if (chosen.value.length > 0) void load(chosen.value);
        }}
        onDragOver={(event) => {
          event.preventDefault();
          over.value = true;
        }}
        onDragLeave={() => (over.value = false)}
        onDrop={(event) => void drop(event)}
      >
        <p class="open-drop">Drop files or a run's folder here, or choose them:</p>
        <div class="open-row">
          <label class="button">
            Choose files
            <input id="open-files" class="visually-hidden" type="file" multiple accept={ALL_ENDINGS.join(",")} onChange={(event) => pick(event.currentTarget.files)} />
          </label>
          <label class="button">
            Choose a folder
            <input id="open-folder" class="visually-hidden" type="file" multiple {...{ webkitdirectory: true }} onChange={(event) => pick(event.currentTarget.files)} />
          </label>
          <button ref={button} type="submit" class="button primary" disabled={chosen.value.length === 0 || busy.value}>
            Load
          </button>
          <span class="open-chosen" role="status">
            {busy.value ? "Reading the files …" : describeChosen(chosen.value)}
          </span>
        </div>
        <div role="alert">
          {problems.value.map((problem) => (
            <p class="error open-problem" key={problem}>
              {problem}
            </p>
          ))}
        </div>
      </form>
      {sources.value.length > 0 && <List />}
      {sourcesNote.value && <p class="soft">{sourcesNote.value}</p>}
    </div>
  );
}

function describeChosen(picked: readonly Picked[]): string {
  if (picked.length === 0) return "nothing chosen yet";
  let size = 0;
  for (const { file } of picked) size += file.size;
  const folder = picked[0]!.path.includes("/") ? picked[0]!.path.split("/")[0] : null;
  const name = folder ?? (picked.length === 1 ? picked[0]!.path : plural(picked.length, "file"));
  return `${visible(name)} · ${bytes(size)}`;
}

function List(): JSX.Element {
  return (
    <section aria-labelledby="open-list">
      <h2 id="open-list">Ready to open</h2>
      <ul class="open-list">
        {sources.value.map((source) => (
          <li key={source.id}>
            <a class="card" href={format(routeOf(source))}>
              <b>{source.name}</b>
              <span class="soft">
                {KINDS[source.kind]} · {bytes(source.bytes)} · {source.local ? "chosen here" : "from the command line"}
              </span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}
