/** The parts of a Flow file besides its scores (docs/flow-file.md), read and checked like in attributor/_result/flow_file.py. */
import { show } from "./header";
import { type SafetensorsFile, type Tensor, type TensorInfo, toFloats, toIntegers } from "./safetensors";
import { countCodePoints, decodeUtf8 } from "./text";
import { UserError } from "./types";

/** Places are code points of the text. Spans are flat: start, stop, start, stop ... */
export interface FlowParts {
  /** Rows and prompt tokens. */
  o: number;
  k: number;
  /** True if rows are tokens of an answer; false for the flow of the next, unwritten token. */
  answered: boolean;
  text: string | null;
  /** (k, 2). */
  offsets: Int32Array | null;
  answer: string | null;
  /** (o, 2). */
  answerOffsets: Int32Array | null;
  /** (d, 2), in the file's order. */
  documents: Int32Array;
  labels: string[];
  /** (s, 2), if the file has them. */
  sentences: Int32Array | null;
  /** (o). */
  missing: Float32Array | null;
  /** True if a row's scores, its missing mass and the part on answer tokens add up to 1; false if that is unknown. */
  normalized: boolean;
  meta: [string, string][];
}

const FORMAT = "attributor.flow";
const VERSION = 1;
/** All parts except scores and ids, which are read later. */
const SMALL = ["missing_mass", "text", "offsets", "answer", "answer_offsets", "sentences"];

/** Throws a UserError for another kind of file and for one from a newer version. */
export function checkKind(file: SafetensorsFile, name: string): void {
  const format = file.metadata.get("format");
  if (format !== FORMAT) {
    const kind = format === undefined ? "none" : show(format);
    throw new UserError(`${name} is a safetensors file but not a flow (format: ${kind}, expected "${FORMAT}")`);
  }
  const version = file.metadata.get("version");
  const number = version !== undefined && /^\d+$/.test(version) ? Number(version) : 0;
  if (number < 1) {
    const got = version === undefined ? "none" : show(version);
    throw new UserError(`${name} is a flow file with the unknown version ${got}; versions are 1 to ${VERSION}`);
  }
  if (number > VERSION)
    throw new UserError(
      `${name} was written by a newer attributor (flow version ${version!.slice(0, 20)}, ` +
        `this one reads up to ${VERSION}): pip install -U attributor`,
    );
}

/** Reads the parts. Throws a UserError if they do not fit together. */
export async function readParts(file: SafetensorsFile, name: string): Promise<FlowParts> {
  const tensors = new Map<string, Tensor>();
  for (const part of SMALL) if (file.tensors.has(part)) tensors.set(part, await file.read(part));
  try {
    return build(file, tensors);
  } catch (error) {
    const why = (error as Error).message;
    throw new UserError(`${name} is a flow file whose parts do not fit together: ${why}`, { cause: error });
  }
}

function build(file: SafetensorsFile, tensors: Map<string, Tensor>): FlowParts {
  const scores = need(file, "scores");
  const ids = need(file, "ids");
  const [o = 0, k = 0] = scores.shape;
  if (scores.shape.length !== 2 || !isFloat(scores))
    throw new UserError(`scores must be a 2-dimensional tensor of floats, got ${described(scores)}`);
  if (o < 1 || k < 1) throw new UserError(`scores must be (o, k) with at least one row and one column, got (${o}, ${k})`);
  if (ids.shape.length !== 1 || !/^[IU]\d/.test(ids.dtype))
    throw new UserError(`ids must be a 1-dimensional tensor of integers, got ${described(ids)}`);
  const answered = ids.shape[0]! - k;
  if (answered !== o && !(answered === 0 && o === 1))
    throw new UserError(
      `scores (${o}, ${k}) need ids of ${k} prompt and ${o} answer tokens${o === 1 ? " (or none)" : ""}, ` +
        `got (${ids.shape[0]})`,
    );
  const [text, offsets] = textOf(tensors, "text", "offsets", k);
  const [answer, answerOffsets] = textOf(tensors, "answer", "answer_offsets", answered);
  const length = text === null ? 0 : countCodePoints(text);
  const [documents, labels] = documentsOf(file.metadata.get("documents") ?? "[]", text === null ? null : length);
  const sentences = tensors.get("sentences");
  const missing = missingOf(tensors.get("missing_mass"), o);
  const meta = metaOf(file.metadata.get("meta") ?? "{}");
  return {
    o, k, answered: answered > 0, text, offsets, answer, answerOffsets, documents, labels,
    sentences: sentences && text !== null ? sentencesOf(sentences, length) : null,
    missing, normalized: addsUp(file.metadata.get("normalized"), meta) && missing !== null, meta,
  }; // prettier-ignore
}

function need(file: SafetensorsFile, part: string): TensorInfo {
  const info = file.tensors.get(part);
  if (!info) throw new UserError(`'${part}' is missing`);
  return info;
}

