/** Reads a view file ("attributor.view", version 2) as a View. Every part is checked. */
import { decode, type Tensor, toFloats, toIntegers } from "./safetensors";
import { countCodePoints, decodeUtf8, shown, visible } from "./text";
import { UserError, type View } from "./types";

/** The rows of an exported page: steps * sqrt(score / largest of the row). */
export interface QuantisedRows {
  /** (o * u), row after row. */
  values: Uint8Array | Uint16Array;
  /** (o). */
  largest: Float32Array;
}

export interface ViewFile {
  view: View;
  rows: QuantisedRows | null;
}

const FORMAT = "attributor.view";
const VERSION = 2;

/** Reads a view file without its rows. Throws a UserError that says which part is wrong. */
export function readView(buffer: ArrayBuffer | Uint8Array): View {
  return readViewFile(buffer).view;
}

/** Reads a view file and the rows in it, if it has any. Throws a UserError that says which part is wrong. */
export function readViewFile(buffer: ArrayBuffer | Uint8Array): ViewFile {
  const { metadata, tensors } = decode(buffer, "The view");
  if (metadata.get("format") !== FORMAT)
    throw wrong(`its format is ${metadata.get("format") ?? "missing"}, expected ${FORMAT}`);
  const version = metadata.get("version") ?? "";
  if (!/^[1-9]\d{0,8}$/.test(version)) throw wrong(`its version is unknown (${version.slice(0, 20)})`);
  if (Number(version) > VERSION)
    throw new UserError(`This view was made by a newer attributor (view version ${version}): pip install -U attributor`);
  return new Reader(tensors, readInfo(metadata.get("info") ?? "")).read();
}

function wrong(why: string): UserError {
  return new UserError(`This view cannot be shown: ${why}.`);
}

interface Info {
  title: string;
  kind: "token" | "piece";
  tokens: number | null;
  documents: string[];
  sentences: number;
  normalized: boolean;
  sink: boolean;
  question: string | null;
  expected: string | null;
  meta: Record<string, string>;
  notes: string[];
}

function readInfo(json: string): Info {
  let raw: unknown;
  try {
    raw = JSON.parse(json);
  } catch {
    throw wrong("its info is not JSON");
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) throw wrong("its info is not an object");
  const info = raw as Record<string, unknown>;
  const need = <T>(key: string, value: unknown, good: (value: unknown) => boolean): T => {
    if (!good(value)) throw wrong(`${key} in its info is ${JSON.stringify(value)?.slice(0, 60) ?? "missing"}`);
    return value as T;
  };
  const isString = (value: unknown): value is string => typeof value === "string";
  const isStrings = (value: unknown): boolean => Array.isArray(value) && value.every(isString);
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  const text = (key: string): string | null => {
    const value = need<string | null>(key, info[key] ?? null, (v) => v === null || isString(v));
    return value === null ? null : visible(value);
  };
  const meta = need<Record<string, unknown>>(
    "meta", info.meta ?? {}, (v) => typeof v === "object" && v !== null && !Array.isArray(v) && Object.values(v).every(isString),
  ); // prettier-ignore
  return {
    title: text("title") ?? "attributor: a flow",
    kind: need("kind", info.kind, (v) => v === "token" || v === "piece"),
    tokens: need("tokens", info.tokens ?? null, (v) => v === null || isCount(v)),
    documents: need<string[]>("documents", info.documents, isStrings).map(visible),
    sentences: need("sentences", info.sentences, isCount),
    normalized: need("normalized", info.normalized, (v) => typeof v === "boolean"),
    sink: need("sink", info.sink ?? false, (v) => typeof v === "boolean"),
    question: text("question"),
    expected: text("expected"),
    // fromEntries makes own properties of all names, including __proto__.
    meta: Object.fromEntries(Object.entries(meta).map(([key, value]) => [visible(key), visible(value as string)])),
    notes: need<string[]>("notes", info.notes ?? [], isStrings).map(visible),
  };
}

class Reader {
  readonly #tensors: Map<string, Tensor>;
  readonly #info: Info;

  constructor(tensors: Map<string, Tensor>, info: Info) {
    this.#tensors = tensors;
    this.#info = info;
  }

