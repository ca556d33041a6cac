/** The flow views' part of a link: `f.tab=layer&f.heads=18.6,18.7` and so on. Heads and layers count from 0, as on the page. */
import type { Room } from "../../canvas/layout";
import type { Grain } from "../../canvas/WholeModel";
import type { Query } from "../../model/link";
import { MEASURES } from "./requests";
import type { Head, Measure } from "./requests";

export const TABS = ["whole", "heads", "layer", "trace", "matrix"] as const;
export type Tab = (typeof TABS)[number];

/** The drawn value of a cell of many tokens. */
export type Cells = "max" | "mean";
/** The thickest curve of a layer: the largest shown mass, or a token's whole attention. */
export type Relative = "largest" | "absolute";

/** Choices for the maximum number of nodes per layer in the picture of routes. */
export const NODES: readonly number[] = [6, 12, 24, 48];

/** All settings of the flow views beside those of the case. Heads and layers may exceed the model's. */
export interface FlowSettings {
  tab: Tab;
  /** Pieces and widths in the picture of the whole model. */
  grain: Grain;
  room: Room;
  /** The chosen heads, in this order. */
  heads: readonly Head[];
  /** The head that is shown if none is chosen; null for the strongest one. */
  lead: Head | null;
  /** The layer that is shown as a whole. */
  layer: number | null;
  /** The measure of the map's colours; null for mass with a selection and entropy without. */
  measure: Measure | null;
  relative: Relative;
  /** True if a layer's curves are multiplied by their head's weight in the run. */
  weighed: boolean;
  /** The one head of those shown that is not hidden; null for all. */
  only: Head | null;
  cells: Cells;
  /** Percentage of the flow that the routes keep, and maximum nodes per layer. */
  keep: number;
  nodes: number;
}

export const FLOW: FlowSettings = {
  tab: "whole", grain: "auto", room: "text", heads: [], lead: null, layer: null, measure: null, relative: "largest", weighed: false, only: null, cells: "max", keep: 90, nodes: 24,
};

export const LEAST_KEEP = 50, MOST_KEEP = 99;
const GRAINS: readonly Grain[] = ["document", "sentence", "token"];
const MOST_HEADS = 100; // limits the length of the address

const LAYER = /^\d{1,4}$/, HEAD = /^(\d{1,4})\.(\d{1,4})$/;

function headOf(text: string): Head | null {
  const found = HEAD.exec(text);
  return found && [Number(found[1]), Number(found[2])];
}

const nameOf = (head: Head | null): string | undefined => (head ? head.join(".") : undefined);

/** Read the flow views' keys from a query. Invalid values become the default. */
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

/** The flow views' keys for `amend`; undefined for default values. `decodeFlow` is the inverse. */
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
