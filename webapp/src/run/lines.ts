/** Lines of a file that is read in slices. A line may be longer than a slice. */

import type { Bytes } from "../model/bytes";

/** One line without its line break. */
export interface Line {
  /** Half-open places in the file. */
  start: number;
  stop: number;
  bytes: Uint8Array;
  /** True if a line break follows; false only for a file's last line. */
  ended: boolean;
}

/** Bytes per read. */
export const SLICE = 4 * 1024 * 1024;
const BREAK = 10;

/** Read a file's lines, in batches of the lines that end in one slice. The next slice is read ahead.
 *
 * @param signal aborts the reading with its reason.
 */
export async function* lines(bytes: Bytes, slice = SLICE, signal?: AbortSignal): AsyncGenerator<Line[], void> {
  const ask = (start: number) => bytes.read(start, Math.min(start + slice, bytes.size));
  let carried: Uint8Array[] = [];
  let began = 0;
  let coming = bytes.size > 0 ? ask(0) : null;
  for (let at = 0; coming !== null; ) {
    const data: Uint8Array = await coming;
    signal?.throwIfAborted();
    const next = at + data.length;
    if (data.length === 0) break; // the file became shorter while it was read
    coming = next < bytes.size ? ask(next) : null;
    // If the caller stops early, the rejection of this read must not stay unhandled.
    coming?.catch(() => undefined);
    const batch: Line[] = [];
    let from = 0;
    for (let stop = data.indexOf(BREAK); stop >= 0; stop = data.indexOf(BREAK, from)) {
      const piece = data.subarray(from, stop);
      const whole = carried.length > 0 ? joined([...carried, piece]) : piece;
      batch.push({ start: began, stop: at + stop, bytes: whole, ended: true });
      carried = [];
      from = stop + 1;
      began = at + from;
    }
    if (from < data.length) carried.push(data.subarray(from));
    at = next;
    yield batch;
  }
  if (carried.length > 0) {
    const last = joined(carried);
    yield [{ start: began, stop: began + last.length, bytes: last, ended: false }];
  }
}

function joined(pieces: Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
