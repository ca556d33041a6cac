/** Light, dark, or as the system has it; kept in this browser. */

import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

export const THEMES: readonly Theme[] = ["auto", "light", "dark"];
const KEY = "attributor-theme";

/** The theme that was chosen. */
export const theme = signal<Theme>(stored());
apply(theme.value);

/** Choose a theme, here and for the next time. */
export function choose(wanted: Theme): void {
  theme.value = wanted;
  apply(wanted);
  try {
    localStorage.setItem(KEY, wanted);
  } catch {
    // A page in a sandbox, or one from disk, has no storage: the choice lasts as long as the page.
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
