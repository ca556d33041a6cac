/** Routes and their steps in words. */
import type { Network, TraceEdge } from "../../canvas/routes";
import { nodeText } from "../../canvas/trace";
import { percent } from "../../model/scale";
import type { View } from "../../model/types";

/** The heads of a step with their shares of it, "head 12.3 (81.0%), head 12.0 (9.1%)". */
export function headsText(network: Network, step: TraceEdge, most = 4): string {
  const layer = network.layerBelow(network.levelOf.get(step.from) ?? 0), name = (head: number) => (layer === null ? `${head}` : `${layer}.${head}`);
  return step.heads.slice(0, most).map(([head, share]) => `head ${name(head)} (${percent(share)})`).join(", ");
}

/** A route in words, from the answer to the prompt. Where it stays at one token for several layers is not told. */
export function routeText(view: View, network: Network, route: readonly number[]): string {
  const text = (id: number) => {
    const node = network.node.get(id);
    return node ? `“${nodeText(view, node)}”` : "?";
  };
  let told = text(route[0]);
  for (let i = 1; i < route.length; i++) {
    const from = route[i - 1], to = route[i];
    if (network.node.get(from)?.position === network.node.get(to)?.position) continue;
    const step = network.step(from, to), layer = network.layerBelow(i - 1), head = step?.heads[0]?.[0];
    const by = head === undefined ? (layer === null ? "attention" : `layer ${layer}`) : layer === null ? `head ${head}` : `head ${layer}.${head}`;
    told += `  ← ${by} ←  ${text(to)}`;
  }
  return told;
}
