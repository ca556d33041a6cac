import { UserError } from "./types";

/** Bytes that are read in slices: a local file, a file of the server, or memory. */
export interface Bytes {
  /** In bytes. */
  readonly size: number;
  /** The bytes start ... stop - 1. Throws a UserError if there are fewer. */
  read(start: number, stop: number): Promise<Uint8Array>;
}

/** The message for a file that shrank or was replaced while it was read. */
const CHANGED = "The file changed while it was being read; open it again.";

function checkRange(start: number, stop: number, size: number): void {
  if (!(Number.isSafeInteger(start) && Number.isSafeInteger(stop) && 0 <= start && start <= stop && stop <= size))
    throw new UserError(`Bytes ${start} to ${stop} were asked for, but the file has ${size}: is the copy whole?`);
}

/** Bytes in memory. Slices share the memory. */
export class MemoryBytes implements Bytes {
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(buffer: ArrayBuffer | Uint8Array) {
    this.#bytes = buffer instanceof Uint8Array ? buffer : new Uint8Array(buffer);
    this.size = this.#bytes.length;
  }

  async read(start: number, stop: number): Promise<Uint8Array> {
    checkRange(start, stop, this.size);
    return this.#bytes.subarray(start, stop);
  }
}

/** A file that the user chose or dropped. Only the requested slices are read from the disk. */
export class BlobBytes implements Bytes {
  readonly size: number;
  readonly #blob: Blob;

  constructor(blob: Blob) {
    this.#blob = blob;
    this.size = blob.size;
  }

  async read(start: number, stop: number): Promise<Uint8Array> {
    checkRange(start, stop, this.size);
    let buffer: ArrayBuffer;
    try {
      buffer = await this.#blob.slice(start, stop).arrayBuffer();
    } catch (error) {
      throw new UserError(`The file cannot be read: it was changed, moved or deleted. Open it again.`, { cause: error });
    }
    if (buffer.byteLength !== stop - start) throw new UserError(CHANGED);
    return new Uint8Array(buffer);
  }
}

/** Bytes that are fetched with the size, so that headers and small files need no second request. */
const FIRST = 65536;

/** A file of the server, read by HTTP ranges. */
export class HttpBytes implements Bytes {
  readonly size: number;
  readonly #url: string;
  readonly #first: Uint8Array;
  readonly #tag: string | null;

  private constructor(url: string, size: number, first: Uint8Array, tag: string | null) {
    this.#url = url;
    this.size = size;
    this.#first = first;
    this.#tag = tag;
  }

  /** Requests the size and the first bytes. Throws a UserError if the server refuses or does not respond. */
  static async open(url: string): Promise<HttpBytes> {
    const answer = await request(url, 0, FIRST);
    if (answer.status === 416) return new HttpBytes(url, 0, new Uint8Array(0), null); // an empty file has no range
    const first = new Uint8Array(await body(answer));
    const size = answer.status === 206 ? totalOf(answer) : first.length;
    if (first.length !== (answer.status === 206 ? Math.min(size, FIRST) : size)) throw new UserError(CHANGED);
    return new HttpBytes(url, size, first, answer.headers.get("ETag"));
  }

  async read(start: number, stop: number): Promise<Uint8Array> {
    checkRange(start, stop, this.size);
    if (stop <= this.#first.length || start === stop) return this.#first.slice(start, stop);
    const answer = await request(this.#url, start, stop);
    const tag = answer.headers.get("ETag");
    const exchanged = this.#tag !== null && tag !== null && tag !== this.#tag;
    if (answer.status !== 206 || exchanged || totalOf(answer) !== this.size) throw new UserError(CHANGED);
    const bytes = new Uint8Array(await body(answer));
    if (bytes.length !== stop - start) throw new UserError(CHANGED);
    return bytes;
  }
}

async function request(url: string, start: number, stop: number): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, { headers: { Range: `bytes=${start}-${stop - 1}` } });
  } catch (error) {
    throw new UserError("The server at this address does not answer; is `attributor` still running?", { cause: error });
  }
  if (answer.ok || answer.status === 416) return answer;
  const message = await answer.json().then((json: { error?: { message?: unknown } }) => json?.error?.message, () => null);
  throw new UserError(typeof message === "string" ? message : `The server refused to send the file (${answer.status}).`);
}

async function body(answer: Response): Promise<ArrayBuffer> {
  try {
    return await answer.arrayBuffer();
  } catch (error) {
    throw new UserError("The connection broke while the file was being read; try again.", { cause: error });
  }
}

function totalOf(answer: Response): number {
  const match = /^bytes \d+-\d+\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "");
  const total = match ? Number(match[1]) : NaN;
  if (!Number.isSafeInteger(total)) throw new UserError("The server did not say how large the file is.");
  return total;
}
