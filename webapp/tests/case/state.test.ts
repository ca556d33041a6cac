import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Latest, RowCache } from "../../src/case/rows";
import { CaseState } from "../../src/case/state";
import { navigate, place } from "../../src/model/link";
import { UserError, type Variant } from "../../src/model/types";
import { plainView, rowScores, settled, smallSource, smallView } from "./synthetic";

const HERE = { page: "case", source: "s", id: "c" } as const;
let state: CaseState;

async function open(query: Record<string, string>, source = smallSource(), more: Variant[] = []): Promise<CaseState> {
  navigate(HERE, { query });
  state = await CaseState.open({ id: "c", variants: [{ name: "flow", label: "flow", source }, ...more] }, place.value.query);
  return state;
}

beforeEach(() => navigate({ page: "home" }));
afterEach(() => state?.dispose());

describe("rows", () => {
  it("the whole answer needs no fetch; a pinned row is fetched once", async () => {
    const source = smallSource();
    const it = await open({}, source);
    expect(it.row.value.rows).toEqual({ start: 0, stop: 3 });
    await settled(40);
    expect(source.calls.rows).toEqual([]);
    it.pin({ start: 1, stop: 2 });
    await settled(10);
    expect([...it.row.value.scores]).toEqual([...rowScores(1)]);
    expect(it.row.value.onAnswer).toBeCloseTo(0.125);
    it.pin(null);
    it.preview.value = { start: 1, stop: 2 };
    await settled(40);
    expect(it.row.value.rows).toEqual({ start: 1, stop: 2 });
    expect(source.calls.rows).toEqual([{ start: 1, stop: 2 }]);
  });

  it("a pointer that crosses the answer fetches the last token only", async () => {
    const source = smallSource();
    const it = await open({}, source);
    for (const start of [0, 1, 2]) it.preview.value = { start, stop: start + 1 };
    await settled(40);
    expect(source.calls.rows).toEqual([{ start: 2, stop: 3 }]);
  });

  it("a late response does not replace a newer one", async () => {
    const source = smallSource({ hold: true });
    const it = await open({}, source);
    it.pin({ start: 0, stop: 1 });
    await settled(10);
    it.pin({ start: 1, stop: 2 });
    await settled(10);
    it.pin({ start: 2, stop: 3 });
    await settled(10);
    await source.release(); // the first; the second was dropped, the third is requested
    expect(it.row.value.rows).toEqual({ start: 0, stop: 3 });
    await source.release();
    expect(it.row.value.rows).toEqual({ start: 2, stop: 3 });
    expect(source.calls.rows.map((r) => r.start)).toEqual([0, 2]);
  });

  it("an error is shown until the next row arrives", async () => {
    const it = await open({}, smallSource({ fail: true }));
    it.pin({ start: 0, stop: 1 });
    await settled(10);
    expect(it.error.value).toBe("The run is gone: start it again.");
    it.pin(null);
    expect(it.error.value).toBeNull();
  });

  it("pinning all rows pins none", async () => {
    const it = await open({});
    it.pin({ start: 0, stop: 3 });
    expect(it.pinned.value).toBeNull();
  });
});

describe("from input to answer", () => {
  it("selecting an input fetches the amount that each row took from its units", async () => {
    const source = smallSource();
    const it = await open({}, source);
    it.select({ by: "sentence", index: 1 });
    await settled(10);
    expect(source.calls.received).toEqual([{ start: 3, stop: 5 }]);
    expect([...it.received.value!]).toEqual([0.5, 0.25, 0]);
    it.select(null);
    expect(it.received.value).toBeNull();
  });

  it("resting the pointer on an input does the same, and leaving returns to the selection", async () => {
    const source = smallSource();
    const it = await open({ in: "s2" }, source);
    await settled(10);
    it.hovered.value = { by: "token", index: 2 };
    await settled(20);
    expect(source.calls.received).toHaveLength(1);
    await settled(180);
    it.hovered.value = null;
    await settled(20);
    expect(source.calls.received).toEqual([{ start: 3, stop: 5 }, { start: 2, stop: 3 }, { start: 3, stop: 5 }]);
  });
});

