/** The address of the current picture, in the URL's hash. A copied link shows the same picture.
 *
 *     #/   #/run/<source>   #/run/<source>/case/<id>   #/flow/<id>   #/live   #/live/<run>     each with ?key=value&...
 *
 * Owners of the query's keys:
 *     the case, on its own page, in `#/flow` and in `#/live`     by, rows, in, method, colour, scale, sink, k     (`Settings`, below)
 *     the table of a run, passed to its cases and back           t.sort, t.find, t.with ...                       (run/table.ts)
 *     the flow views below a live run                            f.tab, f.heads=18.6,18.7, f.layer, f.measure ... (live/flow/link.ts)
 * `amend` changes some keys and keeps the others. Invalid values become the default.
 *
 * Users and other programs may write a hash too, so `parse` returns a valid place for any text.
 */
import { batch, type ReadonlySignal, signal } from "@preact/signals";
import { type Scale, SCALES } from "./scale";
import type { Piece } from "./shares";
import type { By, Span } from "./types";

export type Route =
  | { page: "home" }
  | { page: "run"; source: string }
  | { page: "case"; source: string; id: string }
  | { page: "flow"; flow: string }
  | { page: "live"; run: string | null };

export type Query = Readonly<Record<string, string>>;

/** A route and its query. Each page owns some keys of the query and leaves the others as they are. */
export interface Place {
  route: Route;
  query: Query;
}

const LONGEST = 2_000; // characters of a hash that are read
const HOME: Route = { page: "home" };

/** Read a hash, with or without its "#". Unknown paths are home; unknown query keys are kept. */
export function parse(hash: string): Place {
  const text = hash.replace(/^#/, "").slice(0, LONGEST);
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const query: Record<string, string> = Object.create(null) as Record<string, string>;
  if (cut >= 0) for (const [key, value] of new URLSearchParams(text.slice(cut + 1))) query[key] ??= value;
  return { route: parsePath(path), query };
}

function parsePath(path: string): Route {
  const parts = path.split("/").map(decode);
  if (parts.includes(null) || parts[0] !== "") return HOME;
  const [, page, one, third, two, more] = parts as string[];
  if (more !== undefined) return HOME;
  if (page === "run" && one && third === undefined) return { page: "run", source: one };
  if (page === "run" && one && third === "case" && two) return { page: "case", source: one, id: two };
  if (page === "flow" && one && third === undefined) return { page: "flow", flow: one };
  if (page === "live" && third === undefined) return { page: "live", run: one || null };
  return HOME;
}

function decode(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null; // a "%" that starts no escape
  }
}

/** The hash of a place, with its "#"; `parse(format(route, query))` is the same place. */
export function format(route: Route, query: Query = {}): string {
  const e = (part: string): string => encodeURIComponent(part.replace(/[\ud800-\udfff]/gu, "\ufffd")); // half a surrogate pair would throw
  let path = "#/";
  if (route.page === "run") path = `#/run/${e(route.source)}`;
  else if (route.page === "case") path = `#/run/${e(route.source)}/case/${e(route.id)}`;
  else if (route.page === "flow") path = `#/flow/${e(route.flow)}`;
  else if (route.page === "live") path = route.run === null ? "#/live" : `#/live/${e(route.run)}`;
  const search = new URLSearchParams(query).toString().replaceAll("%2C", ","); // keeps lists readable; a comma has no meaning in a query
  return search ? `${path}?${search}` : path;
}

const current = signal<Place>(typeof location === "undefined" ? { route: HOME, query: {} } : parse(location.hash));

/** The current place. Follows the address bar, the back button and `navigate`. */
export const place: ReadonlySignal<Place> = current;

const currentRoute = signal<Route>(current.value.route);

/** The current route. It does not change with the query. */
export const route: ReadonlySignal<Route> = currentRoute;

function arrive(next: Place): void {
  batch(() => {
    current.value = next;
    if (format(next.route) !== format(currentRoute.value)) currentRoute.value = next.route;
  });
}

