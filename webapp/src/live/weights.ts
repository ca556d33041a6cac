/** What the page calls the presets of head weights, in the order of its list: the most telling first. */

import type { WeightsName } from "./types";

interface Labels {
  /** In the list to choose from. */
  choice: string;
  /** Beside a run. */
  short: string;
}

/** The names come from attributor/_heads/presets.py through the server's OpenAPI description; a missing one is a type error. */
export const WEIGHTS: Record<WeightsName, Labels> = {
  retrieval: { choice: "retrieval heads (look facts up)", short: "retrieval heads" },
  mean: { choice: "all heads alike (the definition)", short: "all heads" },
  output_norm: { choice: "heads by their output's norm", short: "heads by norm" },
};

export const WEIGHTS_NAMES = Object.keys(WEIGHTS) as WeightsName[];

/** Whether a name is that of a preset. */
export function isWeightsName(name: unknown): name is WeightsName {
  return WEIGHTS_NAMES.some((one) => one === name);
}
