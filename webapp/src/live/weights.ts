/** Labels of the presets of head weights, in the order of the list: the most useful first. */

import type { WeightsName } from "./types";

interface Labels {
  /** The label in the list of choices. */
  choice: string;
  /** The label in the list of runs. */
  short: string;
}

/** The names come from attributor/_heads/presets.py through the server's OpenAPI description; a missing one is a type error. */
export const WEIGHTS: Record<WeightsName, Labels> = {
  retrieval: { choice: "retrieval heads (attend to the evidence)", short: "retrieval heads" },
  mean: { choice: "all heads equally (the definition)", short: "all heads" },
  output_norm: { choice: "all heads, by the norm of their output", short: "heads by norm" },
};

export const WEIGHTS_NAMES = Object.keys(WEIGHTS) as WeightsName[];

/** True if a name is that of a preset. */
export function isWeightsName(name: unknown): name is WeightsName {
  return WEIGHTS_NAMES.some((one) => one === name);
}
