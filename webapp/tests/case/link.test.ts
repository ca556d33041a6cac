import { beforeEach, describe, expect, it } from "vitest";
import { amend, DEFAULTS, decodeSettings, encodeSettings, format, navigate, parse, place, type Query, type Route, route, type Settings } from "../../src/model/link";

const routes: Route[] = [
  { page: "home" },
  { page: "run", source: "a b/ü%?#&" },
  { page: "case", source: "s", id: "x/y?z=1#2" },
  { page: "flow", flow: "f-1" },
  { page: "live", run: null },
  { page: "live", run: "r/1" },
];

describe("routes", () => {
  it.each(routes)("survive the hash: %j", (to) => {
    expect(parse(format(to, { by: "token", q: "a&b=c #?%" }))).toEqual({ route: to, query: { by: "token", q: "a&b=c #?%" } });
  });

  it.each(["", "#", "#/", "#?x=1", "#/nowhere", "#/run", "#/run/", "#/run/a/b", "#/run/a/case", "#/run/a/case/", "#/run/a/case/b/c", "#/flow/", "#/flow/%", "#/%E0%A4%A", "#//run/a", "#" + "/".repeat(5000)])(
    "nonsense is home: %s",
    (hash) => expect(parse(hash).route).toEqual({ page: "home" }),
  );

  it("names of the object prototype are ordinary keys", () => {
    const { query } = parse("#/?__proto__=1&constructor=2&a=1&a=2");
    expect(query.a).toBe("1");
    expect(Object.keys(query).sort()).toEqual(["__proto__", "a", "constructor"]);
    expect(parse("#/").query.constructor).toBeUndefined();
  });

  it("half a surrogate pair in an id does not throw", () => {
    expect(format({ page: "flow", flow: "a\ud800" })).toBe("#/flow/a%EF%BF%BD");
  });
});

describe("navigate", () => {
  beforeEach(() => navigate({ page: "home" }));

  it("sets the hash and the signals; the route signal changes only with the route", () => {
    navigate({ page: "flow", flow: "f" }, { query: { by: "token" } });
    expect(location.hash).toBe("#/flow/f?by=token");
    expect(route.value).toEqual({ page: "flow", flow: "f" });
    const before = route.value;
    amend({ by: undefined, k: "3" });
    expect(place.value.query).toEqual({ k: "3" });
    expect(route.value).toBe(before);
  });

  it("keeps the keys of other parts", () => {
    navigate({ page: "live", run: "r" }, { query: { view: "heads", by: "token" } });
    amend(encodeSettings({ ...DEFAULTS, k: 7 }));
    expect(place.value.query).toEqual({ view: "heads", k: "7" });
  });

  it("works without a usable history", () => {
    const { replaceState } = history;
    history.replaceState = () => {
      throw new DOMException("sandboxed", "SecurityError");
    };
    amend({ k: "9" });
    history.replaceState = replaceState;
    expect(place.value.query.k).toBe("9");
  });

  it("follows the address bar", async () => {
    location.hash = "#/live/r?k=2";
    dispatchEvent(new Event("hashchange"));
    expect(route.value).toEqual({ page: "live", run: "r" });
  });
});

describe("settings", () => {
  const all: Settings = {
    by: "document", rows: { start: 2, stop: 9 }, piece: { by: "sentence", index: 11 }, method: "flow · x", normalise: "global", scale: "rank", hideSink: true, k: 12,
  };
  const written = (s: Settings): Query => Object.fromEntries(Object.entries(encodeSettings(s)).filter((e): e is [string, string] => e[1] !== undefined));

  it.each([all, DEFAULTS, { ...all, rows: { start: 0, stop: 1 }, piece: { by: "token" as const, index: 0 } }])("survive the query", (settings) => {
    expect(decodeSettings(parse(format({ page: "home" }, written(settings))).query)).toEqual(settings);
  });

  it("with default values are left out", () => expect(written(DEFAULTS)).toEqual({}));

  it.each([
    { rows: "0" }, { rows: "5-2" }, { rows: "-3" }, { rows: "1e3" }, { rows: "99999999999999" }, { in: "x3" }, { in: "s0" }, { in: "s" }, { in: "s-1" }, { by: "toString" }, { scale: "cube" },
    { colour: "" }, { sink: "yes" }, { k: "many" }, { k: "1.5" }, { k: "-1" },
  ] as Query[])("nonsense is the default: %j", (query) => expect(decodeSettings(query)).toEqual(DEFAULTS));

  it("k is bounded", () => expect([decodeSettings({ k: "0" }).k, decodeSettings({ k: "999999" }).k]).toEqual([1, 1000]));
});
