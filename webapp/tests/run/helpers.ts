import { MemoryBytes } from "../../src/model/bytes";
import type { Part } from "../../src/run/runs";
import { indexCases, RunIndex } from "../../src/run/runs";

/** A record of an evaluation: three sentences in two documents, the second sentence gold. */
export function record(id: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  const text = "Read.\n\nAnn:\nOne. Two.\n\nBob:\nThree.\n\nWho?";
  return {
    id,
    status: "done",
    reason: null,
    kind: "bridge",
    level: "hard",
    question: `Who is ${id}?`,
    expected: "Ann",
    tokens: 20,
    answer: "Ann",
    log_prob: -2.5,
    generated: "It is Ann.",
    em: 0,
    says: 1,
    text,
    segments: [[12, 16, 0], [17, 21, 0], [28, 34, 1]],
    documents: [[7, 21, "Ann"], [23, 34, "Bob"]],
    gold: [1],
    gold_documents: [0],
    methods: {
      flow: { scores: { mean: [0.3, 0.2, 0.1], sum: [0.5, 0.3, 0.2] }, documents: { sum: [0.8, 0.2] } },
      contextcite: { scores: { segment: [-1, 2, 0] }, documents: { segment: [1, 0] } },
    },
    ...more,
  };
}

/** A part of a run from its lines. */
export function part(text: string, name = "cases.jsonl"): Part {
  return { name, bytes: new MemoryBytes(new TextEncoder().encode(text)) };
}

/** Index parts in slices of this many bytes. */
export async function indexed(parts: Part[], slice?: number): Promise<RunIndex> {
  const index = new RunIndex(parts);
  await indexCases(index, undefined, undefined, slice);
  return index;
}
