/** Encodes a view as a view file with quantised rows, small enough for an exported page. */

import { encode, type Writable } from "../model/safetensors";
import { toCodePoints } from "../model/text";
import type { FlowSource, View } from "../model/types";

const UTF8 = new TextEncoder();
const LONG = 200; // mean units per run above which runs are no sentences

/** Called with the number of rows read. */
export type Progress = (done: number, total: number) => void;

/** Encodes a view file.
 *
 * If rows x units need more than `room` bytes, units are merged to sentences, and answer tokens to runs of equal length.
 * Notes in the file say so.
 */
export async function encodeView(view: View, source: FlowSource, room: number, progress?: Progress): Promise<Uint8Array> {
  const notes = [...view.notes];
  const o = view.answer.length;
  const first = starts(view, room);
  const u = first.length;
  if (u < view.ends.length) notes.push("The prompt is long: shares are shown in pieces of several tokens.");
  const together = Math.max(1, Math.ceil((o * u) / room));
  if (together > 1) notes.push(`The answer is long: ${together} tokens of it are shown together, as their mean.`);
  const wide = 2 * Math.ceil(o / together) * u <= room;
  const rows = await quantised(view, source, first, together, wide ? 65535 : 255, progress);
  const ends = toCodePoints(view.text, Int32Array.from({ length: u }, (_, i) => view.ends[(first[i + 1] ?? view.ends.length) - 1]!));
  const answer: string[] = [];
  for (let r = 0; r < o; r += together) answer.push(view.answer.slice(r, r + together).join(""));
  const counts = tokenCounts(view, first);
  const tensors: Record<string, Writable> = {
    text: bytes(view.text),
    lengths: integers(Array.from(ends, (end, i) => end - (i > 0 ? ends[i - 1]! : 0))),
    sentence_runs: runs(Array.from(first, (i) => view.sentenceOf[i]!)),
    document_runs: runs(Array.from(first, (i) => view.documentOf[i]!)),
    answer: bytes(answer.join("")),
    answer_lengths: integers(answer.map((text) => [...text].length)),
    total: { shape: [u], data: merged(view.total, first) },
    base: means(view.base, together),
    rows: { shape: [answer.length, u], data: rows.steps },
    largest: { shape: [answer.length], data: rows.largest },
  };
  if (counts !== null) tensors.token_counts = integers(counts);
  if (view.onAnswer !== null) tensors.on_answer = means(view.onAnswer, together);
  if (view.missing !== null) tensors.missing = means(view.missing, together);
  if (view.gold !== null) tensors.gold = list(view.gold);
  if (view.goldDocuments !== null) tensors.gold_documents = list(view.goldDocuments);
  const info = {
    title: view.title,
    kind: u < view.ends.length ? "piece" : view.kind,
    tokens: view.firstToken?.at(-1) ?? null,
    documents: view.documents,
    sentences: view.sentences,
    normalized: view.normalized,
    answered: true,
    sink: view.sink && u === view.ends.length,
    question: view.question,
    expected: view.expected,
    meta: view.meta,
    notes,
  };
  return encode(tensors, { format: "attributor.view", version: "2", info: JSON.stringify(info) });
}

/** The first unit of each piece: every unit, or each change of sentence or document. If changes are rare (a prompt of token
 * ids without sentences), long runs are cut into pieces of equal length, so that places stay distinct.
 */
function starts(view: View, room: number): Int32Array {
  const u = view.ends.length;
  if (view.answer.length * u <= room) return Int32Array.from({ length: u }, (_, i) => i);
  const found: number[] = [];
  for (let i = 0; i < u; i++) {
    const changed =
      i === 0 ||
      view.sentenceOf[i] !== view.sentenceOf[i - 1] ||
      view.documentOf[i] !== view.documentOf[i - 1];
    if (changed) found.push(i);
  }
  const most = room / view.answer.length;
  if (u / found.length < LONG || 4 * found.length > most) return Int32Array.from(found);
  const longest = Math.ceil((2 * u) / most);
  const pieces = found.flatMap((start, i) => {
    const length = (found[i + 1] ?? u) - start;
    const parts = Math.ceil(length / longest);
    return Array.from({ length: parts }, (_, part) => start + Math.floor((part * length) / parts));
  });
  return Int32Array.from(pieces);
}

async function quantised(
  view: View,
  source: FlowSource,
  first: Int32Array,
  together: number,
  steps: number,
  progress?: Progress,
): Promise<{ steps: Uint16Array | Uint8Array; largest: Float32Array }> {
  const o = view.answer.length;
  const u = first.length;
  const count = Math.ceil(o / together);
  const out = steps > 255 ? new Uint16Array(count * u) : new Uint8Array(count * u);
  const largest = new Float32Array(count);
  for (let r = 0; r < count; r++) {
    const start = r * together;
    const row = merged(await source.rows({ start, stop: Math.min(start + together, o) }), first);
    let most = 0;
    for (const value of row) if (value > most) most = value;
    largest[r] = most;
    if (most > 0) for (let i = 0; i < u; i++) out[r * u + i] = Math.round(steps * Math.sqrt(Math.max(0, row[i]!) / most));
    progress?.(r + 1, count);
  }
  return { steps: out, largest };
}

/** Sums over the units of each piece. */
function merged(values: Float32Array, first: Int32Array): Float32Array {
  const out = new Float32Array(first.length);
  for (let i = 0; i < first.length; i++) {
    let sum = 0;
    for (let j = first[i]!; j < (first[i + 1] ?? values.length); j++) sum += values[j]!;
    out[i] = sum;
  }
  return out;
}

function means(values: Float32Array, together: number): Writable {
  const out = new Float32Array(Math.ceil(values.length / together));
  for (let i = 0; i < out.length; i++) {
    const part = values.subarray(i * together, (i + 1) * together);
    out[i] = part.reduce((sum, value) => sum + value, 0) / part.length;
  }
  return { shape: [out.length], data: out };
}

function tokenCounts(view: View, first: Int32Array): number[] | null {
  const tokens = view.firstToken;
  if (tokens === null) return null;
  return Array.from(first, (unit, i) => tokens[first[i + 1] ?? view.ends.length]! - tokens[unit]!);
}

/** Run-length encoding: [[value, count], ...] */
function runs(values: number[]): Writable {
  const out: number[] = [];
  for (const value of values) {
    if (out.length > 0 && out[out.length - 2] === value) out[out.length - 1]! += 1;
    else out.push(value, 1);
  }
  return { shape: [out.length / 2, 2], data: Int32Array.from(out) };
}

function list(values: ReadonlySet<number>): Writable {
  return { shape: [values.size], data: Int32Array.from([...values].sort((a, b) => a - b)) };
}

function integers(values: number[]): Writable {
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  const data = most < 256 ? Uint8Array.from(values) : most < 65_536 ? Uint16Array.from(values) : Int32Array.from(values);
  return { data };
}

function bytes(text: string): Writable {
  const data = UTF8.encode(text);
  return { shape: [data.length], data };
}
