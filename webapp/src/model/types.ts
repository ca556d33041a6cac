/** The one data contract of the case view, whichever place the numbers come from.
 *
 * Letters: k prompt tokens, u units, o rows of the answer, s sentences, d documents. A unit is what is coloured and
 * hovered: a token (several, where they share a character), or in a long export a larger piece. Units cover the whole
 * text without gaps. All places in a text are UTF-16 indices of the text that is shown, in which control and
 * bidirectional characters are spelled out.
 */

export interface View {
  title: string;
  text: string;
  /** What a unit is. */
  kind: "token" | "piece";
  /** (u) the end of each unit in `text`; unit i is text.slice(i ? ends[i - 1] : 0, ends[i]). */
  ends: Int32Array;
  /** (u + 1) the first prompt token of each unit, then k; null where the tokens are not known. */
  firstToken: Int32Array | null;
  /** (u) the sentence of each unit, -1 for none. */
  sentenceOf: Int32Array;
  /** (u) the document of each unit, -1 for none. */
  documentOf: Int32Array;
  /** s. */
  sentences: number;
  /** (d) names to show; "" for none. */
  documents: string[];
  /** Sentences that people marked as evidence; null where nobody marked any. */
  gold: ReadonlySet<number> | null;
  goldDocuments: ReadonlySet<number> | null;
  /** (o) the text of each row: the answer's tokens, or runs of them, or one row for the whole answer. */
  answer: string[];
  /** (u) the mean over all rows. */
  total: Float32Array;
  /** (o) what the shares of each row refer to: its sum over the documents, or over the prompt where there are none. */
  base: Float32Array;
  /** (o) shares that stayed on earlier answer tokens, and that were not followed; null where not known. */
  onAnswer: Float32Array | null;
  missing: Float32Array | null;
  /** Whether a row's scores, onAnswer and missing add up to 1. */
  normalized: boolean;
  /** Whether unit 0 is an attention sink worth a row of its own (true for token flows). */
  sink: boolean;
  question: string | null;
  expected: string | null;
  /** What made it: model, weights, versions ... to show. */
  meta: Record<string, string>;
  /** Sentences that the reader should know. */
  notes: string[];
}

/** The key of `View.meta` under which a case says what the model wrote by itself, where the scored answer was given to it. */
export const OWN_ANSWER = "model's own answer";

/** Half-open, [start, stop). */
export interface Span {
  start: number;
  stop: number;
}

export type By = "document" | "sentence" | "token";

/** The largest connections between rows of the answer and pieces of the prompt; the rest is known as a number. */
export interface Edges {
  rows: Int32Array;
  /** Document, sentence or unit; -1 for what lies in none (template, question). */
  pieces: Int32Array;
  mass: Float32Array;
  /** The mass of all connections of the asked rows, shown or not: the share shown is sum(mass) / total. */
  total: number;
}

/** Where the numbers of one view come from: the server, a file read in slices, or the page itself. */
export interface FlowSource {
  view(): Promise<View>;
  /** (u) the mean score over these rows. */
  rows(rows: Span): Promise<Float32Array>;
  /** The same at once where it is at hand, else null; absent where it never is. */
  peek?(rows: Span): Float32Array | null;
  /** (o) how much each row took from these units together. */
  received(units: Span): Promise<Float32Array>;
  /** At most `limit` edges between these rows and the pieces that lie in `units` (null: all), largest first. */
  edges(by: By, rows: Span, units: Span | null, limit: number): Promise<Edges>;
  /** A page of its own for saving, where the server can make it (a path to GET); null: make it in the browser. */
  readonly page: string | null;
  /** The Flow file, where the server has it (a path to GET). */
  readonly file?: string | null;
}

/** One of the ways in which the same case is scored: the token flow, or a method of an evaluation. */
export interface Variant {
  /** Stable, goes into the link. */
  name: string;
  /** To show, "max-attention · sum". */
  label: string;
  source: FlowSource;
}

/** What the case page shows. */
export interface Case {
  /** Stable within its run, goes into the link. */
  id: string;
  variants: Variant[];
}

/** An error whose message is meant for the user. */
export class UserError extends Error {}
