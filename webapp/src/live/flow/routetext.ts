/** Routes and their steps as text. */
import type { Network, TraceEdge } from "../../canvas/routes";
import { nodeText, readText } from "../../canvas/trace";
import { showShare } from "../../model/scale";
import type { View } from "../../model/types";

/** The heads of a step with their shares of it, "head 12.3 (81.0%), head 12.0 (9.1%)". */
export function headsText(network: Network, step: TraceEdge, most = 4): string {
  const layer = network.layerBelow(network.levelOf.get(step.from) ?? 0);
  return step.heads.slice(0, most).map(([head, share]) => `head ${layer}.${head} (${showShare(share)})`).join(", ");
}

/** A route as text, from the answer to the prompt. Layers in which it stays at its token are left out. */
export function routeText(view: View, network: Network, route: readonly number[]): string {
  const text = (id: number) => `“${nodeText(view, network, id)}”`;
  const first = network.node.get(route[0]);
  let told = text(route[0]);
  if (first && first.row !== null) told += ` (written after “${readText(view, first)}”)`;
  let moved = false;
  for (let i = 1; i < route.length; i++) {
    const from = route[i - 1], to = route[i];
    if (network.node.get(from)?.position === network.node.get(to)?.position) continue;
    moved = true;
    const layer = network.layerBelow(i - 1), head = network.step(from, to)?.heads[0]?.[0];
    const by = head === undefined ? `layer ${layer}` : `head ${layer}.${head}`;
    told += `  ← ${by} ←  ${text(to)}`;
  }
  return moved ? told : `${told} stays where it is`;
}
