/** Groups local files into runs, flows and lists, with messages about the other files. */

import { BlobBytes } from "../model/bytes";
import { visible } from "../model/text";
import { ENDINGS } from "./files";
import type { Picked } from "./files";
import { kindOf, WHAT_OPENS } from "./kinds";
import type { Kind } from "./kinds";

/** A run's files; some may be missing. */
export interface LocalRun {
  kind: "run";
  name: string;
  run: File | null;
  cases: { name: string; file: File }[];
  /** Flow files by their names. */
  flows: Map<string, File>;
}

/** A file that is a source by itself. */
export type LocalFile = { kind: "flow"; name: string; file: File } | { kind: "list"; name: string; file: File };

export interface Grouped {
  found: (LocalRun | LocalFile)[];
  problems: string[];
}

const PART = /^cases(\.\d+)?\.jsonl$/;
const MOST_TOLD = 3;

/** Sort files into runs, flows and lists. */
export async function group(picked: readonly Picked[]): Promise<Grouped> {
  const flows = new Map<string, Map<string, File>>();
  const kinds: { picked: Picked; folder: string; name: string; kind: Kind }[] = [];
  for (const one of picked) {
    const cut = one.path.lastIndexOf("/");
    const [folder, name] = [one.path.slice(0, Math.max(0, cut)), one.path.slice(cut + 1)];
    // A run may have thousands of flows, so each is read only when it is opened.
    if (/(^|\/)flows$/.test(folder) && ENDINGS.flow.some((ending) => name.endsWith(ending))) {
      const run = folder.replace(/\/?flows$/, "");
      if (!flows.has(run)) flows.set(run, new Map());
      flows.get(run)!.set(name, one.file);
    } else kinds.push({ picked: one, folder, name, kind: await kindOf(new BlobBytes(one.file), name) });
  }
  const grouped: Grouped = { found: [], problems: [] };
  const runs = new Map<string, LocalRun>();
  const runAt = (folder: string, name: string): LocalRun => {
    let run = runs.get(folder);
    if (run === undefined) {
      run = { kind: "run", name: visible(name), run: null, cases: [], flows: flows.get(folder) ?? new Map() };
      runs.set(folder, run);
      grouped.found.push(run);
    }
    return run;
  };
  const strange: string[] = [];
  for (const { picked: one, folder, name, kind } of kinds) {
    const title = folder.slice(folder.lastIndexOf("/") + 1);
    if (kind.kind === "run") runAt(folder, title || name).run = one.file;
    else if (kind.kind === "cases" && (PART.test(name) || folder)) runAt(folder, title || name).cases.push({ name, file: one.file });
    // Files with other names that are chosen together are separate runs.
    else if (kind.kind === "cases") grouped.found.push({ kind: "run", name: visible(name), run: null, cases: [{ name, file: one.file }], flows: new Map() });
    else if (kind.kind === "unknown") {
      if (PART.test(name) && one.file.size === 0) runAt(folder, title || name).cases.push({ name, file: one.file });
      else strange.push(visible(`${name} ${kind.looks}.`));
    } else grouped.found.push({ kind: kind.kind, name: visible(name), file: one.file });
  }
  for (const [folder, files] of flows) {
    if (!runs.has(folder)) for (const [name, file] of files) grouped.found.push({ kind: "flow", name: visible(name), file });
  }
  if (picked.length === 0) grouped.problems.push(`There is nothing to open in what was given. ${WHAT_OPENS}`);
  // Other JSON files in the folder of a run get no message.
  if (strange.length > 0 && (grouped.found.length === 0 || picked.every(({ path }) => !path.includes("/")))) {
    const more = strange.length > MOST_TOLD ? ` ${strange.length - MOST_TOLD} more cannot be opened either.` : "";
    grouped.problems.push(`${strange.slice(0, MOST_TOLD).join(" ")}${more} ${WHAT_OPENS}`);
  }
  return grouped;
}
