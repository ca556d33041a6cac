/** Tiles of a matrix: fetched when they come into view, given up when they leave it, the last ones kept. */

export interface Tile {
  /** (size * size) in 255 steps of the square root: value = scale * (step / 255)^2. */
  max: Uint8Array;
  mean: Uint8Array;
  /** The largest of `max` and of `mean`. */
  scale: readonly [number, number];
  /** Only every so many-th row of the matrix was computed. */
  every: number;
}

export interface TileSource {
  tokens: number;
  /** Cells along the side of a tile. */
  size: number;
  /** Level z has 2^z tokens a cell; the last level is one tile. */
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

/** Keeps at most `most` tiles, those that were wanted last. */
export class TileStore {
  private readonly tiles = new Map<string, { place: TilePlace; tile: Tile }>();
  private readonly running = new Map<string, AbortController>();
  private waiting: TilePlace[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asked = false;

  /** @param changed called when a tile came. @param failed called with what a request was refused with. */
  constructor(
    readonly source: TileSource, private readonly changed: () => void, private readonly failed: (error: unknown) => void,
    private readonly most = 96, private readonly restMs = 150,
  ) {}

  get(place: TilePlace): Tile | null {
    return this.tiles.get(tileKey(place))?.tile ?? null;
  }

  /** All tiles that are here, the coarsest first. */
  all(): { place: TilePlace; tile: Tile }[] {
    return [...this.tiles.values()].sort((a, b) => b.place.level - a.place.level);
  }

  /** How many requests are under way or wait. */
  get pending(): number {
    return this.running.size + this.waiting.length;
  }

  /** Says which tiles are in view, the most wanted first. Others that are under way are given up. */
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
      this.tiles.delete(key); // to the young end
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
      this.waiting = []; // the others would be refused as well
      this.failed(error);
    } finally {
      if (this.running.get(key) === running) this.running.delete(key);
    }
    if (running.signal.aborted) return;
    this.changed();
    this.fill();
  }
}

/** A cell: `span` tokens from `query` on look at `span` tokens from `key` on. */
export interface CellHit {
  query: number;
  key: number;
  span: number;
  /** Null where the tile is not here yet. */
  max: number | null;
  mean: number | null;
  every: number;
}
