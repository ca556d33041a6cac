import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { add, ofLocal, sources } from "../../src/open/sources";
import type { Comparison } from "../../src/run/compare";
import { Compare } from "../../src/run/Compare";
import type { Column, Digest, MethodRow } from "../../src/run/digest";
import { COLUMNS } from "../../src/run/digest";
import { Differences, inWords, Metrics } from "../../src/run/Metrics";
import { betterFalls, START, type TableState } from "../../src/run/table";

let root: HTMLElement;
beforeEach(() => {
  root = document.body.appendChild(document.createElement("div"));
});
afterEach(async () => {
  await act(() => render(null, root));
  root.remove();
});

describe("the comparison with another run", () => {
  const comparison: Comparison = {
    byCase: new Map([["a", -2], ["b", 1], ["c", -1]]),
    mean: { value: -0.667, low: -1.5, high: -0.1, n: 3 },
    higher: 1, same: 0, lower: 2, otherGold: 0, onlyFirst: 0, onlySecond: 0,
  };
  const onChange = vi.fn<(change: Partial<TableState>) => void>();
  const show = (change: Partial<TableState>) =>
    act(() => render(<Compare source="here" state={{ ...START, ...change }} other={null} otherMethod="" comparison={comparison} onChange={onChange} />, root));
  const press = (name: string) => act(() => [...root.querySelectorAll("button")].find((one) => one.textContent === name)!.click());

  beforeEach(() => {
    vi.clearAllMocks();
    sources.value = [];
    add([ofLocal({ kind: "list", name: "there", file: new File([], "there") })]);
  });

  it("starts with the best gain: the largest, or for ranks the most negative", async () => {
    const choose = async (change: Partial<TableState>) => {
      await show(change);
      const select = root.querySelector("select")!;
      select.value = sources.value[0]!.id;
      await act(() => void select.dispatchEvent(new Event("change", { bubbles: true })));
      return onChange.mock.lastCall![0];
    };
    expect(await choose({})).toMatchObject({ key: "difference", descending: true });
    expect(await choose({ measure: "first" })).toMatchObject({ key: "difference", descending: false });
    expect(await choose({ measure: "hit" })).toMatchObject({ key: "difference", descending: true });
  });

  it("keeps the best gain first for another measure, and keeps any other order", async () => {
    await show({ other: "there", key: "difference", descending: true });
    await press("First rank");
    expect(onChange).toHaveBeenLastCalledWith({ measure: "first", descending: false });
    await show({ other: "there", key: "difference", descending: false, measure: "first" });
    await press("AP");
    expect(onChange).toHaveBeenLastCalledWith({ measure: "ap", descending: true });
    await show({ other: "there", key: "difference", descending: false }); // worst first, chosen by the user
    await press("First rank");
    expect(onChange).toHaveBeenLastCalledWith({ measure: "first", descending: true });
    await press("hit@1");
    expect(onChange).toHaveBeenLastCalledWith({ measure: "hit" });
    await show({ other: "there", key: "question" });
    await press("First rank");
    expect(onChange).toHaveBeenLastCalledWith({ measure: "first" });
  });

  it("calls a lower rank better", async () => {
    await show({ other: "there", measure: "first" });
    expect(root.textContent).toContain("−0.67 (−1.50 to −0.10) over 3 cases, better. Case by case the other is better in 2, the same in 0, worse in 1.");
    await show({ other: "there", measure: "ap" });
    expect(root.textContent).toContain("−0.667 (−1.500 to −0.100) over 3 cases, worse. Case by case the other is better in 1, the same in 0, worse in 2.");
    expect([inWords({ value: 1, low: 0.1, high: 2, n: 3 }, true), inWords({ value: 1, low: -0.1, high: 2, n: 3 }, true)]).toEqual(["worse", "no clear difference"]);
  });
});

describe("the first order of a column", () => {
  it("is best first, also if lower is better", () => {
    const falls = (key: TableState["key"], measure: TableState["measure"]) => betterFalls(key, measure);
    expect([falls("difference", "ap"), falls("difference", "first"), falls("other", "hit"), falls("other", "first")]).toEqual([true, false, true, false]);
    expect([falls("ap", "first"), falls("first", "ap"), falls("question", "ap")]).toEqual([true, false, false]);
  });
});

describe("metrics", () => {
  const less = COLUMNS.find((column) => column.less)!;
  const more = COLUMNS.find((column) => !column.less && column.key !== "ap")!;
  const interval = (value: number | null, n: number) => ({ value, low: null, high: null, n });

  it("show n for each number, even a missing one", async () => {
    const row: MethodRow = { name: "flow", aggregation: "sum", values: new Map([["ap", interval(0.5, 40)], [more.key, interval(null, 0)]]) };
    await act(() => render(<Metrics digest={null} rows={[row]} unit="sentence" method="flow" onMethod={() => undefined} />, root));
    expect([...root.querySelectorAll("tbody td[title]")].map((cell) => (cell as HTMLElement).title).sort()).toEqual(["n = 0", "n = 40"]);
  });

  it("list the best difference first, in both directions", async () => {
    const rows = [interval(0.5, 9), interval(-0.5, 9), interval(null, 0)].map((one, i) => ({ ...one, other: `m${i}` }));
    const digest = (column: Column) => ({ differences: (_: string, key: string) => (key === column.key ? [...rows] : []) }) as unknown as Digest;
    const order = async (column: Column) => {
      await act(() => render(<Differences digest={digest(column)} method="flow" />, root));
      return [...root.querySelectorAll("tbody th")].map((cell) => cell.textContent);
    };
    expect(await order(more)).toEqual(["m0", "m1", "m2"]);
    expect(await order(less)).toEqual(["m1", "m0", "m2"]);
  });
});
