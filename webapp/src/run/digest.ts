/** The content of run.json, ready to show: metrics by method with n and interval, differences, settings, versions. */

import { visible } from "../model/text";
import type { Interval } from "./compare";
import { isObject, number, told } from "./summary";
import type { Json } from "./summary";

/** A column of the table of metrics. */
export interface Column {
  key: string;
  label: string;
  /** Its meaning, shown as a tooltip. */
  means: string;
  /** True if lower is better: ranks and costs. */
  less: boolean;
  group: "evidence" | "faithfulness" | "cost";
  /** Digits after the decimal point. */
  digits: number;
}

function column(key: string, label: string, means: string, group: Column["group"] = "evidence", digits = 3, less = false): Column {
  return { key, label, means, group, digits, less };
}

const AT = [1, 3, 5, 10];

/** Every metric that a run may have, in the order in which they are shown. */
export const COLUMNS: readonly Column[] = [
  column("ap", "AP", "average precision: the mean over the gold pieces of the precision at their rank"),
  column("auroc", "AUROC", "how often a gold piece ranks above a piece that is not gold"),
  column("mrr", "MRR", "the mean of 1 / rank of the first gold piece"),
  column("first_is_gold", "first is gold", "how often the highest piece is gold"),
  column("r_precision", "R-precision", "the part of the first G pieces that is gold, where G pieces are gold"),
  column("first_rank", "first rank", "the mean rank of the first gold piece", "evidence", 1, true),
  ...AT.map((k) => column(`recall@${k}`, `recall@${k}`, `the part of the gold pieces that is among the first ${k}`)),
  ...AT.slice(1).map((k) => column(`precision@${k}`, `precision@${k}`, `the part of the first ${k} pieces that is gold`)),
  ...AT.map((k) => column(`full_support@${k}`, `full support@${k}`, `how often all gold pieces are among the first ${k}`)),
  column("lds", "LDS", "how well sums of scores predict the answer's probability when pieces are left out", "faithfulness"),
  ...[1, 3, 5].map((k) =>
    column(`drop@${k}`, `drop@${k}`, `the log-probability that the answer loses without the ${k} highest pieces`, "faithfulness", 2),
  ),
  column("seconds", "seconds", "seconds per case of the method itself", "cost", 3, true),
  column("seconds_with_read", "with reading", "seconds per case, with the shared forward pass", "cost", 2, true),
  column("forwards", "forwards", "the same in multiples of one plain forward pass", "cost", 2, true),
  column("passes", "passes", "extra forward passes of the method per case", "cost", 1, true),
];

/** The columns that the table shows at first. */
export const MAIN_COLUMNS = new Set(["ap", "auroc", "mrr", "recall@5", "full_support@5", "lds", "drop@3", "seconds_with_read"]);

/** A selection of a run's numbers. */
export interface Slice {
  unit: "sentence" | "document";
  stratum: string;
}

/** The numbers of one method. */
export interface MethodRow {
  name: string;
  aggregation: string;
  values: Map<string, Interval>;
}

/** method minus other. */
export interface Difference extends Interval {
  method: string;
  other: string;
  metric: string;
}

/** Reads a run.json. A missing key leaves a part out and is never an error. */
export class Digest {
  private readonly run: Json;
  private readonly metrics: Json;

  /** The method with the highest AP by sentence over all rows; "" without methods. */
  readonly leading: string;

  constructor(run: Json) {
    this.run = run;
    this.metrics = objectOf(run["metrics"]);
    this.leading = this.methods({ unit: "sentence", stratum: "all" })[0]?.name ?? "";
  }

  get status(): string {
    return told(this.run["status"]);
  }

  /** "hotpotqa · SmolLM2-135M-Instruct". */
  get title(): string {
    const config = objectOf(this.run["config"]);
    const data = told(objectOf(this.run["data"])["name"]) || told(config["dataset"]);
    const model = told(config["model"]);
    return [data, model.split("/").pop()].filter((part) => part).join(" · ") || "Evaluation run";
  }

  /** True if there are metrics. An unfinished run has none. */
  get hasMetrics(): boolean {
    return Object.keys(objectOf(this.metrics["methods"])).length > 0;
  }

  /** The strata with their numbers of rows. */
  get strata(): [string, number][] {
    const found = Object.entries(objectOf(this.metrics["strata"]));
    return found.map(([name, rows]): [string, number] => [name, number(rows) ?? 0]);
  }

  /** [name, count] of rows by status, and of rows left out of metrics. Counts of 0 are omitted except rows and done. */
  get counts(): [string, number][] {
    const counts = { ...objectOf(this.run["counts"]), ...objectOf(this.metrics["counts"]) };
    const names: [string, string][] = [
      ["rows", "rows"],
      ["done", "done"],
      ["skipped", "skipped"],
      ["failed", "failed"],
      ["no_gold", "without gold"],
      ["all_gold", "with gold only"],
      ["unusable", "with unusable scores"],
    ];
    return names
      .map(([key, label]): [string, number | null] => [label, number(counts[key])])
      .filter((pair): pair is [string, number] => pair[1] !== null && (pair[1] > 0 || pair[0] === "rows" || pair[0] === "done"));
  }

