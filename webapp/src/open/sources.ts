/** Everything that can be opened now: what the command line named, and local files of this tab. */

import { signal } from "@preact/signals";
import { api } from "../api/client";
import type { Source as Described, Sources } from "../api/types";
import { BlobBytes, HttpBytes } from "../model/bytes";
import type { Route } from "../model/link";
import { serverFlow } from "../model/server";
import { visible } from "../model/text";
import type { FlowSource } from "../model/types";
import { flowName } from "../run/flowname";
import type { OpenRun } from "../run/opened";
import { inOrder } from "../run/order";
import type { LocalFile, LocalRun } from "./group";

/** Something that can be opened. */
export interface Source {
  id: string;
  kind: "run" | "list" | "flow";
  name: string;
  bytes: number;
  /** A file of this tab rather than of the server. */
  local: boolean;
  /** The run, read once; null for flows. The code that reads runs comes with their pages, which bring it along. */
  run: ((reader: typeof OpenRun) => OpenRun) | null;
  flow: (() => FlowSource | Promise<FlowSource>) | null;
  /** What the link of a flow calls it. */
  flowId: string;
}

/** All of them, in the order in which they came. */
export const sources = signal<readonly Source[]>([]);
/** What the server says about its list. */
export const sourcesNote = signal<string | null>(null);

/** Ask the server what its command line named. */
export async function loadSources(): Promise<void> {
  const { sources: listed, note } = await api.get<Sources>("/api/sources");
  sourcesNote.value = note === null ? null : visible(note);
  add(listed.map(ofServer));
}

/** Add sources; one of the same id takes the place of the earlier one. */
export function add(more: readonly Source[]): void {
  const ids = new Set(more.map((source) => source.id));
  sources.value = [...sources.value.filter((source) => !ids.has(source.id)), ...more];
}

/** The source of an id; undefined where there is none. */
export function find(id: string): Source | undefined {
  return sources.value.find((source) => source.id === id);
}

/** Where a source is shown. */
export function routeOf(source: Source): Route {
  return source.kind === "flow" ? { page: "flow", flow: source.flowId } : { page: "run", source: source.id };
}

/** A source of the server. */
export function ofServer(given: Described): Source {
  const { files } = given;
  const url = (id: string) => `/api/files/${encodeURIComponent(id)}`;
  const flowId = files.flow ?? given.id;
  const common = { id: given.id, name: visible(given.name), bytes: given.bytes, local: false, kind: given.kind, flowId };
  if (given.kind === "flow") return { ...common, run: null, flow: () => serverFlow(flowId) };
  if (given.kind === "list") {
    return { ...common, flow: null, run: once((reader) => reader.ofList(common.name, () => HttpBytes.open(url(files.list ?? "")))) };
  }
  const cases = files.cases ?? [];
  const open = (reader: typeof OpenRun) =>
    reader.ofRun(common.name, {
      run: files.run === undefined ? null : () => HttpBytes.open(url(files.run!)),
      // The server names parts in the order in which they are read.
      parts: () => Promise.all(cases.map(async (id, i) => ({ name: cases.length === 1 ? "cases.jsonl" : `cases part ${i + 1}`, bytes: await HttpBytes.open(url(id)) }))),
      flow: async (id) => {
        const path = `/api/sources/${encodeURIComponent(given.id)}/flow?case=${encodeURIComponent(id)}`;
        const { flow } = await api.get<{ flow: string | null }>(path);
        return flow === null ? null : serverFlow(flow);
      },
    });
  return { ...common, flow: null, run: once(open) };
}

/** A local file or run as a source. Its id is made of its name, so that a link works again once the file is opened again. */
export function ofLocal(given: LocalRun | LocalFile): Source {
  const bytes = sizeOf(given);
  const name = freeName(given, bytes);
  const common = { id: `file:${name}`, flowId: `file:${name}`, name, local: true, kind: given.kind, bytes };
  if (given.kind === "flow") {
    let flow: Promise<FlowSource> | null = null;
    return { ...common, run: null, flow: () => (flow ??= localFlow(given.file)) };
  }
  if (given.kind === "list") {
    return { ...common, flow: null, run: once((reader) => reader.ofList(name, async () => new BlobBytes(given.file))) };
  }
  const { run } = given;
  const open = (reader: typeof OpenRun) =>
    reader.ofRun(name, {
      run: run === null ? null : async () => new BlobBytes(run),
      parts: async () => inOrder(given.cases.map(({ name, file }) => ({ name, bytes: new BlobBytes(file) }))),
      flow: async (id) => {
        const file = given.flows.get(flowName(id));
        return file === undefined ? null : localFlow(file);
      },
    });
  return { ...common, flow: null, run: once(open) };
}

function sizeOf(given: LocalRun | LocalFile): number {
  if (given.kind !== "run") return given.file.size;
  return given.cases.reduce((sum, { file }) => sum + file.size, given.run?.size ?? 0);
}

/** Runs of different folders are all called cases.jsonl: what differs from what is open gets a number. */
function freeName(given: LocalRun | LocalFile, bytes: number): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? given.name : `${given.name} (${number})`;
    const there = find(`file:${name}`);
    if (there === undefined || (there.kind === given.kind && there.bytes === bytes)) return name;
  }
}

/** Reading flow files is code that most visits do without. */
async function localFlow(file: File): Promise<FlowSource> {
  const { openFlow } = await import("../model/flowfile");
  return openFlow(new BlobBytes(file));
}

function once<A, T>(make: (argument: A) => T): (argument: A) => T {
  let made: { value: T } | null = null;
  return (argument) => (made ??= { value: make(argument) }).value;
}