describe("from input to answer without the first token", () => {
  const takes = (source: ReturnType<typeof smallSource>): typeof source => ({
    ...source,
    received: (units) => {
      source.calls.received.push(units);
      return Promise.resolve(Float32Array.from(units.stop === 1 ? [0.375, 0.25, 0.625] : [0.25, 0.125, 0]));
    },
  });

  it("is a share of the remainder, as in the bars, and 0 for a row without one", async () => {
    const source = takes(smallSource({ view: plainView() }));
    const it = await open({ in: "s2", sink: "hide" }, source);
    await settled(10);
    expect([...it.received.value!]).toEqual([0.5, 0.25, 0]);
    it.hideSink.value = false;
    await settled(10);
    expect([...it.received.value!]).toEqual([0.25 / 0.875, 0.125 / 0.75, 0].map(Math.fround));
    it.hideSink.value = true;
    await settled(10);
    expect([...it.received.value!]).toEqual([0.5, 0.25, 0]);
    expect(source.calls.received.filter(({ stop }) => stop === 1)).toHaveLength(1);
  });

  it("leaves the first token out of an input that contains it", async () => {
    const it = await open({ in: "t1", sink: "hide", by: "token" }, takes(smallSource({ view: plainView() })));
    await settled(10);
    expect([...it.received.value!]).toEqual([0, 0, 0]);
  });

  it("leaves nothing out with documents, as the first token then has no share", async () => {
    const source = smallSource();
    const it = await open({ in: "s2", sink: "hide" }, source);
    await settled(10);
    expect([...it.received.value!]).toEqual([0.5, 0.25, 0]);
    expect(source.calls.received).toEqual([{ start: 3, stop: 5 }]);
  });
});

describe("the link", () => {
  it("sets the picture", async () => {
    const it = await open({ rows: "2", in: "d1", by: "token", k: "3", sink: "hide", scale: "log", colour: "global" });
    expect([it.pinned.value, it.selected.value, it.by.value, it.k.value, it.hideSink.value, it.scale.value, it.normalise.value]).toEqual([
      { start: 1, stop: 2 }, { by: "document", index: 0 }, "token", 3, true, "log", "global",
    ]);
  });

  it("is fitted to the case", async () => {
    const it = await open({ rows: "3-900", in: "s77", method: "unknown" });
    expect([it.pinned.value, it.selected.value, it.variant.value.name]).toEqual([{ start: 2, stop: 3 }, null, "flow"]);
    it.dispose();
    const other = await open({ rows: "8" });
    expect(other.pinned.value).toBeNull();
  });

  it("follows the choices, and keeps other keys", async () => {
    const it = await open({ view: "heads" });
    it.pin({ start: 0, stop: 2 });
    it.select({ by: "token", index: 4 });
    it.k.value = 2;
    await settled(250);
    expect(place.value.query).toEqual({ view: "heads", rows: "1-2", in: "t5", k: "2" });
    it.pin(null);
    await settled(250);
    expect(place.value.query).toEqual({ view: "heads", in: "t5", k: "2" });
  });

  it("is followed when another part changes it", async () => {
    const it = await open({});
    navigate(HERE, { query: { rows: "2", by: "document" } });
    expect([it.pinned.value, it.by.value]).toEqual([{ start: 1, stop: 2 }, "document"]);
  });

  it("of another page is not changed", async () => {
    const it = await open({ by: "token" });
    it.pin({ start: 1, stop: 2 });
    navigate({ page: "home" });
    await settled(250);
    expect(place.value.query).toEqual({});
    expect(it.by.value).toBe("token");
  });
});

