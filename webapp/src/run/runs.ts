/** The index of a run's cases. Files of any size are read once in slices; only summaries and places stay in memory. */

import type { Bytes } from "../model/bytes";
import { UserError } from "../model/types";
import { lines, SLICE } from "./lines";
import type { Line } from "./lines";
import { Methods, summarise } from "./summary";
import type { Place, Summary } from "./summary";

/** A cases.jsonl, or one of the parts cases.N.jsonl of a run that several processes write. */
export interface Part {
  name: string;
  bytes: Bytes;
}

/** The part of a run that was read so far. */
export class RunIndex {
  readonly cases: Summary[] = [];
  readonly methods = new Methods();
  /** The first malformed lines, "cases.jsonl line 3", and the number of all. */
  readonly malformed: string[] = [];
  malformedCount = 0;
  /** Parts with an unfinished last line. */
  readonly torn: string[] = [];
  readonly parts: readonly Part[];
  private readonly places = new Map<string, number>();

  constructor(parts: readonly Part[]) {
    this.parts = parts;
  }

  /** The place of a case in `cases`, -1 for none. */
  find(id: string): number {
    return this.places.get(id) ?? -1;
  }

  /** Add a case. A later record with the same id replaces the earlier one. */
  add(summary: Summary): void {
    const known = this.places.get(summary.id);
    if (known === undefined) this.places.set(summary.id, this.cases.push(summary) - 1);
    else this.cases[known] = summary;
  }

  /** Sentences about unreadable lines. */
  notes(): string[] {
    const found: string[] = [];
    if (this.malformedCount > 0) {
      const more = this.malformedCount > this.malformed.length ? " …" : "";
      const are = this.malformedCount === 1 ? "1 line is not a case record and is" : `${this.malformedCount.toLocaleString("en")} lines are not case records and are`;
      found.push(`${are} left out: ${this.malformed.join(", ")}${more}.`);
    }
    for (const name of this.torn) {
      found.push(`The last line of ${name} was not finished and is left out: the run was stopped, or is still going.`);
    }
    return found;
  }

  /** Read one case's whole record. */
  async record(place: Place): Promise<Record<string, unknown>> {
    const bytes = await this.parts[place.part]!.bytes.read(place.start, place.stop);
    try {
      return JSON.parse(DECODER.decode(bytes)) as Record<string, unknown>;
    } catch {
      const name = this.parts[place.part]!.name;
      throw new UserError(`${name} changed since it was opened: its record is no longer where it was. Open the run again.`);
    }
  }
}

const DECODER = new TextDecoder("utf-8", { fatal: true });
const MOST_NAMED = 5;
const TURN = 12; // milliseconds of work before the page gets time to draw and handle events

/** The progress of reading, in bytes. */
export interface Progress {
  read: number;
  size: number;
}

/** Read all cases of all parts into an index, with pauses for the page.
 *
 * @param progress called after every few milliseconds of work; the index has all cases read so far.
 * @param signal cancels the reading; cases already read stay in the index.
 */
export async function indexCases(
  index: RunIndex,
  progress: (done: Progress) => void = () => undefined,
  signal?: AbortSignal,
  slice = SLICE,
): Promise<void> {
  const done: Progress = { read: 0, size: 0 };
  for (const part of index.parts) done.size += part.bytes.size;
  let before = 0;
  let began = performance.now();
  for (const [number, part] of index.parts.entries()) {
    let row = 0;
    for await (const batch of lines(part.bytes, slice, signal)) {
      for (const line of batch) {
        row += 1;
        take(index, line, number, row);
        done.read = before + line.stop;
        if (performance.now() - began < TURN) continue;
        progress({ ...done });
        await turn();
        signal?.throwIfAborted();
        began = performance.now();
      }
    }
    before += part.bytes.size;
    done.read = before;
  }
  progress({ ...done });
}

function take(index: RunIndex, line: Line, part: number, row: number): void {
  if (line.bytes.every((byte) => byte === 32 || byte === 13 || byte === 9)) return;
  let summary: Summary | null = null;
  try {
    const place = { part, start: line.start, stop: line.stop };
    summary = summarise(JSON.parse(DECODER.decode(line.bytes)), index.methods, place);
  } catch {
    summary = null;
  }
  if (summary !== null) index.add(summary);
  else if (!line.ended) index.torn.push(index.parts[part]!.name);
  else {
    index.malformedCount += 1;
    if (index.malformed.length < MOST_NAMED) index.malformed.push(`${index.parts[part]!.name} line ${row}`);
  }
}

/** Let the browser draw and handle events. A timer would wait 4 ms each time, which adds up over a large file. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });
}
