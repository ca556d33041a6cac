/** An open run or list: the part that was read so far, as signals. */

import { signal } from "@preact/signals";
import type { Bytes } from "../model/bytes";
import type { Case, FlowSource } from "../model/types";
import { UserError } from "../model/types";
import { readAncestor } from "./ancestor";
import { Digest } from "./digest";
import { caseOfRecord } from "./record";
import { indexCases, RunIndex } from "./runs";
import type { Part, Progress } from "./runs";
import { isObject } from "./summary";
import type { Methods, Summary } from "./summary";

/** Cases for the table, from any kind of file. */
export interface Cases {
  readonly cases: readonly Summary[];
  readonly methods: Methods;
  /** The kind of ranked pieces. */
  readonly unit: "sentence" | "document";
  find(id: string): number;
  open(place: number): Promise<Case>;
  notes(): string[];
}

/** Access to a run's files, opened on demand. */
export interface RunFiles {
  run: (() => Promise<Bytes>) | null;
  /** The parts in reading order. A later record of a case replaces an earlier one. */
  parts: () => Promise<Part[]>;
  /** The saved token-level flow of a case, or null. */
  flow: (id: string) => Promise<FlowSource | null>;
}

const MOST_RUN_JSON = 128 * 1024 * 1024;
const REDRAW = 200; // ms between updates of a table while its file is read
const VERSION = 1;

/** One open source. Reading starts at construction and continues in the background. */
export class OpenRun {
  readonly name: string;
  readonly kind: "run" | "list";
  /** null until the first cases are read. */
  readonly cases = signal<Cases | null>(null);
  /** Counts the additions to `cases`. */
  readonly version = signal(0);
  readonly digest = signal<Digest | null>(null);
  /** null once everything is read. */
  readonly progress = signal<Progress | null>({ read: 0, size: 0 });
  readonly problem = signal<string | null>(null);
  /** A note that run.json is missing or broken. */
  readonly note = signal<string | null>(null);
  /** Settles when reading has ended, for whatever reason. */
  readonly done: Promise<void>;
  private readonly stop = new AbortController();
  private drawn = -Infinity;

  private constructor(name: string, kind: "run" | "list", read: (run: OpenRun) => Promise<void>) {
    this.name = name;
    this.kind = kind;
    this.done = read(this).then(
      () => this.finish(),
      (error: unknown) => this.fail(error),
    );
  }

  /** Open a run of `attributor eval`. */
  static ofRun(name: string, files: RunFiles): OpenRun {
    return new OpenRun(name, "run", async (run) => {
      const digest = run.readDigest(files.run);
      const index = new RunIndex(await files.parts());
      run.cases.value = casesOf(index, files.flow);
      if (index.parts.length === 0) run.note.value = "Only run.json is open. To see cases, open the run's folder, or cases.jsonl together with it.";
      await indexCases(index, (progress) => run.show(progress), run.stop.signal);
      await digest;
    });
  }

  /** Open a case list of the previous tool. */
  static ofList(name: string, bytes: () => Promise<Bytes>): OpenRun {
    return new OpenRun(name, "list", async (run) => {
      const list = await readAncestor(await bytes(), name);
      run.cases.value = {
        cases: list.cases,
        methods: list.methods,
        unit: "document",
        find: (id) => list.find(id),
        open: async (place) => list.caseAt(place),
        notes: () => list.problems,
      };
    });
  }

  /** Stop reading. Cases already read stay. */
  cancel(): void {
    this.stop.abort(new UserError("Reading was stopped; the table shows what was read until then."));
  }

  private async readDigest(open: (() => Promise<Bytes>) | null): Promise<void> {
    if (open === null) {
      this.note.value = "There is no run.json: the metrics below are computed from the cases.";
      return;
    }
    try {
      this.digest.value = new Digest(await readRunJson(await open()));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.note.value = `${error.message} The metrics below are computed from the cases.`;
    }
  }

  private show(progress: Progress): void {
    const now = performance.now();
    if (now - this.drawn < REDRAW && progress.read < progress.size) return;
    this.drawn = now;
    this.progress.value = progress;
    this.version.value += 1;
  }

  private finish(): void {
    this.progress.value = null;
    this.version.value += 1;
  }

  private fail(error: unknown): void {
    this.finish();
    this.problem.value = error instanceof UserError ? error.message : `${this.name} could not be read: ${String(error)}`;
  }
}

function casesOf(index: RunIndex, flow: RunFiles["flow"]): Cases {
  return {
    cases: index.cases,
    methods: index.methods,
    unit: "sentence",
    find: (id) => index.find(id),
    open: async (place) => {
      const summary = index.cases[place]!;
      const [record, tokens] = await Promise.all([index.record(summary.place), flow(summary.id)]);
      return caseOfRecord(record, tokens);
    },
    notes: () => index.notes(),
  };
}

/** Read run.json. @throws UserError if it is not valid, or has a later version. */
export async function readRunJson(bytes: Bytes): Promise<Record<string, unknown>> {
  if (bytes.size > MOST_RUN_JSON) throw new UserError(`run.json has ${Math.round(bytes.size / 1e6)} MB, which is more than a run writes.`);
  let found: unknown;
  const data = await bytes.read(0, bytes.size);
  try {
    found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    throw new UserError("run.json is not whole JSON.");
  }
  if (!isObject(found) || found["format"] !== "attributor.run") throw new UserError("run.json does not describe a run of attributor eval.");
  if (typeof found["version"] === "number" && found["version"] > VERSION) {
    throw new UserError(`run.json is of version ${found["version"]}; this attributor reads up to ${VERSION}.`);
  }
  return found;
}
