/** Requests of the flow views: numbers of heads, attention of a layer, routes, tiles. The server computes each from a run's recording. */
import type { Tile, TileSource } from "../../canvas/tilestore";
import type { TraceAnswer } from "../../canvas/routes";
import { api } from "../../api/client";
import { toFloats, toIntegers } from "../../model/safetensors";
import type { Tensor } from "../../model/safetensors";
import type { Span } from "../../model/types";
import { UserError } from "../../model/types";

/** A layer and a head, both counted from 0. */
export type Head = readonly [number, number];

export const MEASURES = ["mass", "entropy", "sink", "distance", "weight"] as const;
export type Measure = (typeof MEASURES)[number];

/** (layers * heads) for each measure; NaN for heads that were not recorded. */
export type HeadMaps = { layers: number; heads: number; used: number } & Record<Measure, Float32Array>;

/** The strongest attention of some heads of one layer. */
export interface LayerAnswer {
  /** (e) row of the answer, unit of the prompt, head of the model, share of the row's attention. */
  query: Int32Array;
  key: Int32Array;
  head: Int32Array;
  mass: Float32Array;
  /** (heads) the mass of all edges of each head, shown or not, over all rows. */
  totals: Float32Array;
  /** (heads) each head's weight in the run. */
  relative: Float32Array;
  /** The number of rows used. If there are many, they are an even selection. */
  used: number;
}

function tensor(tensors: Map<string, Tensor>, name: string): Tensor {
  const found = tensors.get(name);
  if (!found) throw new UserError(`The server's answer lacks "${name}"; the page and the server may be of different versions.`);
  return found;
}

/** The number of rows that a response is computed from. */
function rowsUsed(tensors: Map<string, Tensor>, rows: Span): number {
  const found = tensors.get("rows_used");
  return (found && toIntegers(found, "rows_used")[0]) || rows.stop - rows.start;
}

const span = (rows: Span, units: Span | null): string =>
  `start=${rows.start}&stop=${rows.stop}` + (units ? `&unit_start=${units.start}&unit_stop=${units.stop}` : "");

const path = (flow: string, what: string): string => `/api/flows/${encodeURIComponent(flow)}/${what}`;

/** The five numbers of every head, for these answer rows and their attention to these units (null: the whole prompt). */
export async function fetchHeads(flow: string, rows: Span, units: Span | null, signal: AbortSignal): Promise<HeadMaps> {
  const tensors = await api.tensors(path(flow, `heads?${span(rows, units)}`), signal);
  const [layers = 0, heads = 0] = tensor(tensors, "mass").shape;
  const map = (name: Measure) => toFloats(tensor(tensors, name), name);
  return { layers, heads, used: rowsUsed(tensors, rows), mass: map("mass"), entropy: map("entropy"), sink: map("sink"), distance: map("distance"), weight: map("weight") };
}

/** At most `limit` edges of these heads of one layer. */
export async function fetchLayer(flow: string, layer: number, heads: readonly number[], rows: Span, units: Span | null, limit: number, signal: AbortSignal): Promise<LayerAnswer> {
  const tensors = await api.tensors(path(flow, `layer?layer=${layer}&heads=${heads.join(",")}&${span(rows, units)}&limit=${limit}`), signal);
  const whole = (name: string) => toIntegers(tensor(tensors, name), name), real = (name: string) => toFloats(tensor(tensors, name), name);
  return { query: whole("query"), key: whole("key"), head: whole("head"), mass: real("mass"), totals: real("totals"), relative: real("relative"), used: rowsUsed(tensors, rows) };
}

/** The strongest routes from these rows to these units (null: the whole prompt). */
export function fetchTrace(flow: string, rows: Span, units: Span | null, keep: number, nodes: number, signal: AbortSignal): Promise<TraceAnswer> {
  return api.get<TraceAnswer>(path(flow, `trace?${span(rows, units)}&keep=${keep}&nodes=${nodes}`), signal);
}

/** One head's matrix. Its tiles are fetched when they become visible. */
export async function fetchTiles(flow: string, [layer, head]: Head, signal: AbortSignal): Promise<TileSource> {
  const about = await api.get<{ tokens: number; size: number; levels: number }>(path(flow, `tiles?layer=${layer}&head=${head}`), signal);
  return {
    ...about,
    async load(level, row, col, stop): Promise<Tile> {
      const tensors = await api.tensors(path(flow, `tile?layer=${layer}&head=${head}&level=${level}&row=${row}&col=${col}`), stop);
      const bytes = (name: string): Uint8Array => {
        const { data } = tensor(tensors, name);
        if (!(data instanceof Uint8Array) || data.length !== about.size ** 2) throw new UserError(`The tile's "${name}" is not ${about.size} x ${about.size} bytes.`);
        return data;
      };
      const scale = toFloats(tensor(tensors, "scale"), "scale"), every = toIntegers(tensor(tensors, "every"), "every");
      return { max: bytes("max"), mean: bytes("mean"), scale: [scale[0], scale[1]], every: every[0] ?? 1 };
    },
  };
}