  read(): ViewFile {
    const info = this.#info;
    const raw = this.#text("text");
    const text = shown(raw);
    const borders = ends(this.#integers("lengths", null), text.points, "lengths", "characters of the text");
    const u = borders.length;
    const rawAnswer = this.#text("answer");
    const rowEnds = ends(this.#integers("answer_lengths", null), countCodePoints(rawAnswer), "answer_lengths", "characters of the answer");
    const o = rowEnds.length;
    const { tokens: _tokens, ...plain } = info;
    const view: View = {
      ...plain,
      text: text.text,
      ends: text.place(borders),
      firstToken: this.#firstToken(u),
      sentenceOf: this.#runs("sentence_runs", u, info.sentences),
      documentOf: this.#runs("document_runs", u, info.documents.length),
      gold: this.#marked("gold", info.sentences),
      goldDocuments: this.#marked("gold_documents", info.documents.length),
      answer: split(rawAnswer, rowEnds),
      total: this.#floats("total", u)!,
      base: this.#floats("base", o)!,
      onAnswer: this.#floats("on_answer", o, true),
      missing: this.#floats("missing", o, true),
    };
    return { view, rows: this.#rows(o, u) };
  }

  #get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw wrong(`${name} is missing`);
    return tensor;
  }

  #text(name: string): string {
    const { dtype, data } = this.#get(name);
    if (dtype !== "U8") throw wrong(`${name} must be bytes of UTF-8, got ${dtype}`);
    return decodeUtf8(data as Uint8Array, `${name} of the view`);
  }

  #integers(name: string, count: number | null): Int32Array {
    const tensor = this.#get(name);
    if (tensor.shape.length !== 1 || (count !== null && tensor.data.length !== count))
      throw wrong(`${name} is [${tensor.shape.join(", ")}], expected [${count ?? "any"}]`);
    return toIntegers(tensor, name);
  }

  #floats(name: string, count: number, optional = false): Float32Array | null {
    if (optional && !this.#tensors.has(name)) return null;
    const tensor = this.#get(name);
    if (tensor.shape.length !== 1 || tensor.data.length !== count)
      throw wrong(`${name} is [${tensor.shape.join(", ")}], expected [${count}]`);
    const values = toFloats(tensor, name);
    if (!values.every(Number.isFinite)) throw wrong(`${name} has numbers that are NaN or infinite`);
    return values;
  }

  #firstToken(u: number): Int32Array | null {
    const k = this.#info.tokens;
    if (k === null) return null;
    const counts = this.#tensors.has("token_counts") ? this.#integers("token_counts", u) : new Int32Array(u).fill(1);
    const stops = ends(counts, k, "token_counts", "tokens");
    const first = new Int32Array(u + 1);
    first.set(stops, 1);
    return first;
  }

  #runs(name: string, u: number, most: number): Int32Array {
    const tensor = this.#get(name);
    if (tensor.shape.length !== 2 || tensor.shape[1] !== 2) throw wrong(`${name} is [${tensor.shape.join(", ")}], expected [any, 2]`);
    const runs = toIntegers(tensor, name);
    const out = new Int32Array(u);
    let at = 0;
    for (let i = 0; i < runs.length; i += 2) {
      const value = runs[i]!;
      const length = runs[i + 1]!;
      if (value < -1 || value >= most) throw wrong(`${name} names ${value}, of ${most}`);
      if (length < 0 || at + length > u) throw wrong(`${name} add up to more than the ${u} units`);
      out.fill(value, at, (at += length));
    }
    if (at !== u) throw wrong(`${name} add up to ${at} of the ${u} units`);
    return out;
  }

  #marked(name: string, most: number): ReadonlySet<number> | null {
    if (!this.#tensors.has(name)) return null;
    const marked = this.#integers(name, null);
    for (const index of marked) if (index < 0 || index >= most) throw wrong(`${name} names ${index}, of ${most}`);
    return new Set(marked);
  }

  #rows(o: number, u: number): QuantisedRows | null {
    if (!this.#tensors.has("rows")) return null;
    const { data, dtype, shape } = this.#get("rows");
    if (!(data instanceof Uint8Array || data instanceof Uint16Array) || (dtype !== "U8" && dtype !== "U16"))
      throw wrong(`rows must be U8 or U16, got ${dtype}`);
    if (shape.length !== 2 || shape[0] !== o || shape[1] !== u) throw wrong(`rows are [${shape.join(", ")}], expected [${o}, ${u}]`);
    return { values: data, largest: this.#floats("largest", o)! };
  }
}

/** The end of each piece, from lengths that must add up to `sum`. */
function ends(lengths: Int32Array, sum: number, name: string, what: string): Int32Array {
  const out = new Int32Array(lengths.length);
  let at = 0;
  for (let i = 0; i < lengths.length; i++) {
    if (lengths[i]! < 0) throw wrong(`${name} has ${lengths[i]} at ${i}`);
    out[i] = at += lengths[i]!;
  }
  if (at !== sum) throw wrong(`${name} add up to ${at}, but there are ${sum} ${what}`);
  return out;
}

/** The rows' texts, from their ends in code points. */
function split(raw: string, rowEnds: Int32Array): string[] {
  const text = shown(raw);
  const places = text.place(rowEnds);
  return Array.from(places, (stop, i) => text.text.slice(i ? places[i - 1]! : 0, stop));
}