  /** em, says, f1, verified of the model's own answers, if they were measured. */
  get answers(): [string, Interval][] {
    const labels: Record<string, string> = { em: "exact match", says: "holds the expected answer", f1: "F1", verified: "verified" };
    const found = Object.entries(objectOf(this.metrics["answers"])).map(([key, value]): [string, Interval] => [
      labels[key] ?? visible(key),
      intervalOf(value),
    ]);
    return found.filter(([, interval]) => interval.value !== null);
  }

  /** The methods by AP, highest first, methods without AP last. */
  methods(slice: Slice): MethodRow[] {
    const rows = Object.entries(objectOf(this.metrics["methods"])).map(([name, value]) => methodRow(name, objectOf(value), slice));
    const ap = (row: MethodRow) => row.values.get("ap")?.value ?? -1;
    return rows.sort((a, b) => ap(b) - ap(a));
  }

  /** Paired differences in one metric: one method minus each of the others. */
  differences(method: string, metric: string): Difference[] {
    const listed = this.metrics["differences"];
    const found: Difference[] = [];
    for (const one of Array.isArray(listed) ? listed : []) {
      if (!isObject(one) || one["metric"] !== metric) continue;
      const given = { method: told(one["method"]), other: told(one["other"]), metric, ...intervalOf(one) };
      if (given.method === method) found.push(given);
      else if (given.other === method) found.push(flipped(given));
    }
    return found;
  }

  /** A sentence that says how faithfulness was measured; "" if it was not. */
  get ablations(): string {
    const [first] = (Array.isArray(this.metrics["ablations"]) ? this.metrics["ablations"] : []) as unknown[];
    const how = objectOf(first);
    if (!told(how["convention"])) return "";
    const convention = how["convention"] === "mask" ? "hidden from attention" : "removed from the text";
    return `Pieces are ${convention} (${told(how["convention"])}); LDS over ${told(how["masks"])} random sets, seed ${told(how["seed"])}.`;
  }

  /** "95% percentile bootstrap over rows". */
  get interval(): string {
    return told(objectOf(this.metrics["settings"])["interval"]) || "95% interval";
  }

  /** Settings, versions and machine as [group, [name, value][]]. */
  get settings(): [string, [string, string][]][] {
    const pairs = (value: unknown): [string, string][] =>
      Object.entries(objectOf(value))
        .filter(([, one]) => one !== null && one !== undefined)
        .map(([name, one]): [string, string] => [visible(name).replaceAll("_", " "), Array.isArray(one) ? one.map(told).join(", ") : told(one)]);
    const more = pairs({ device: this.run["device"], processes: this.run["processes"], "weights from": this.run["weights_from"] });
    const seconds = objectOf(this.run["seconds"]);
    for (const [key, label] of [["last_session", "seconds of the last session"], ["cases", "seconds of all cases"]] as const) {
      const value = number(seconds[key]);
      if (value !== null) more.push([label, value.toLocaleString("en", { maximumFractionDigits: 1 })]);
    }
    const peak = number(this.metrics["peak_bytes"]);
    if (peak !== null) more.push(["peak memory", `${(peak / 1e9).toFixed(2)} GB`]);
    const groups: [string, [string, string][]][] = [
      ["Settings", pairs(this.run["config"])],
      ["Data", pairs(this.run["data"])],
      ["Versions", pairs(this.run["versions"])],
      ["Machine and time", more],
    ];
    return groups.filter(([, values]) => values.length > 0);
  }
}

function methodRow(name: string, method: Json, slice: Slice): MethodRow {
  const aggregation = told(method["main"]);
  const by = objectOf(objectOf(objectOf(method[slice.unit])[aggregation])[slice.stratum]);
  const all = slice.stratum === "all" ? { ...objectOf(method["costs"]), ...objectOf(method["faithfulness"]) } : {};
  const values = new Map<string, Interval>();
  for (const [key, value] of Object.entries({ ...by, ...all })) {
    if (isObject(value) && number(value["value"]) !== null) values.set(key, intervalOf(value));
  }
  return { name: visible(name), aggregation, values };
}

function flipped(given: Difference): Difference {
  const minus = (value: number | null) => (value === null ? null : -value);
  return {
    ...given,
    method: given.other,
    other: given.method,
    value: minus(given.value),
    low: minus(given.high),
    high: minus(given.low),
  };
}

function intervalOf(value: unknown): Interval {
  const given = objectOf(value);
  return { value: number(given["value"]), low: number(given["low"]), high: number(given["high"]), n: number(given["n"]) ?? 0 };
}

function objectOf(value: unknown): Json {
  return isObject(value) ? value : {};
}
