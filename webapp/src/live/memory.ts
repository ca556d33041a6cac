/** The job that this tab follows, kept for when the page is loaded anew. */

import type { Kind } from "./state";

const KEY = "attributor.job";
const KINDS: readonly string[] = ["load", "run", "weigh"] satisfies Kind[];

/** Keep which job is followed. */
export function remember(id: string, kind: Kind): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ id, kind }));
  } catch {
    // without storage it is only not followed again
  }
}

/** It is over, unless another one is followed by now. */
export function forget(id: string): void {
  try {
    if (followed()?.id === id) sessionStorage.removeItem(KEY);
  } catch {
    // as above
  }
}

/** The job that was followed, or null. */
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
