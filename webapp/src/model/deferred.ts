import type { By, Edges, FlowSource, Span, View } from "./types";

/** A source that is opened on its first use. If opening fails, the next use tries again. */
export function deferred(open: () => Promise<FlowSource>): FlowSource {
  return new Deferred(open);
}

class Deferred implements FlowSource {
  readonly page = null;
  readonly #open: () => Promise<FlowSource>;
  #opening: Promise<FlowSource> | null = null;
  #opened: FlowSource | null = null;

  constructor(open: () => Promise<FlowSource>) {
    this.#open = open;
  }

  async view(): Promise<View> {
    return (await this.#source()).view();
  }

  async rows(rows: Span): Promise<Float32Array> {
    return (await this.#source()).rows(rows);
  }

  peek(rows: Span): Float32Array | null {
    return this.#opened?.peek?.(rows) ?? null;
  }

  async received(units: Span): Promise<Float32Array> {
    return (await this.#source()).received(units);
  }

  async edges(by: By, rows: Span, units: Span | null, limit: number): Promise<Edges> {
    return (await this.#source()).edges(by, rows, units, limit);
  }

  #source(): Promise<FlowSource> {
    if (this.#opening) return this.#opening;
    const opening = this.#open();
    opening.then(
      (source) => (this.#opened = source),
      () => (this.#opening = null),
    );
    return (this.#opening = opening);
  }
}
