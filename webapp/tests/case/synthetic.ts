/** A small case with known numbers, for the tests of the case page. */
import { type FlowSource, type Span, UserError, type View } from "../../src/model/types";

/** Units: <s> | Sys | Aa. | Bb. | Cc | \n\n | Dd. | Ee. | Q?   documents: 0 = units 2..4, 1 = units 6..7; each unit of a document is a sentence. */
export function smallView(changes: Partial<View> = {}): View {
  const texts = ["<s>", "Sys\n\n", "Aa.", " Bb.", " Cc", "\n\n", "Dd.", " Ee.", "\n\nQ?"];
  let end = 0;
  return {
    title: "small",
    text: texts.join(""),
    kind: "token",
    ends: Int32Array.from(texts, (text) => (end += text.length)),
    firstToken: Int32Array.from({ length: texts.length + 1 }, (_, i) => i),
    sentenceOf: Int32Array.from([-1, -1, 0, 1, 1, -1, 2, 3, -1]),
    documentOf: Int32Array.from([-1, -1, 0, 0, 0, -1, 1, 1, -1]),
    sentences: 4,
    documents: ["First", ""],
    gold: new Set([1]),
    goldDocuments: null,
    answer: ["One", " two", " three"],
    total: mean([rowScores(0), rowScores(1), rowScores(2)]),
    base: Float32Array.from([0.375, 0.25, 0.125]),
    onAnswer: Float32Array.from([0, 0.125, 0.25]),
    missing: Float32Array.from([0.125, 0.125, 0.125]),
    normalized: true,
    sink: true,
    question: "Q?",
    expected: "E",
    meta: { model: "m" },
    notes: [],
    ...changes,
  };
}

/** The same prompt without documents: shares are parts of the whole prompt. */
export function plainView(changes: Partial<View> = {}): View {
  return smallView({ documents: [], documentOf: new Int32Array(9).fill(-1), base: Float32Array.from([0.875, 0.75, 0.625]), ...changes });
}

/** (9) scores of a row; with on_answer = row / 8 and missing = 1/8 they add up to 1. */
export function rowScores(row: number): Float32Array {
  const scores = new Float32Array(9);
  scores[0] = 0.375;
  scores[1] = 0.0625;
  scores[2 + row] = 0.25 - row / 16;
  scores[6] = 0.125 - row / 16;
  scores[8] = 0.0625;
  return scores;
}

function mean(rows: Float32Array[]): Float32Array {
  return rows[0]!.map((_, u) => rows.reduce((sum, row) => sum + row[u]!, 0) / rows.length);
}

export interface Calls {
  rows: Span[];
  received: Span[];
}

/** A source of the small case that records its requests. With `hold` the test decides when rows arrive. */
export function smallSource({ view = smallView(), hold = false, fail = false } = {}): FlowSource & { calls: Calls; release: () => Promise<void> } {
  const calls: Calls = { rows: [], received: [] };
  let waiting: (() => void)[] = [];
  return {
    calls,
    page: null,
    release: async () => {
      for (const go of waiting.splice(0)) go();
      await settled();
    },
    view: () => Promise.resolve(view),
    rows: async (rows) => {
      calls.rows.push(rows);
      if (hold) await new Promise<void>((go) => waiting.push(go));
      if (fail) throw new UserError("The run is gone: start it again.");
      return mean(Array.from({ length: rows.stop - rows.start }, (_, i) => rowScores(rows.start + i)));
    },
    received: (units) => {
      calls.received.push(units);
      return Promise.resolve(Float32Array.from([0.1875, 0.0625, 0])); // 1/2, 1/4 and 0 of `base`
    },
    edges: () => Promise.reject(new Error("not asked for here")),
  };
}

/** Wait for timers of up to `ms` and for the promises that they start. */
export async function settled(ms = 0): Promise<void> {
  await new Promise((done) => setTimeout(done, ms));
  for (let i = 0; i < 8; i++) await Promise.resolve();
}
