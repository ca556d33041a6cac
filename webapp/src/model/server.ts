/** A flow on the server. Its numbers are fetched on demand. */
import { api } from "../api/client";
import { Cache } from "./cache";
import { checkSpan } from "./memory";
import { toFloats, toIntegers, type Tensor } from "./safetensors";
import { type By, type Edges, type FlowSource, type Span, UserError, type View } from "./types";
import { readView } from "./view";

const MOST = 64; // rows
const ROOM = 32_000_000; // bytes of rows
const MOST_EDGES = 16;

/** A flow of the server by its opaque id. Nothing is fetched before it is needed. */
export function serverFlow(id: string): FlowSource {
  return new ServerFlow(id);
}

class ServerFlow implements FlowSource {
  readonly page: string;
  readonly file: string;
  readonly #path: string;
  #view: Promise<View> | null = null;
  readonly #rows = new Cache<Float32Array>(MOST, ROOM, (row) => row.byteLength);
  readonly #received = new Cache<Float32Array>(MOST, ROOM, (sums) => sums.byteLength);
  readonly #edges = new Cache<Edges>(MOST_EDGES, ROOM, (edges) => 12 * edges.rows.length);

  constructor(id: string) {
    this.#path = `/api/flows/${encodeURIComponent(id)}`;
    this.page = `${this.#path}/page`;
    this.file = `${this.#path}/file`;
  }

  view(): Promise<View> {
    if (this.#view) return this.#view;
    const asked = api.bytes(`${this.#path}/view`).then(readView);
    asked.catch(() => (this.#view = null)); // the next call fetches again
    return (this.#view = asked);
  }

  async rows(rows: Span): Promise<Float32Array> {
    const view = await this.view();
    checkSpan(rows, view.answer.length, "rows of the answer");
    if (rows.start === 0 && rows.stop === view.answer.length) return view.total;
    const query = `start=${rows.start}&stop=${rows.stop}`;
    return this.#rows.get(query, () => this.#floats(`/rows?${query}`, "scores", view.ends.length));
  }

  /** Cached rows, without a promise; null if they must be fetched. */
  peek(rows: Span): Float32Array | null {
    return this.#rows.peek(`start=${rows.start}&stop=${rows.stop}`);
  }

  async received(units: Span): Promise<Float32Array> {
    const view = await this.view();
    checkSpan(units, view.ends.length, "pieces of the prompt");
    const query = `start=${units.start}&stop=${units.stop}`;
    return this.#received.get(query, () => this.#floats(`/received?${query}`, "received", view.answer.length));
  }

  async edges(by: By, rows: Span, units: Span | null, limit: number): Promise<Edges> {
    const view = await this.view();
    checkSpan(rows, view.answer.length, "rows of the answer");
    if (units) checkSpan(units, view.ends.length, "pieces of the prompt");
    const within = units ? `&unit_start=${units.start}&unit_stop=${units.stop}` : "";
    const query = `by=${by}&start=${rows.start}&stop=${rows.stop}&limit=${limit}${within}`;
    return this.#edges.get(query, async () => {
      const tensors = await api.tensors(`${this.#path}/edges?${query}`);
      const found = toIntegers(need(tensors, "rows"), "rows");
      const pieces = toIntegers(need(tensors, "pieces", found.length), "pieces");
      const mass = toFloats(need(tensors, "mass", found.length), "mass");
      const total = toFloats(need(tensors, "total", 1), "total");
      return { rows: found, pieces, mass, total: total[0]! };
    });
  }

  async #floats(query: string, name: string, count: number): Promise<Float32Array> {
    return toFloats(need(await api.tensors(this.#path + query), name, count), name);
  }
}

function need(tensors: Map<string, Tensor>, name: string, count?: number): Tensor {
  const tensor = tensors.get(name);
  if (tensor && (count === undefined || tensor.data.length === count)) return tensor;
  const got = tensor ? tensor.data.length : "missing";
  throw new UserError(
    `The server's answer does not fit this page (${name}: ${got}, expected ${count ?? "any"}): load the page again.`,
  );
}
