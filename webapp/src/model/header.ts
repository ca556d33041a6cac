/** The header of a safetensors file: JSON of which every part is checked. */
import { UserError } from "./types";

/** Bytes of one element. Other dtypes are refused, as their size is unknown. */
const SIZES = {
  BOOL: 1, U8: 1, I8: 1, F8_E4M3: 1, F8_E5M2: 1, F8_E8M0: 1,
  U16: 2, I16: 2, F16: 2, BF16: 2,
  U32: 4, I32: 4, F32: 4,
  U64: 8, I64: 8, F64: 8, C64: 8,
} as const; // prettier-ignore

export type Dtype = keyof typeof SIZES;

/** One tensor's place. */
export interface TensorInfo {
  dtype: Dtype;
  shape: number[];
  /** Its bytes, counted from the start of the file. */
  start: number;
  stop: number;
}

export interface Header {
  metadata: ReadonlyMap<string, string>;
  tensors: ReadonlyMap<string, TensorInfo>;
}

/** The limit of safetensors itself, in bytes. */
const LONGEST_HEADER = 100_000_000;

/** Maximum bytes of the header besides its strings: 50,000 tensors. Each `[]` takes a parser many times its two bytes. */
const LONGEST_FRAME = 4_000_000;
const MOST_DIMENSIONS = 32;
const WHOLE = "flow.save(path) writes such files, and copies of them must be whole";
/** Names with a special meaning for JavaScript objects. */
const FORBIDDEN = new Set(["__proto__", "constructor", "prototype"]);

/** Bytes of one element of this dtype. */
export function sizeOf(dtype: Dtype): number {
  return SIZES[dtype];
}

/** The length of the header, from the file's first eight bytes; checked against the file's size.
 *
 * @param kind what the file should be, for the message: "a flow file".
 */
export function headerLength(first: Uint8Array, size: number, name: string, kind = "a safetensors file"): number {
  const length = first.length < 8 ? -1n : new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length < 0n || length > BigInt(LONGEST_HEADER) || length > BigInt(size - 8))
    throw new UserError(
      `${name} is not ${kind}, or only the beginning of one (${size} bytes): ${WHOLE}`,
    );
  return Number(length);
}

/** Parses and checks a header: names, dtypes, shapes and places against each other and against the file's size.
 *
 * @param bytes the header's JSON, without the eight bytes before it.
 * @param size of the whole file in bytes.
 */
export function parseHeader(bytes: Uint8Array, size: number, name: string, kind = "a safetensors file"): Header {
  const unreadable = (why: string): UserError =>
    new UserError(`${name} is not ${kind}: its header cannot be read (${why})`);
  const frame = bytes.length > LONGEST_FRAME ? besidesStrings(bytes) : 0;
  if (frame > LONGEST_FRAME) throw unreadable(`${frame} characters besides its strings; ${LONGEST_FRAME} are the most`);
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (error) {
    throw unreadable(bytes[0] === 0xef && bytes[1] === 0xbb ? "it begins with a byte order mark" : (error as Error).message);
  }
  if (!isObject(json)) throw unreadable("not an object");
  const odd = oddKey(text);
  if (odd) throw unreadable(odd);
  const base = 8 + bytes.length;
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorInfo>();
  for (const [key, value] of Object.entries(json)) {
    if (key === "__metadata__") {
      // Metadata that is not an object means another kind of file, not a broken one, as in Python's reader.
      if (isObject(value))
        for (const [k, v] of Object.entries(value)) {
          if (typeof v !== "string") throw unreadable(`metadata ${show(k)} is not a string`);
          metadata.set(k, v);
        }
    } else tensors.set(key, place(key, value, base, size, name));
  }
  checkCover(tensors, base, size, name);
  return { metadata, tensors };
}

function besidesStrings(json: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < json.length; i++) {
    if (json[i] === 0x22) for (i++; i < json.length && json[i] !== 0x22; i++) if (json[i] === 0x5c) i++;
    count += 1; // a string counts as one
  }
  return count;
}

/** A name from the file for a message: quoted, and cut to a line. */
export function show(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 59)}…` : text);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function corrupt(name: string, why: string): UserError {
  return new UserError(`${name} is corrupt or truncated: ${why}; ${WHOLE}`);
}

function place(key: string, value: unknown, base: number, size: number, name: string): TensorInfo {
  const wrong = (why: string): UserError => corrupt(name, `tensor ${show(key)} ${why}`);
  const keys = isObject(value) ? Object.keys(value).sort().join() : "";
  if (!isObject(value) || keys !== "data_offsets,dtype,shape") throw wrong("must have dtype, shape and data_offsets");
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(SIZES, dtype)) throw wrong(`has the unknown dtype ${show(String(dtype))}`);
  if (!Array.isArray(shape) || !shape.every(isCount) || shape.length > MOST_DIMENSIONS)
    throw wrong("has a shape that is not a list of sizes");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw wrong("has data_offsets that are not two places in the file");
  const [start, stop] = offsets as [number, number];
  let bytes = SIZES[dtype as Dtype] as number;
  for (const length of shape as number[]) bytes *= length;
  if (start > stop || base + stop > size)
    throw wrong(`lies at bytes ${start} to ${stop}, outside of the ${size - base} there are`);
  if (bytes !== stop - start)
    throw wrong(`of shape [${shape.join(", ")}] and dtype ${dtype} needs ${bytes} bytes, its place has ${stop - start}`);
  return { dtype: dtype as Dtype, shape: shape as number[], start: base + start, stop: base + stop };
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Tensors must follow one another without overlap or holes, up to the file's last byte. */
function checkCover(tensors: Map<string, TensorInfo>, base: number, size: number, name: string): void {
  let reached = base;
  const sorted = [...tensors].sort(([, a], [, b]) => a.start - b.start || a.stop - b.stop);
  for (const [key, { start, stop }] of sorted) {
    if (start < reached) throw corrupt(name, `tensor ${show(key)} overlaps another`);
    if (start > reached) throw corrupt(name, `${start - reached} bytes before tensor ${show(key)} belong to none`);
    reached = stop;
  }
  if (reached !== size) throw corrupt(name, `${size - reached} bytes after the last tensor belong to none`);
}

/** The error in the keys of a valid JSON text, or null. Of duplicate keys JSON.parse silently keeps the last. */
function oddKey(text: string): string | null {
  const stack: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x7b) stack.push(new Set());
    else if (c === 0x5b) stack.push(null);
    else if (c === 0x7d || c === 0x5d) stack.pop();
    else if (c === 0x22) {
      const start = i;
      for (i++; text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++;
      let next = i + 1;
      while (text.charCodeAt(next) <= 0x20) next++;
      if (text.charCodeAt(next) !== 0x3a) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string; // resolves escapes such as \u005f in the name
      const keys = stack[stack.length - 1]!;
      if (FORBIDDEN.has(key)) return `the name ${show(key)} is not allowed`;
      if (keys.has(key)) return `the name ${show(key)} is there twice`;
      keys.add(key);
    }
  }
  return null;
}
