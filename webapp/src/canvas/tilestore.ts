/** Tiles of a matrix: fetched when they become visible, aborted when they leave the view, cached. */

export interface Tile {
  /** (size * size) in 255 steps of the square root: value = scale * (step / 255)^2. */
  max: Uint8Array;
  mean: Uint8Array;
  /** The largest of `max` and of `mean`. */
  scale: readonly [number, number];
  /** The step between computed rows of the matrix; 1 if all were computed. */
  every: number;
}

export interface TileSource {
  tokens: number;
  /** Cells along the side of a tile. */
  size: number;
  /** A cell of level z covers 2^z tokens. The last level is one tile. */
  levels: number;
  load(level: number, row: number, col: number, signal: AbortSignal): Promise<Tile>;
}

export interface TilePlace {
  level: number;
  row: number;
  col: number;
}

const AT_ONCE = 4;

export const tileKey = (place: TilePlace): string => `${place.level}/${place.row}/${place.col}`;

/** Keeps at most `most` tiles, the most recently requested ones. */
export class TileStore {
  private readonly tiles = new Map<string, { place: TilePlace; tile: Tile }>();
  private readonly running = new Map<string, AbortController>();
  private waiting: TilePlace[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asked = false;

  /** @param changed called when a tile arrives. @param failed called with the error of a request. */
  constructor(
    readonly source: TileSource, private readonly changed: () => void, private readonly failed: (error: unknown) => void,
    private readonly most = 96, private readonly restMs = 150,
  ) {}

  get(place: TilePlace): Tile | null {
    return this.tiles.get(tileKey(place))?.tile ?? null;
  }

  /** All loaded tiles, the coarsest first. */
  all(): { place: TilePlace; tile: Tile }[] {
    return [...this.tiles.values()].sort((a, b) => b.place.level - a.place.level);
  }

  /** The number of running and waiting requests. */
  get pending(): number {
    return this.running.size + this.waiting.length;
  }

  /** Sets the visible tiles, the most important first. Running requests for other tiles are aborted. */
  want(places: readonly TilePlace[]): void {
    const wanted = new Map(places.map((place) => [tileKey(place), place]));
    for (const [key, running] of this.running) {
      if (wanted.has(key)) continue;
      running.abort();
      this.running.delete(key);
    }
    for (const key of [...wanted.keys()].reverse()) {
      const have = this.tiles.get(key);
      if (!have) continue;
      this.tiles.delete(key); // move it to the most recent end
      this.tiles.set(key, have);
    }
    this.waiting = places.filter((place) => !this.tiles.has(tileKey(place)) && !this.running.has(tileKey(place)));
    clearTimeout(this.timer);
    if (!this.asked) this.fill();
    else this.timer = setTimeout(() => this.fill(), this.restMs);
    this.asked = true;
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.waiting = [];
    for (const running of this.running.values()) running.abort();
    this.running.clear();
  }

  private fill(): void {
    while (this.running.size < AT_ONCE && this.waiting.length) void this.load(this.waiting.shift() as TilePlace);
  }

  private async load(place: TilePlace): Promise<void> {
    const key = tileKey(place), running = new AbortController();
    this.running.set(key, running);
    try {
      const tile = await this.source.load(place.level, place.row, place.col, running.signal);
      if (running.signal.aborted) return;
      this.tiles.set(key, { place, tile });
      for (const old of this.tiles.keys()) {
        if (this.tiles.size <= this.most) break;
        this.tiles.delete(old);
      }
    } catch (error) {
      if (running.signal.aborted) return;
      this.waiting = []; // the others would fail too
      this.failed(error);
    } finally {
      if (this.running.get(key) === running) this.running.delete(key);
    }
    if (running.signal.aborted) return;
    this.changed();
    this.fill();
  }
}

/** A cell: the attention of `span` queries from `query` on to `span` keys from `key` on. */
export interface CellHit {
  query: number;
  key: number;
  span: number;
  /** Null if the tile is not loaded yet. */
  max: number | null;
  mean: number | null;
  every: number;
}