function described({ shape, dtype }: { shape: number[]; dtype: string }): string {
  return `(${shape.join(", ")}) of ${dtype}`;
}

function isFloat({ dtype }: { dtype: string }): boolean {
  return ["F32", "F16", "BF16", "F64"].includes(dtype);
}

function textOf(tensors: Map<string, Tensor>, name: string, places: string, count: number): [string, Int32Array] | [null, null] {
  const [data, offsets] = [tensors.get(name), tensors.get(places)];
  if (!data !== !offsets) throw new UserError(`${name} and ${places} go together: give both or neither`);
  if (!data || !offsets) return [null, null];
  if (data.dtype !== "U8" || data.shape.length !== 1) throw new UserError(`${name} must be bytes of UTF-8, got ${described(data)}`);
  const text = decodeUtf8(data.data as Uint8Array, name);
  const spans = toIntegers(offsets, places);
  if (offsets.shape.length !== 2 || offsets.shape[0] !== count || offsets.shape[1] !== 2)
    throw new UserError(`${places} must be (${count}, 2), a span a token, got (${offsets.shape.join(", ")})`);
  const length = countCodePoints(text);
  for (let i = 0; i < spans.length; i += 2)
    if (!(0 <= spans[i]! && spans[i]! <= spans[i + 1]! && spans[i + 1]! <= length))
      throw new UserError(`${places} must be spans with 0 <= start <= stop <= ${length}, the length of ${name}`);
  return [text, spans];
}

function sentencesOf(tensor: Tensor, length: number): Int32Array {
  if (tensor.shape.length !== 2 || tensor.shape[1] !== 2)
    throw new UserError(`sentences must be (s, 2) integers, got ${described(tensor)}`);
  const spans = toIntegers(tensor, "sentences");
  let reached = 0;
  for (let i = 0; i < spans.length; i += 2) {
    if (!(reached <= spans[i]! && spans[i]! < spans[i + 1]! && spans[i + 1]! <= length))
      throw new UserError(`sentences must be spans of the text's ${length} characters, in order, none over another`);
    reached = spans[i + 1]!;
  }
  return spans;
}

function missingOf(tensor: Tensor | undefined, o: number): Float32Array | null {
  if (!tensor) return null;
  const missing = toFloats(tensor, "missing_mass");
  if (tensor.shape.length !== 1 || missing.length !== o) throw new UserError(`missing_mass must be (${o}), got ${described(tensor)}`);
  if (!missing.every(Number.isFinite)) throw new UserError("missing_mass must be finite, and has values that are NaN or infinite");
  return missing;
}

function documentsOf(json: string, length: number | null): [Int32Array, string[]] {
  const listed: unknown = JSON.parse(json);
  if (!Array.isArray(listed)) throw new UserError("documents must be a list of [start, stop, label or null]");
  if (listed.length && length === null) throw new UserError("documents are spans of the text, and there is no text");
  const spans: { start: number; stop: number; index: number }[] = [];
  const labels: string[] = [];
  for (const [index, entry] of listed.entries()) {
    const [start, stop, label] = (Array.isArray(entry) ? entry : []) as unknown[];
    if (!Array.isArray(entry) || entry.length !== 3 || !Number.isInteger(start) || !Number.isInteger(stop))
      throw new UserError(`document ${index} must be [start, stop, label or null], got ${JSON.stringify(entry).slice(0, 60)}`);
    const span = { start: start as number, stop: stop as number, index };
    if (!(0 <= span.start && span.start < span.stop && span.stop <= length!))
      throw new UserError(
        `document ${index} spans characters ${start} to ${stop}; the text has ${length} and a span may not be empty`,
      );
    spans.push(span);
    labels.push(label === null ? "" : String(label));
  }
  const sorted = [...spans].sort((a, b) => a.start - b.start);
  for (const [i, b] of sorted.entries()) {
    const a = sorted[i - 1];
    if (a && b.start < a.stop)
      throw new UserError(
        `document ${a.index} (characters ${a.start} to ${a.stop}) and document ${b.index} (${b.start} to ${b.stop}) ` +
          "overlap; every character may belong to one document only",
      );
  }
  return [Int32Array.from(spans.flatMap(({ start, stop }) => [start, stop])), labels];
}

/** True if rows with a known missing mass add up to 1: the key "normalized"; files of version 0.1 have "normalize" in `meta`. */
function addsUp(normalized: string | undefined, meta: [string, string][]): boolean {
  if (normalized === undefined) return (new Map(meta).get("normalize") ?? "true").toLowerCase() !== "false";
  if (normalized !== "true" && normalized !== "false")
    throw new UserError(`normalized must be "true" or "false", got ${show(normalized)}`);
  return normalized === "true";
}

function metaOf(json: string): [string, string][] {
  const meta: unknown = JSON.parse(json);
  if (typeof meta !== "object" || meta === null || Array.isArray(meta)) throw new UserError("meta must be an object of strings");
  return Object.entries(meta).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
}
