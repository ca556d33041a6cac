import { describe, expect, it } from "vitest";
import { MemoryBytes } from "../../src/model/bytes";
import { COLUMNS, Digest } from "../../src/run/digest";
import { best } from "../../src/run/headline";
import { inWords } from "../../src/run/Metrics";
import { readRunJson } from "../../src/run/opened";

const interval = (value: number, n = 9) => ({ value, low: value - 0.1, high: value + 0.1, n });
const method = (ap: number, more: object = {}) => ({
  main: "sum",
  sentence: { sum: { all: { ap: interval(ap), first_rank: interval(3 - ap) }, "kind:bridge": { ap: interval(ap / 2, 4) } } },
  document: { sum: { all: { ap: interval(1 - ap) } } },
  costs: { reads: true, seconds: interval(2), forwards: { value: null, low: null, high: null, n: 0 } },
  faithfulness: null,
  ...more,
});
const RUN = {
  format: "attributor.run",
  version: 1,
  status: "done",
  config: { dataset: "hotpotqa", model: "org/Small-1B", methods: ["a", "b"], limit: null, max_tokens: 1900 },
  data: { name: "hotpotqa", rows: 12 },
  versions: { torch: "2.13.0", "sentence-transformers": null },
  device: "cpu",
  counts: { rows: 12, done: 9, skipped: 3, failed: 0 },
  seconds: { last_session: 12.34, cases: 20 },
  metrics: {
    counts: { no_gold: 0, unusable: 2 },
    strata: { all: 9, "kind:bridge": 4 },
    answers: { em: interval(0.5), f1: { value: null, low: null, high: null, n: 0 } },
    methods: { a: method(0.2), b: method(0.7, { faithfulness: { lds: interval(0.4) } }), c: { main: "segment", sentence: {}, document: {} } },
    differences: [{ method: "b", other: "a", metric: "ap", value: 0.5, low: 0.4, high: 0.7, n: 9 }, null, 3],
    ablations: [{ convention: "text", masks: 32, seed: 0 }],
    peak_bytes: 2_500_000_000,
  },
};
const digest = new Digest(RUN);

describe("Digest", () => {
  it("lists methods from the highest AP to the lowest, with costs and faithfulness over all rows", () => {
    const rows = digest.methods({ unit: "sentence", stratum: "all" });
    expect(rows.map((row) => row.name)).toEqual(["b", "a", "c"]);
    expect(digest.leading).toBe("b");
    expect(rows[0]!.values.get("ap")).toEqual(interval(0.7));
    expect([...rows[0]!.values.keys()].sort()).toEqual(["ap", "first_rank", "lds", "seconds"]);
    expect(rows[2]!.values.size).toBe(0);
    expect(digest.methods({ unit: "sentence", stratum: "kind:bridge" })[0]!.values.get("ap")!.n).toBe(4);
    expect(digest.methods({ unit: "document", stratum: "all" })[0]!.name).toBe("a");
  });

  it("finds the best of a column: the lowest if lower is better, none for costs", () => {
    const rows = digest.methods({ unit: "sentence", stratum: "all" });
    const column = (key: string) => COLUMNS.find((one) => one.key === key)!;
    expect([...best(rows, column("ap"))]).toEqual(["b"]);
    expect([...best(rows, column("first_rank"))]).toEqual(["b"]);
    expect([...best(rows, column("seconds"))]).toEqual([]);
    expect([...best(rows, column("mrr"))]).toEqual([]);
  });

  it("turns differences to the chosen method", () => {
    expect(digest.differences("b", "ap")).toMatchObject([{ other: "a", value: 0.5, low: 0.4, high: 0.7, n: 9 }]);
    expect(digest.differences("a", "ap")).toMatchObject([{ other: "b", value: -0.5, low: -0.7, high: -0.4 }]);
    expect(digest.differences("a", "mrr")).toEqual([]);
    const words = (low: number | null, high: number | null, less = false) => inWords({ value: 0, low, high, n: 3 }, less);
    expect([words(0.1, 0.2), words(-0.2, -0.1), words(0.1, 0.2, true), words(-0.2, -0.1, true)]).toEqual(["better", "worse", "worse", "better"]);
    expect([words(-0.1, 0.1), words(0, 0), words(null, null)]).toEqual(["no clear difference", "no clear difference", "too few rows"]);
  });

  it("lists the settings of the run", () => {
    expect(digest.title).toBe("hotpotqa · Small-1B");
    expect(digest.counts).toEqual([["rows", 12], ["done", 9], ["skipped", 3], ["with unusable scores", 2]]);
    expect(digest.answers.map(([name]) => name)).toEqual(["exact match"]);
    expect(digest.strata).toEqual([["all", 9], ["kind:bridge", 4]]);
    expect(digest.ablations).toBe("Pieces are removed from the text (text); LDS over 32 random sets, seed 0.");
    const settings = Object.fromEntries(digest.settings);
    expect(settings["Settings"]).toContainEqual(["max tokens", "1900"]);
    expect(settings["Settings"]).toContainEqual(["methods", "a, b"]);
    expect(settings["Settings"]!.some(([name]) => name === "limit")).toBe(false);
    expect(settings["Versions"]).toEqual([["torch", "2.13.0"]]);
    expect(settings["Machine and time"]).toContainEqual(["peak memory", "2.50 GB"]);
  });

  it("leaves out missing or malformed parts", () => {
    const strange = new Digest({ metrics: { methods: { a: null, b: [] }, strata: 3, differences: {}, answers: [] }, config: "x", counts: null });
    expect(strange.methods({ unit: "sentence", stratum: "all" })).toHaveLength(2);
    expect([strange.strata, strange.answers, strange.counts, strange.settings]).toEqual([[], [], [], []]);
    expect(new Digest({}).hasMetrics).toBe(false);
    expect(new Digest({}).title).toBe("Evaluation run");
  });
});

describe("readRunJson", () => {
  const bytes = (text: string) => new MemoryBytes(new TextEncoder().encode(text));
  it("accepts only files written by an evaluation", async () => {
    expect(await readRunJson(bytes(JSON.stringify(RUN)))).toEqual(RUN);
    await expect(readRunJson(bytes("{"))).rejects.toThrow("not whole JSON");
    await expect(readRunJson(bytes("[]"))).rejects.toThrow("does not describe a run");
    await expect(readRunJson(bytes('{"format": "attributor.run", "version": 2}'))).rejects.toThrow("reads up to 1");
    await expect(readRunJson({ size: 1e9, read: () => Promise.reject(new Error("must not be read")) })).rejects.toThrow("1000 MB");
  });
});
