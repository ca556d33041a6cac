/** All sources that can be opened: those of the command line, and local files of this tab. */

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

/** A source that can be opened. */
export interface Source {
  id: string;
  kind: "run" | "list" | "flow";
  name: string;
  bytes: number;
  /** True for a file of this tab, false for one of the server. */
  local: boolean;
  /** Opens the run, once; null for flows. The pages of runs pass the code that reads it, so that others need not load it. */
  run: ((reader: typeof OpenRun) => OpenRun) | null;
  flow: (() => FlowSource | Promise<FlowSource>) | null;
  /** The id of a flow in links. */
  flowId: string;
}

/** All sources, in the order in which they were added. */
export const sources = signal<readonly Source[]>([]);
/** The server's note about its list. */
export const sourcesNote = signal<string | null>(null);

/** Fetch the sources of the server's command line. */
export async function loadSources(): Promise<void> {
  const { sources: listed, note } = await api.get<Sources>("/api/sources");
  sourcesNote.value = note === null ? null : visible(note);
  add(listed.map(ofServer));
}

/** Add sources. A source replaces an earlier one with the same id. */
export function add(more: readonly Source[]): void {
  const ids = new Set(more.map((source) => source.id));
  sources.value = [...sources.value.filter((source) => !ids.has(source.id)), ...more];
}

/** The source with an id, or undefined. */
export function find(id: string): Source | undefined {
  return sources.value.find((source) => source.id === id);
}

/** The route that shows a source. */
export function routeOf(source: Source): Route {
  return source.kind === "flow" ? { page: "flow", flow: source.flowId } : { page: "run", source: source.id };
}

/** Makes a source of the server's description. */
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
      // The server lists the parts in reading order.
      parts: () => Promise.all(cases.map(async (id, i) => ({ name: cases.length === 1 ? "cases.jsonl" : `cases part ${i + 1}`, bytes: await HttpBytes.open(url(id)) }))),
      flow: async (id) => {
        const path = `/api/sources/${encodeURIComponent(given.id)}/flow?case=${encodeURIComponent(id)}`;
        const { flow } = await api.get<{ flow: string | null }>(path);
        return flow === null ? null : serverFlow(flow);
      },
    });
  return { ...common, flow: null, run: once(open) };
}

/** A local file or run as a source. Its id contains its name, so that a link works once the file is opened again. */
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

/** A name that is not in use. Files of many runs are called cases.jsonl, so a different source with the same name gets a number. */
function freeName(given: LocalRun | LocalFile, bytes: number): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? given.name : `${given.name} (${number})`;
    const there = find(`file:${name}`);
    if (there === undefined || (there.kind === given.kind && there.bytes === bytes)) return name;
  }
}

/** Loads the code that reads flow files on first use, as most visits do not need it. */
async function localFlow(file: File): Promise<FlowSource> {
  const { openFlow } = await import("../model/flowfile");
  return openFlow(new BlobBytes(file));
}

function once<A, T>(make: (argument: A) => T): (argument: A) => T {
  let made: { value: T } | null = null;
  return (argument) => (made ??= { value: make(argument) }).value;
}
