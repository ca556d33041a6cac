/** A Flow file on the user's disk (docs/flow-file.md). A large file is read in slices, never as a whole. */
import type { Bytes } from "./bytes";
import { Cache } from "./cache";
import { groupsOf, TopEdges } from "./edges";
import { makeAids, type Aids } from "./flowaids";
import { checkKind, readParts } from "./flowparts";
import { FlowScores } from "./flowscores";
import { layOut } from "./flowview";
import { checkSpan, meanOf, MemoryFlow, PlainRows } from "./memory";
import { type Numbers, SafetensorsFile } from "./safetensors";
import type { By, Edges, FlowSource, Span, View } from "./types";

const SMALL = 32_000_000; // scores of up to this many bytes are kept in memory
const ROOM = 32_000_000; // bytes of cached rows of larger files
const MOST = 64; // rows
const MOST_EDGES = 16;

export interface OpenOptions {
  /** Called with the part of the file that was read, 0 ... 1, while the sums of the first view are computed. */
  onProgress?: (share: number) => void;
  /** Scores of up to this many bytes are kept in memory. */
  keep?: number;
}

/** Opens a Flow file. Its header and text are checked now, its scores are read on first use.
 *
 * @param name of the file, for messages.
 *
 * Throws a UserError that says what is wrong with the file.
 */
export async function openFlow(bytes: Bytes, name = "The file", options: OpenOptions = {}): Promise<FlowSource> {
  const file = await SafetensorsFile.open(bytes, name, "a flow file");
  checkKind(file, name);
  const parts = await readParts(file, name);
  const readIds = async (start: number, stop: number): Promise<string[]> =>
    Array.from((await file.rows("ids", start, stop)) as Exclude<Numbers, Float32Array>, String);
  const layout = await layOut(parts, readIds);
  const scores = new FlowScores(file, layout.firstToken);
  const isSmall = 4 * scores.rows * scores.units <= (options.keep ?? SMALL);
  return new FlowFile(scores, async () => {
    const aids = await makeAids(scores, layout, isSmall, name, options.onProgress);
    const onAnswer = layout.normalized ? aids.reached.map((sum, row) => Math.max(0, 1 - sum - parts.missing![row]!)) : null;
    const view: View = {
      ...layout,
      total: aids.total,
      base: aids.base,
      onAnswer: onAnswer && Float32Array.from(onAnswer),
      missing: parts.missing && parts.missing.map((value) => Math.max(0, value)),
      notes: aids.hasNegative ? [...layout.notes, "Negative scores are shown as 0."] : layout.notes,
    };
    return { view, aids, memory: aids.kept && new MemoryFlow(view, new PlainRows(aids.kept, scores.units)) };
  });
}

interface Read {
  view: View;
  aids: Aids;
  /** All scores, if the file is small. */
  memory: MemoryFlow | null;
}

class FlowFile implements FlowSource {
  readonly page = null;
  readonly #scores: FlowScores;
  readonly #read: () => Promise<Read>;
  #reading: Promise<Read> | null = null;
  #memory: MemoryFlow | null = null;
  readonly #rows = new Cache<Float32Array>(MOST, ROOM, (row) => row.byteLength);
  readonly #edges = new Cache<Edges>(MOST_EDGES, ROOM, (edges) => 12 * edges.rows.length);

  constructor(scores: FlowScores, read: () => Promise<Read>) {
    this.#scores = scores;
    this.#read = read;
  }

  async view(): Promise<View> {
    return (await this.#made()).view;
  }

  async rows(rows: Span): Promise<Float32Array> {
    const { view, aids, memory } = await this.#made();
    if (memory) return memory.rows(rows);
    checkSpan(rows, this.#scores.rows, "rows of the answer");
    if (rows.start === 0 && rows.stop === this.#scores.rows) return view.total;
    return this.#rows.get(`${rows.start}-${rows.stop}`, () => this.#mean(rows, aids));
  }

  peek(rows: Span): Float32Array | null {
    return this.#memory?.peek(rows) ?? this.#rows.peek(`${rows.start}-${rows.stop}`);
  }

  async received(units: Span): Promise<Float32Array> {
    const { aids, memory } = await this.#made();
    if (memory) return memory.received(units);
    checkSpan(units, this.#scores.units, "pieces of the prompt");
    const known = aids.sums.sentence?.column(units) ?? aids.sums.document?.column(units);
    if (known) return known;
    const out = new Float32Array(this.#scores.rows);
    await this.#scores.scan({ start: 0, stop: out.length }, units, (row, scores) => {
      let sum = 0;
      for (let i = 0; i < scores.length; i++) sum += scores[i]!;
      out[row] = sum;
    });
    return out;
  }

  async edges(by: By, rows: Span, units: Span | null, limit: number): Promise<Edges> {
    const { view, aids, memory } = await this.#made();
    if (memory) return memory.edges(by, rows, units, limit);
    checkSpan(rows, this.#scores.rows, "rows of the answer");
    if (units) checkSpan(units, this.#scores.units, "pieces of the prompt");
    const key = `${by} ${rows.start}-${rows.stop} ${units?.start}-${units?.stop} ${limit}`;
    return this.#edges.get(key, async () => {
      const top = new TopEdges(limit);
      const sums = by === "token" || units ? null : aids.sums[by];
      if (sums) for (let row = rows.start; row < rows.stop; row++) top.offerSums(row, sums.row(row));
      else {
        const groups = groupsOf(view, by);
        await this.#scores.scan(rows, units, (row, scores) => top.offerRow(row, scores, groups, units, units?.start ?? 0));
      }
      return top.finish();
    });
  }

  /** The mean of some rows: stored sums of whole blocks, and the rows at both ends from the file. */
  async #mean(rows: Span, aids: Aids): Promise<Float32Array> {
    const sums = new Float64Array(this.#scores.units);
    const add = (scores: Float32Array): void => {
      for (let unit = 0; unit < sums.length; unit++) sums[unit]! += scores[unit]!;
    };
    const first = Math.ceil(rows.start / aids.every);
    const last = rows.stop === this.#scores.rows ? aids.blocks.length : Math.floor(rows.stop / aids.every);
    if (first >= last) await this.#scores.scan(rows, null, (_, scores) => add(scores));
    else {
      for (let block = first; block < last; block++) add(aids.blocks[block]!);
      const ends = [{ start: rows.start, stop: first * aids.every }, { start: last * aids.every, stop: rows.stop }]; // prettier-ignore
      for (const end of ends) if (end.start < end.stop) await this.#scores.scan(end, null, (_, scores) => add(scores));
    }
    return meanOf(sums, rows.stop - rows.start);
  }

  #made(): Promise<Read> {
    if (this.#reading) return this.#reading;
    const reading = this.#read();
    reading.then(
      ({ memory }) => (this.#memory = memory),
      () => (this.#reading = null), // the next call reads again
    );
    return (this.#reading = reading);
  }
}
