/** Reads safetensors files whole or in slices, and writes them. Browsers are little-endian, like the format. */
import type { Bytes } from "./bytes";
import { type Dtype, type Header, headerLength, parseHeader, show, sizeOf, type TensorInfo } from "./header";
import { UserError } from "./types";

export type { Dtype, Header, TensorInfo } from "./header";

export type Numbers =
  | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array
  | Float32Array | Float64Array | BigInt64Array | BigUint64Array; // prettier-ignore

/** A tensor in memory. F16, BF16 and the 8-bit floats are stored as their bits. */
export interface Tensor {
  dtype: Dtype;
  shape: number[];
  data: Numbers;
}

/** A file with a checked header. Its tensors are read on demand. */
export class SafetensorsFile implements Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #bytes: Bytes;

  private constructor(bytes: Bytes, header: Header) {
    this.#bytes = bytes;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /** Reads the header only. Throws a UserError that says what is wrong with the file.
   *
   * @param name of the file, for messages.
   * @param kind what it should be, for messages: "a flow file".
   */
  static async open(bytes: Bytes, name: string, kind?: string): Promise<SafetensorsFile> {
    const first = await bytes.read(0, Math.min(8, bytes.size));
    const length = headerLength(first, bytes.size, name, kind);
    return new SafetensorsFile(bytes, parseHeader(await bytes.read(8, 8 + length), bytes.size, name, kind));
  }

  /** One whole tensor. */
  async read(name: string): Promise<Tensor> {
    const { dtype, shape, start, stop } = this.#info(name);
    return { dtype, shape, data: view(await this.#bytes.read(start, stop), dtype) };
  }

  /** Rows start ... stop - 1 of a 2-D tensor, or elements of a 1-D one. */
  async rows(name: string, start: number, stop: number): Promise<Numbers> {
    const info = this.#info(name);
    const count = info.shape[0] ?? 0;
    if (!(0 <= start && start <= stop && stop <= count))
      throw new UserError(`Rows ${start} to ${stop} of ${show(name)} were asked for, but it has ${count}.`);
    const bytes = rowBytes(info);
    return view(await this.#bytes.read(info.start + start * bytes, info.start + stop * bytes), info.dtype);
  }

  /** Columns start ... stop - 1 of one row of a 2-D tensor. */
  async slice(name: string, row: number, start: number, stop: number): Promise<Numbers> {
    const info = this.#info(name);
    const [rows, columns] = info.shape;
    if (info.shape.length !== 2 || !(0 <= row && row < rows! && 0 <= start && start <= stop && stop <= columns!))
      throw new UserError(`Columns ${start} to ${stop} of row ${row} are not in ${show(name)} [${info.shape.join(", ")}].`);
    const size = sizeOf(info.dtype);
    const at = info.start + row * rowBytes(info);
    return view(await this.#bytes.read(at + start * size, at + stop * size), info.dtype);
  }

  #info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (!info) throw new UserError(`The file has no tensor ${show(name)}.`);
    return info;
  }
}

function rowBytes(info: TensorInfo): number {
  return info.shape.slice(1).reduce((product, length) => product * length, sizeOf(info.dtype));
}

export interface Decoded {
  metadata: ReadonlyMap<string, string>;
  tensors: Map<string, Tensor>;
}

/** Decodes a safetensors file in memory. */
export function decode(buffer: ArrayBuffer | Uint8Array, name = "The answer"): Decoded {
  const bytes = buffer instanceof Uint8Array ? buffer : new Uint8Array(buffer);
  const length = headerLength(bytes.subarray(0, 8), bytes.length, name);
  const header = parseHeader(bytes.subarray(8, 8 + length), bytes.length, name);
  const tensors = new Map<string, Tensor>();
  for (const [key, { dtype, shape, start, stop }] of header.tensors)
    tensors.set(key, { dtype, shape, data: view(bytes.subarray(start, stop), dtype) });
  return { metadata: header.metadata, tensors };
}

/** A tensor of any float dtype as float32. Throws a UserError for other dtypes. */
export function toFloats(tensor: { dtype: Dtype; data: Numbers }, name: string): Float32Array {
  const { dtype, data } = tensor;
  if (data instanceof Float32Array) return data;
  if (dtype === "F64") return Float32Array.from(data as Float64Array);
  if (dtype === "BF16") return new Float32Array(Uint32Array.from(data as Uint16Array, (bits) => bits << 16).buffer);
  if (dtype === "F16") return Float32Array.from(data as Uint16Array, half);
  throw new UserError(`${name} must be floats, got ${dtype}`);
}

/** A tensor of integers as int32. Throws a UserError for floats, and for numbers that do not fit. */
export function toIntegers(tensor: { dtype: Dtype; data: Numbers }, name: string): Int32Array {
  const { dtype, data } = tensor;
  if (data instanceof Int32Array) return data;
  if (!/^[UI]\d+$/.test(dtype)) throw new UserError(`${name} must be integers, got ${dtype}`);
  const out = new Int32Array(data.length);
  for (let i = 0; i < out.length; i++) {
    const value = Number(data[i]);
    out[i] = value;
    if (out[i] !== value) throw new UserError(`${name} has the number ${value} at ${i}, which is too large`);
  }
  return out;
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Bytes as numbers: the same memory if it is aligned, otherwise a copy. */
function view(bytes: Uint8Array, dtype: Dtype): Numbers {
  const size = dtype === "C64" ? 4 : sizeOf(dtype);
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  const length = aligned.byteLength / size;
  switch (dtype) {
    case "I8": return new Int8Array(buffer, byteOffset, length);
    case "I16": return new Int16Array(buffer, byteOffset, length);
    case "U16": case "F16": case "BF16": return new Uint16Array(buffer, byteOffset, length);
    case "U32": return new Uint32Array(buffer, byteOffset, length);
    case "I32": return new Int32Array(buffer, byteOffset, length);
    case "F32": case "C64": return new Float32Array(buffer, byteOffset, length);
    case "F64": return new Float64Array(buffer, byteOffset, length);
    case "I64": return new BigInt64Array(buffer, byteOffset, length);
    case "U64": return new BigUint64Array(buffer, byteOffset, length);
    default: return aligned;
  } // prettier-ignore
}

/** A tensor for `encode`. The type of the array gives the dtype. */
export interface Writable {
  data: Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array | BigInt64Array;
  /** One dimension if absent. */
  shape?: number[];
}

const DTYPES: Record<string, Dtype> = {
  Uint8Array: "U8", Int8Array: "I8", Uint16Array: "U16", Int16Array: "I16", Uint32Array: "U32", Int32Array: "I32",
  Float32Array: "F32", Float64Array: "F64", BigInt64Array: "I64",
}; // prettier-ignore

/** A safetensors file of these tensors. Dtypes with the largest elements come first, which keeps mapped tensors aligned. */
export function encode(tensors: Record<string, Writable>, metadata: Record<string, string> = {}): Uint8Array<ArrayBuffer> {
  const entries = Object.entries(tensors).sort(([, a], [, b]) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT);
  const places: [string, unknown][] = [["__metadata__", metadata]];
  let total = 0;
  for (const [name, { data, shape = [data.length] }] of entries) {
    if (shape.reduce((a, b) => a * b, 1) !== data.length)
      throw new Error(`${name}: shape [${shape.join(", ")}] has not ${data.length} elements`);
    const dtype = DTYPES[data.constructor.name] ?? "U8";
    places.push([name, { dtype, shape, data_offsets: [total, (total += data.byteLength)] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(places)));
  const padded = Math.ceil(json.length / 8) * 8;
  const out = new Uint8Array(8 + padded + total).fill(0x20, 8 + json.length, 8 + padded);
  new DataView(out.buffer).setBigUint64(0, BigInt(padded), true);
  out.set(json, 8);
  let at = 8 + padded;
  for (const [, { data }] of entries) {
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return out;
}
