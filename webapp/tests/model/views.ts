/** Hand-made view files for the tests. */
import { encode, type Writable } from "../../src/model/safetensors";

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

export const INFO = {
  title: "attributor: Twice a day.",
  kind: "token",
  tokens: 7,
  documents: ["Harbour", ""],
  sentences: 2,
  normalized: true,
  answered: true,
  sink: true,
  question: "How often?",
  expected: null,
  meta: { model: "tiny" },
  notes: ["A note."],
};

/** Six units "Hi ", "A😀", "b", "\r\n", "\u202e", "end" of 7 tokens; two rows. */
export const TENSORS: Record<string, Writable> = {
  text: { data: utf8("Hi A😀b\r\n\u202eend") },
  lengths: { data: new Uint8Array([3, 2, 1, 2, 1, 3]) },
  token_counts: { data: new Uint8Array([1, 2, 1, 1, 1, 1]) },
  sentence_runs: { data: new Int32Array([-1, 1, 0, 2, 1, 2, -1, 1]), shape: [4, 2] },
  document_runs: { data: new Int32Array([-1, 1, 0, 3, 1, 2]), shape: [3, 2] },
  answer: { data: utf8("Twice😀\0") },
  answer_lengths: { data: new Uint8Array([6, 1]) },
  total: { data: new Float32Array([0.2, 0.1, 0.1, 0, 0.1, 0.3]) },
  base: { data: new Float32Array([0.6, 0.5]) },
  on_answer: { data: new Float32Array([0, 0.2]) },
  missing: { data: new Float32Array([0.1, 0.1]) },
  gold: { data: new Int32Array([1]) },
  gold_documents: { data: new Int32Array([1]) },
};

/** The file with some parts changed; null removes a part. */
export function viewFile(
  info: Record<string, unknown> = {},
  tensors: Record<string, Writable | null> = {},
  metadata: Record<string, string> = {},
): Uint8Array<ArrayBuffer> {
  const parts = Object.entries({ ...TENSORS, ...tensors }).filter((part): part is [string, Writable] => part[1] !== null);
  return encode(Object.fromEntries(parts), {
    format: "attributor.view",
    version: "2",
    info: JSON.stringify({ ...INFO, ...info }),
    ...metadata,
  });
}