if (typeof addEventListener === "function") addEventListener("hashchange", () => arrive(parse(location.hash)));

/** Go to a route. `replace` adds no step to the history: for the settings of a view, not for a new page. */
export function navigate(to: Route, { query = {}, replace = false }: { query?: Query; replace?: boolean } = {}): void {
  const hash = format(to, query);
  if (hash !== location.hash) {
    try {
      history[replace ? "replaceState" : "pushState"](null, "", hash);
    } catch {
      // a sandboxed frame (a notebook) has no history: the page works without the address
    }
  }
  arrive(parse(hash));
}

/** Change some keys of the query in place; undefined removes a key. */
export function amend(changes: Readonly<Record<string, string | undefined>>): void {
  const query: Record<string, string> = { ...current.value.query };
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) delete query[key];
    else query[key] = value;
  }
  navigate(current.value.route, { query, replace: true });
}

/** The settings of a case in a link. Rows and pieces may exceed those of the case. */
export interface Settings {
  /** null: the default of the case. */
  by: By | null;
  /** The pinned rows; null: the whole answer. */
  rows: Span | null;
  /** The selected input. */
  piece: Piece | null;
  /** Name of the variant; null: the first. */
  method: string | null;
  normalise: Normalise;
  scale: Scale;
  hideSink: boolean;
  /** Number of pieces for precision and recall. */
  k: number;
}

/** The rows whose largest piece gets the strongest colour: the shown rows, the pinned rows, or the whole answer. */
export type Normalise = "row" | "selection" | "global";
export const NORMALISES: readonly Normalise[] = ["row", "selection", "global"];

export const DEFAULTS: Settings = { by: null, rows: null, piece: null, method: null, normalise: "row", scale: "linear", hideSink: false, k: 5 };
export const MOST_K = 1000;

const LETTERS = { d: "document", s: "sentence", t: "token" } as const;

/** Read the keys of a case from a query. Invalid values become the default. Numbers count from 1, as on the page. */
export function decodeSettings(query: Query): Settings {
  const rows = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(query.rows ?? "");
  const start = rows ? Number(rows[1]) - 1 : -1;
  const stop = rows ? Number(rows[2] ?? rows[1]) : 0;
  const piece = /^([dst])([1-9]\d{0,8})$/.exec(query.in ?? "");
  const k = /^\d{1,6}$/.test(query.k ?? "") ? Number(query.k) : DEFAULTS.k;
  return {
    by: (Object.values(LETTERS) as string[]).includes(query.by ?? "") ? (query.by as By) : null,
    rows: start >= 0 && stop > start ? { start, stop } : null,
    piece: piece ? { by: LETTERS[piece[1] as keyof typeof LETTERS], index: Number(piece[2]) - 1 } : null,
    method: query.method || null,
    normalise: NORMALISES.find((name) => name === query.colour) ?? DEFAULTS.normalise,
    scale: SCALES.find((name) => name === query.scale) ?? DEFAULTS.scale,
    hideSink: query.sink === "hide",
    k: Math.min(MOST_K, Math.max(1, k)),
  };
}

/** The keys of a case for `amend`; undefined for default values. `decodeSettings` is the inverse. */
export function encodeSettings(s: Settings): Record<string, string | undefined> {
  const { rows, piece } = s;
  return {
    by: s.by ?? undefined,
    rows: rows ? (rows.stop - rows.start > 1 ? `${rows.start + 1}-${rows.stop}` : `${rows.start + 1}`) : undefined,
    in: piece ? `${piece.by[0]}${piece.index + 1}` : undefined,
    method: s.method ?? undefined,
    colour: s.normalise === DEFAULTS.normalise ? undefined : s.normalise,
    scale: s.scale === DEFAULTS.scale ? undefined : s.scale,
    sink: s.hideSink ? "hide" : undefined,
    k: s.k === DEFAULTS.k ? undefined : String(s.k),
  };
}
