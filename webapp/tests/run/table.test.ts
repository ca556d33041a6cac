import { describe, expect, it } from "vitest";
import { casesCsv } from "../../src/run/export";
import { computed, histogram } from "../../src/run/headline";
import { WIDTH } from "../../src/run/ranks";
import type { Summary } from "../../src/run/summary";
import { decodeState, encodeState, facet, hits, shownCases, START, tableQuery } from "../../src/run/table";
import type { Key, TableState } from "../../src/run/table";
import { inSight, moved, scrolledTo } from "../../src/run/virtual";
import { indexed, part, record } from "./helpers";

const { cases, methods } = await indexed([
  part(
    [
      record("a", { question: "Zebra?", generated: "=1+1", says: 0, tokens: 9, methods: { flow: { scores: { sum: [3, 2, 1] } } } }),
      record("b", { question: "apple 10?", kind: "comparison", tokens: 100, methods: { flow: { scores: { sum: [1, 2, 0] } } } }),
      record("c", { question: "apple 9?", generated: null, says: null, em: null, status: "skipped", reason: "too long", tokens: null, methods: {} }),
      record("d", { question: "Mango?", level: "easy", methods: { flow: { scores: { sum: [1, 1, 1] } } } }),
    ]
      .map((one) => JSON.stringify(one))
      .join("\n"),
  ),
]);
const ids = (change: Partial<TableState>, other: Parameters<typeof shownCases>[3] = null) =>
  [...shownCases(cases, { ...START, ...change }, 0, other)].map((place) => cases[place]!.id).join("");

describe("the table of cases", () => {
  it.each([
    ["place", false, "abcd"],
    ["place", true, "dcba"],
    ["question", false, "cbda"], // 9 before 10, case-insensitive
    ["first", false, "badc"], // 1, 2, an expected 2 of three tied pieces, none
    ["ap", true, "bdac"],
    ["ap", false, "adbc"], // a missing value comes last in both directions
    ["tokens", true, "bdac"],
    ["right", true, "bdac"],
    ["answer", false, "abdc"],
    ["status", false, "abdc"],
    ["hit", true, "bdac"],
  ] as [Key, boolean, string][])("sorts by %s, descending %s", (key, descending, order) => expect(ids({ key, descending })).toBe(order));

  it("filters by results and by properties of the data", () => {
    expect(ids({ right: true })).toBe("bd");
    expect(ids({ right: false })).toBe("a");
    expect(ids({ hit: true })).toBe("b");
    expect(ids({ hit: false })).toBe("ad"); // a chance of 1/3 is no hit
    expect(ids({ hit: true, k: 3 })).toBe("abd");
    expect(ids({ status: "skipped" })).toBe("c");
    expect(ids({ kind: "comparison" })).toBe("b");
    expect(ids({ level: "easy" })).toBe("d");
    expect(ids({ level: "easy", right: false })).toBe("");
    expect(hits(cases[2]!, 0, 1)).toBeNull();
  });

  it("searches all words in all texts", () => {
    expect(ids({ search: " APPLE " })).toBe("bc");
    expect(ids({ search: "apple 10" })).toBe("b");
    expect(ids({ search: "too long" })).toBe("c");
    expect(ids({ search: "1+1" })).toBe("a");
  });

  it("sorts by the difference to another run, missing values last", () => {
    const other = { values: new Map([["a", 1]]), differences: new Map([["a", -0.5], ["d", 0.2], ["b", NaN]]) };
    expect(ids({ key: "difference", descending: true }, other)).toBe("dabc");
    expect(ids({ key: "other" }, other)).toBe("abcd");
  });

  it("counts the values of a property", () => {
    expect(facet(cases, "kind")).toEqual([["bridge", 3], ["comparison", 1]]);
  });
});