describe("variants", () => {
  it("another method has its own view; pinned rows stay if it has them", async () => {
    const one = smallSource({ view: smallView({ answer: ["all of it"], kind: "piece", onAnswer: null, missing: null, normalized: false, sink: false }) });
    const it = await open({ rows: "2", in: "s2" }, smallSource(), [{ name: "mean", label: "mean", source: one }]);
    it.use(it.case.variants[1]!);
    await settled(10);
    expect([it.variant.value.name, it.pinned.value, it.selected.value]).toEqual(["mean", null, { by: "sentence", index: 1 }]);
    expect(it.row.value.scores).toBe(it.view.value.total);
    await settled(250);
    expect(place.value.query).toEqual({ in: "s2", method: "mean" });
    navigate(HERE, { query: { rows: "3", k: "2" } }); // a link to the first method, in the same tab
    await settled(10);
    expect([it.variant.value.name, it.pinned.value, it.selected.value, it.k.value]).toEqual(["flow", { start: 2, stop: 3 }, null, 2]);
  });
});

describe("a method that loads slowly", () => {
  const late = (): { variant: Variant; come: () => void; fail: () => void } => {
    const source = smallSource({ view: smallView({ answer: ["all of it"] }) });
    let come = (): void => {};
    let fail = (): void => {};
    const view = new Promise<void>((done, refuse) => {
      come = () => done();
      fail = () => refuse(new UserError("The file is gone."));
    }).then(() => source.view());
    return { variant: { name: "late", label: "late", source: { ...source, view: () => view } }, come: () => come(), fail: () => fail() };
  };

  it("does not replace a method chosen later, by hand or by the link", async () => {
    const { variant, come } = late();
    const it = await open({}, smallSource(), [variant]);
    it.use(variant);
    it.use(it.case.variants[0]!);
    it.use(variant);
    navigate(HERE, { query: { k: "3" } });
    come();
    await settled(10);
    expect([it.variant.value.name, it.k.value]).toEqual(["flow", 3]);
    it.use(variant);
    await settled(10);
    expect(it.variant.value.name).toBe("late");
  });

  it("shows its failure only while it is the chosen method", async () => {
    const { variant, fail } = late();
    const it = await open({}, smallSource(), [variant]);
    it.use(variant);
    it.use(it.case.variants[0]!);
    fail();
    await settled(10);
    expect(it.error.value).toBeNull();
    it.use(variant);
    await settled(10);
    expect([it.error.value, it.coming.value]).toEqual(["The file is gone.", null]);
    it.use(it.case.variants[0]!);
    expect(it.error.value).toBeNull();
  });
});

describe("colours", () => {
  it("are relative to the pinned rows or to the whole answer", async () => {
    const it = await open({ rows: "1" });
    await settled(10);
    expect(it.heat.value.largest).toBeCloseTo(0.25 / 0.375);
    it.preview.value = { start: 2, stop: 3 };
    await settled(40);
    expect(it.heat.value.largest).toBeCloseTo(1);
    it.normalise.value = "selection";
    expect(it.heat.value.largest).toBeCloseTo(0.25 / 0.375);
    it.normalise.value = "global";
    expect(it.heat.value.largest).toBeCloseTo((0.1875 + 0.125) / 3 / 0.25);
  });
});

describe("caches", () => {
  it("keep the most recently used entries within their size", () => {
    const cache = new RowCache(100);
    const at = (start: number) => ({ start, stop: start + 1 });
    for (const start of [0, 1, 2]) cache.set(at(start), new Float32Array(8)); // 32 bytes each
    cache.get(at(0));
    cache.set(at(3), new Float32Array(8));
    expect([0, 1, 2, 3].map((start) => cache.get(at(start)) !== undefined)).toEqual([true, false, true, true]);
    cache.set(at(9), new Float32Array(1000)); // larger than the limit: kept while it is the newest
    expect(cache.get(at(9))).toBeDefined();
  });

  it("Latest replaces a waiting task by a newer one", async () => {
    const latest = new Latest();
    const ran: number[] = [];
    let go = (): void => {};
    latest.run(() => new Promise((done) => (go = () => (ran.push(0), done()))));
    for (const i of [1, 2, 3]) latest.run(async () => void ran.push(i));
    go();
    await settled();
    expect(ran).toEqual([0, 3]);
  });
});
