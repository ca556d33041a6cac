/** The data types of the case view, for all sources of numbers.
 *
 * Letters: k prompt tokens, u units, o rows of the answer, s sentences, d documents. A unit is the smallest part that is
 * coloured and hovered: a token (or several that share a character), or in a long export a larger piece. Units cover the
 * whole text without gaps. All places in a text are UTF-16 indices of the visible text, in which control and bidirectional
 * characters are spelled out.
 */

export interface View {
  title: string;
  text: string;
  /** The kind of units. */
  kind: "token" | "piece";
  /** (u) the end of each unit in `text`; unit i is text.slice(i ? ends[i - 1] : 0, ends[i]). */
  ends: Int32Array;
  /** (u + 1) the first prompt token of each unit, then k; null if the tokens are unknown. */
  firstToken: Int32Array | null;
  /** (u) the sentence of each unit, -1 for none. */
  sentenceOf: Int32Array;
  /** (u) the document of each unit, -1 for none. */
  documentOf: Int32Array;
  /** s. */
  sentences: number;
  /** (d) names to show; "" for none. */
  documents: string[];
  /** The gold sentences; null if the case has no gold. */
  gold: ReadonlySet<number> | null;
  goldDocuments: ReadonlySet<number> | null;
  /** (o) the text of each row: the answer's tokens, or runs of them, or one row for the whole answer. */
  answer: string[];
  /** (u) the mean over all rows. */
  total: Float32Array;
  /** (o) the whole of each row's shares: its sum over the documents, or over the prompt without documents. */
  base: Float32Array;
  /** (o) the parts on earlier answer tokens, and the missing mass; null if unknown. */
  onAnswer: Float32Array | null;
  missing: Float32Array | null;
  /** True if a row's scores, onAnswer and missing add up to 1. */
  normalized: boolean;
  /** True if unit 0 is an attention sink that gets its own bar (true for token flows). */
  sink: boolean;
  question: string | null;
  expected: string | null;
  /** Facts to show: model, weights, versions ... */
  meta: Record<string, string>;
  /** Sentences to show to the user. */
  notes: string[];
}

/** The key of `View.meta` for the answer that the model wrote itself, if the scored answer is a forced one. */
export const OWN_ANSWER = "model's own answer";

/** Half-open, [start, stop). */
export interface Span {
  start: number;
  stop: number;
}

export type By = "document" | "sentence" | "token";

/** The largest connections between rows of the answer and pieces of the prompt, and the mass of all. */
export interface Edges {
  rows: Int32Array;
  /** Document, sentence or unit; -1 for text outside of all (template, question). */
  pieces: Int32Array;
  mass: Float32Array;
  /** The mass of all connections of the requested rows. The listed part is sum(mass) / total. */
  total: number;
}

/** The source of a view's numbers: the server, a file read in slices, or the page itself. */
export interface FlowSource {
  view(): Promise<View>;
  /** (u) the mean score over these rows. */
  rows(rows: Span): Promise<Float32Array>;
  /** The same without a promise if it is cached, otherwise null; absent if the source has no cache. */
  peek?(rows: Span): Float32Array | null;
  /** (o) the amount that each row took from these units together. */
  received(units: Span): Promise<Float32Array>;
  /** At most `limit` edges between these rows and the pieces in `units` (null: all), largest first. */
  edges(by: By, rows: Span, units: Span | null, limit: number): Promise<Edges>;
  /** The path of the exported page, if the server makes it; null: the browser makes it. */
  readonly page: string | null;
  /** The path of the Flow file, if the server has it. */
  readonly file?: string | null;
}

/** One scoring of a case: the token flow, or a method of an evaluation. */
export interface Variant {
  /** A stable name, used in links. */
  name: string;
  /** The visible name, such as "max-attention · sum". */
  label: string;
  source: FlowSource;
}

/** The data of a case page. */
export interface Case {
  /** A stable id within its run, used in links. */
  id: string;
  variants: Variant[];
}

/** An error whose message is meant for the user. */
export class UserError extends Error {}
