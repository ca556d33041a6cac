/** The theme: light, dark, or that of the system. Stored in this browser. */

import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

export const THEMES: readonly Theme[] = ["auto", "light", "dark"];
const KEY = "attributor-theme";

/** The chosen theme. */
export const theme = signal<Theme>(stored());
apply(theme.value);

/** Choose a theme, and store it for the next visit. */
export function choose(wanted: Theme): void {
  theme.value = wanted;
  apply(wanted);
  try {
    localStorage.setItem(KEY, wanted);
  } catch {
    // A sandboxed page or one from disk has no storage: the choice lasts as long as the page.
  }
}

function stored(): Theme {
  try {
    return THEMES.find((one) => one === localStorage.getItem(KEY)) ?? "auto";
  } catch {
    return "auto";
  }
}

function apply(wanted: Theme): void {
  if (wanted === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = wanted;
}
