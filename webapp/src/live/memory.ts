/** Stores the job that this tab follows, so that a reloaded page follows it again. */

import type { Kind } from "./state";

const KEY = "attributor.job";
const KINDS: readonly string[] = ["load", "run", "weigh"] satisfies Kind[];

/** Store the followed job. */
export function remember(id: string, kind: Kind): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ id, kind }));
  } catch {
    // without storage a reloaded page does not follow the job
  }
}

/** Remove a finished job, unless another job is followed by now. */
export function forget(id: string): void {
  try {
    if (followed()?.id === id) sessionStorage.removeItem(KEY);
  } catch {
    // no storage
  }
}

/** The stored job, or null. */
export function followed(): { id: string; kind: Kind } | null {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (typeof found !== "object" || found === null) return null;
    const { id, kind } = found as { id?: unknown; kind?: unknown };
    return typeof id === "string" && typeof kind === "string" && KINDS.includes(kind) ? { id, kind: kind as Kind } : null;
  } catch {
    return null;
  }
}
