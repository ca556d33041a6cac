import { describe, expect, it } from "vitest";
import { MemoryBytes } from "../../src/model/bytes";
import type { Bytes } from "../../src/model/bytes";
import { lines } from "../../src/run/lines";
import { AP, FIRST, HITS } from "../../src/run/ranks";
import { inOrder } from "../../src/run/order";
import { indexCases, RunIndex } from "../../src/run/runs";
import { rankValue } from "../../src/run/summary";
import { indexed, part, record } from "./helpers";

const line = (id: string, more = {}) => JSON.stringify(record(id, more));

describe("lines", () => {
  it.each([1, 2, 3, 5, 7, 64])("are the same in slices of %i bytes, even cut inside of characters", async (slice) => {
    const text = "ä😀\n\nlonger line\r\nlast";
    const bytes = new MemoryBytes(new TextEncoder().encode(text));
    const found: [string, boolean][] = [];
    for await (const batch of lines(bytes, slice)) {
      for (const one of batch) {
        const read = await bytes.read(one.start, one.stop);
        expect(new TextDecoder().decode(read)).toBe(new TextDecoder().decode(one.bytes));
        found.push([new TextDecoder().decode(one.bytes), one.ended]);
      }
    }
    expect(found).toEqual([["ä😀", true], ["", true], ["longer line\r", true], ["last", false]]);
  });

  it("are read one slice at a time", async () => {
    const asked: number[] = [];
    const all = new TextEncoder().encode("a\n".repeat(50));
    const bytes: Bytes = {
      size: all.length,
      read: async (start, stop) => {
        asked.push(stop - start);
        return all.subarray(start, stop);
      },
    };
    let count = 0;
    for await (const batch of lines(bytes, 16)) count += batch.length;
    expect(count).toBe(50);
    expect(Math.max(...asked)).toBe(16);
  });
});

describe("indexCases", () => {
  it("keeps summaries and reads records by their place", async () => {
    const index = await indexed([part(`${line("a")}\n${line("ü", { generated: null, says: null, em: null })}\n`)], 50);
    expect(index.cases.map((one) => one.id)).toEqual(["a", "ü"]);
    expect(index.cases[0]).toMatchObject({ question: "Who is a?", answer: "It is Ann.", right: true, tokens: 20, kind: "bridge", gold: "1" });
    expect(index.cases[1]).toMatchObject({ answer: null, right: null });
    expect(index.methods.names).toEqual(["flow", "contextcite"]);
    expect(index.methods.aggregations).toEqual(["sum", "segment"]);
    expect(rankValue(index.cases[0]!, 0, FIRST)).toBe(2);
    expect(rankValue(index.cases[0]!, 0, AP)).toBe(0.5);
    expect(rankValue(index.cases[0]!, 1, HITS)).toBe(1);
    expect((await index.record(index.cases[1]!.place))["question"]).toBe("Who is ü?");
    expect(index.notes()).toEqual([]);
  });

  it("keeps the last record of an id at the place of the first, over several parts", async () => {
    const parts = inOrder([
      part(`${line("b", { status: "done", question: "new" })}\n`, "cases.1.jsonl"),
      part(`${line("c")}\n`, "cases.0.jsonl"),
      part(`${line("a")}\n${line("b", { status: "failed" })}\n`),
    ]);
    const index = await indexed(parts);
    expect(parts.map((one) => one.name)).toEqual(["cases.jsonl", "cases.0.jsonl", "cases.1.jsonl"]);
    expect(index.cases.map((one) => one.id)).toEqual(["a", "b", "c"]);
    expect(index.cases[1]!.question).toBe("new");
    expect(index.find("b")).toBe(1);
    expect(index.find("nobody")).toBe(-1);
    expect((await index.record(index.cases[1]!.place))["question"]).toBe("new");
  });

  it("leaves out an unfinished last line with a note; a whole one without a line break counts", async () => {
    const torn = await indexed([part(`${line("a")}\n${line("b").slice(0, -9)}`)]);
    expect(torn.cases.map((one) => one.id)).toEqual(["a"]);
    expect(torn.notes()).toHaveLength(1);
    expect(torn.notes()[0]).toContain("last line of cases.jsonl was not finished");
    expect(torn.malformedCount).toBe(0);
    const whole = await indexed([part(`${line("a")}\n${line("b")}`)]);
    expect(whole.cases).toHaveLength(2);
    expect(whole.notes()).toEqual([]);
  });

  it("counts malformed lines and continues", async () => {
    const bad = ["{", "[]", "7", '{"id": 3}', "\u0000", "nothing"];
    const index = await indexed([part(`${bad.join("\n")}\n\n  \r\n${line("a")}\n`)]);
    expect(index.cases.map((one) => one.id)).toEqual(["a"]);
    expect(index.malformedCount).toBe(6);
    expect(index.notes()[0]).toBe(
      "6 lines are not case records and are left out: cases.jsonl line 1, cases.jsonl line 2, cases.jsonl line 3, cases.jsonl line 4, cases.jsonl line 5 ….",
    );
  });

  it("has no ranks for cases that cannot be ranked", async () => {
    const index = await indexed([
      part([
        line("no gold", { gold: [] }),
        line("all gold", { gold: [0, 1, 2] }),
        line("out of range", { gold: [9] }),
        line("skipped", { status: "skipped", methods: {} }),
        line("short", { methods: { flow: { scores: { sum: [1] } } } }),
        line("strange", { methods: { flow: null, other: [] }, segments: "no", gold: {} }),
      ].join("\n")),
    ]);
    expect(index.cases).toHaveLength(6);
    for (const one of index.cases) expect(rankValue(one, 0, AP)).toBeNaN();
  });

  it("can be cancelled and keeps the cases read so far", async () => {
    const all = new TextEncoder().encode(Array.from({ length: 400 }, (_, i) => line(`case ${i}`)).join("\n"));
    const cancel = new AbortController();
    const bytes: Bytes = {
      size: all.length,
      read: async (start, stop) => {
        if (start > all.length / 2) cancel.abort(new Error("enough"));
        return all.subarray(start, stop);
      },
    };
    const index = new RunIndex([{ name: "cases.jsonl", bytes }]);
    await expect(indexCases(index, undefined, cancel.signal, 4096)).rejects.toThrow("enough");
    expect(index.cases.length).toBeGreaterThan(0);
    expect(index.cases.length).toBeLessThan(400);
  });

  it("reports a changed file if a record is no longer at its place", async () => {
    const bytes = new TextEncoder().encode(`${line("a")}\n`);
    const index = await indexed([{ name: "cases.jsonl", bytes: new MemoryBytes(bytes) }]);
    bytes.fill(32, 0, 20);
    await expect(index.record(index.cases[0]!.place)).rejects.toThrow("changed since it was opened");
  });
});
