/** The flow views' part of a link: `f.tab=layer&f.heads=18.6,18.7` and so on; heads and layers count from 0, as on the page. */
import type { Room } from "../../canvas/layout";
import type { Grain } from "../../canvas/WholeModel";
import type { Query } from "../../model/link";
import { MEASURES } from "./requests";
import type { Head, Measure } from "./requests";

export const TABS = ["whole", "heads", "layer", "trace", "matrix"] as const;
export type Tab = (typeof TABS)[number];

/** What is drawn of a cell of many tokens. */
export type Cells = "max" | "mean";
/** What the thickest curve of a layer is: the largest that is shown, or all of a token's attention. */
export type Relative = "largest" | "absolute";

/** How many nodes a layer may have in the picture of the routes. */
export const NODES: readonly number[] = [6, 12, 24, 48];

/** All that the flow views' pictures depend on beside the case's own settings. Heads and layers may be more than the model has. */
export interface FlowSettings {
  tab: Tab;
  /** Of the whole model: its pieces, and what has room. */
  grain: Grain;
  room: Room;
  /** The heads that were chosen, in this order. */
  heads: readonly Head[];
  /** The head that is shown where none was chosen; null: the one that counts most for the rows. */
  lead: Head | null;
  /** The layer that is shown as a whole. */
  layer: number | null;
  /** What the map's colours show; null: what suits the selection. */
  measure: Measure | null;
  relative: Relative;
  /** Whether a layer's curves are times their head's weight in the run. */
  weighed: boolean;
  /** The head of a layer, or of several, that is shown alone. */
  only: Head | null;
  cells: Cells;
  /** Per cent of the flow that the routes keep, and nodes a layer. */
  keep: number;
  nodes: number;
}

export const FLOW: FlowSettings = {
  tab: "whole", grain: "auto", room: "text", heads: [], lead: null, layer: null, measure: null, relative: "largest", weighed: false, only: null, cells: "max", keep: 90, nodes: 24,
};

export const LEAST_KEEP = 50, MOST_KEEP = 99;
const GRAINS: readonly Grain[] = ["document", "sentence", "token"];
const MOST_HEADS = 100; // the address has room for

const LAYER = /^\d{1,4}$/, HEAD = /^(\d{1,4})\.(\d{1,4})$/;

function headOf(text: string): Head | null {
  const found = HEAD.exec(text);
  return found && [Number(found[1]), Number(found[2])];
}

const nameOf = (head: Head | null): string | undefined => (head ? head.join(".") : undefined);

/** Read the flow views' keys from a query. What makes no sense is what it is by default. */
export function decodeFlow(query: Query): FlowSettings {
  const get = (key: string): string => query[`f.${key}`] ?? "";
  const heads = new Map<string, Head>();
  for (const text of get("heads").split(",").slice(0, MOST_HEADS)) {
    const head = headOf(text);
    if (head) heads.set(head.join(), head);
  }
  const keep = /^\d\d$/.test(get("keep")) ? Number(get("keep")) : FLOW.keep;
  return {
    tab: TABS.find((tab) => tab === get("tab")) ?? FLOW.tab,
    grain: GRAINS.find((grain) => grain === get("grain")) ?? FLOW.grain,
    room: get("room") === "mass" ? "mass" : "text",
    heads: [...heads.values()],
    lead: headOf(get("head")),
    layer: LAYER.test(get("layer")) ? Number(get("layer")) : null,
    measure: MEASURES.find((measure) => measure === get("measure")) ?? null,
    relative: get("relative") === "absolute" ? "absolute" : "largest",
    weighed: get("weighed") === "yes",
    only: headOf(get("only")),
    cells: get("cells") === "mean" ? "mean" : "max",
    keep: Math.min(MOST_KEEP, Math.max(LEAST_KEEP, keep)),
    nodes: NODES.find((nodes) => String(nodes) === get("nodes")) ?? FLOW.nodes,
  };
}

/** The flow views' keys for `amend`: undefined for what is as by default. `decodeFlow` reads them back. */
export function encodeFlow(s: FlowSettings): Record<string, string | undefined> {
  const other = <K extends keyof FlowSettings>(key: K): string | undefined => (s[key] === FLOW[key] ? undefined : String(s[key]));
  return {
    "f.tab": other("tab"),
    "f.grain": other("grain"),
    "f.room": other("room"),
    "f.heads": s.heads.slice(0, MOST_HEADS).map(nameOf).join(",") || undefined,
    "f.head": nameOf(s.lead),
    "f.layer": other("layer"),
    "f.measure": other("measure"),
    "f.relative": other("relative"),
    "f.weighed": s.weighed ? "yes" : undefined,
    "f.only": nameOf(s.only),
    "f.cells": other("cells"),
    "f.keep": other("keep"),
    "f.nodes": other("nodes"),
  };
}