describe("the table's part of a link", () => {
  it("survives encoding with any content", () => {
    const state: TableState = {
      key: "difference",
      descending: true,
      search: "a&b=ü?",
      right: false,
      hit: true,
      status: "done",
      kind: "x",
      level: "hard",
      k: 5,
      method: "flow:a/b",
      other: "file:run",
      otherMethod: "m",
      measure: "first",
    };
    const query = JSON.parse(JSON.stringify(encodeState(state))) as Record<string, string>;
    expect(decodeState(query)).toEqual(state);
    expect(Object.keys(query).every((key) => key.startsWith("t."))).toBe(true);
  });

  it("is empty for the start state, and invalid values become the start state", () => {
    expect(Object.values(encodeState(START)).filter((value) => value !== undefined)).toEqual([]);
    expect(decodeState({})).toEqual(START);
    expect(decodeState({ "t.sort": "-constructor", "t.k": "4", "t.right": "maybe", "t.measure": "x" })).toEqual(START);
    expect(tableQuery({ "t.find": "x", rows: "1-2" })).toEqual({ "t.find": "x" });
  });
});

describe("numbers over cases", () => {
  it("are means over the cases that have them", () => {
    const [row] = computed(cases, methods, true);
    expect(row!.values.get("mrr")!.n).toBe(3);
    expect(row!.values.get("mrr")!.value).toBeCloseTo((0.5 + 1 + (1 + 1 / 2 + 1 / 3) / 3) / 3);
    const { low, high } = row!.values.get("mrr")!;
    expect(low).toBeGreaterThanOrEqual(0.5);
    expect(high).toBeLessThanOrEqual(1);
    expect(computed(cases, methods, false)[0]!.values.get("mrr")).toMatchObject({ n: 3, low: null, high: null });
  });

  it("are counted by rank, ties as fractions", () => {
    const { counts, n } = histogram(cases, 0);
    expect(n).toBe(3);
    expect(counts.slice(0, 3)).toEqual([1 + 1 / 3, 1 + 1 / 3, 1 / 3].map((value) => expect.closeTo(value)));
    expect(cases[0]!.ranks).toHaveLength(WIDTH);
  });
});

describe("the table as CSV", () => {
  it("has the shown cases in their order and no formulas", () => {
    const odd: Summary = { ...cases[0]!, id: "+x", question: '@SUM(1)"', answer: "-2", expected: "\t=3" };
    const lines = casesCsv([odd, cases[1]!], Int32Array.of(1, 0), 0, "flow", null).split("\r\n");
    expect(lines[0]).toBe("id,status,kind,level,question,expected,answer,right,method,ap,first rank,hit@1,hit@3,hit@5,tokens,reason");
    expect(lines[1]).toBe("b,done,comparison,hard,apple 10?,Ann,It is Ann.,right,flow,1,1,1,1,1,100,");
    expect(lines[2]).toBe("'+x,done,bridge,hard,\"'@SUM(1)\"\"\",'\t=3,'-2,wrong,flow,0.5,2,0,1,1,9,");
    const other = { values: new Map([["b", 0.5]]), differences: new Map([["b", -0.25]]) };
    expect(casesCsv(cases, Int32Array.of(1), 0, "flow", other).split("\r\n")[1]).toMatch(/,0\.5,-0\.25$/);
  });
});

describe("a long table", () => {
  it("draws the visible rows and a few more", () => {
    expect(inSight(0, 360, 36, 5000)).toEqual({ first: 0, last: 18 });
    expect(inSight(36_000, 360, 36, 5000)).toEqual({ first: 992, last: 1018 });
    expect(inSight(1e9, 360, 36, 5000)).toEqual({ first: 5000, last: 5000 });
    expect(inSight(500, 360, 36, 3)).toEqual({ first: 3, last: 3 });
  });

  it("scrolls only as far as a row needs", () => {
    expect(scrolledTo(5, 0, 360, 36)).toBe(0);
    expect(scrolledTo(10, 0, 360, 36)).toBe(36);
    expect(scrolledTo(2, 200, 360, 36)).toBe(72);
  });

  it("moves with the keys up to its ends", () => {
    expect(moved("ArrowDown", 4, 5, 3)).toBe(4);
    expect(moved("ArrowUp", 0, 5, 3)).toBe(0);
    expect(moved("PageDown", 0, 5, 3)).toBe(3);
    expect(moved("End", 0, 5, 3)).toBe(4);
    expect(moved("Home", 4, 5, 3)).toBe(0);
    expect(moved("x", 0, 5, 3)).toBeNull();
    expect(moved("End", 0, 0, 3)).toBeNull();
  });
});
