/** Exports the table of cases. */

import { toCsv } from "../share/csv";
import { AP, CUTS, FIRST, HITS } from "./ranks";
import { rankValue } from "./summary";
import type { Summary } from "./summary";
import type { Other } from "./table";

/** The shown cases as CSV, in their order, under one method. Cells are escaped so that spreadsheets run no formulas. */
export function casesCsv(cases: readonly Summary[], shown: Int32Array, method: number, name: string, other: Other | null): string {
  const header = ["id", "status", "kind", "level", "question", "expected", "answer", "right", "method", "ap", "first rank"];
  header.push(...CUTS.map((k) => `hit@${k}`), "tokens", "reason");
  if (other !== null) header.push("other run", "difference");
  const rows = Array.from(shown, (place) => {
    const one = cases[place]!;
    const right = one.right === null ? "" : one.right ? "right" : "wrong";
    const row: (string | number | null | undefined)[] = [one.id, one.status, one.kind, one.level, one.question, one.expected, one.answer, right, name];
    row.push(rankValue(one, method, AP), rankValue(one, method, FIRST));
    row.push(...CUTS.map((_, i) => rankValue(one, method, HITS + i)), one.tokens, one.reason);
    if (other !== null) row.push(other.values.get(one.id), other.differences.get(one.id));
    return row;
  });
  return toCsv(header, rows);
}
