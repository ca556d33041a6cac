import type { JSX } from "preact";
import type { Theme } from "./theme";
import { choose, theme, THEMES } from "./theme";

const LABELS: Record<Theme, string> = { auto: "Auto", light: "Light", dark: "Dark" };

/** The bar at the top: the link to the first page, and the theme. */
export function Header({ version }: { version: string }): JSX.Element {
  return (
    <header class="ui-header">
      <a class="ui-name" href="#/" title={version ? `attributor ${version}` : undefined}>
        <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
          <path d="M3 3 C3 10 10 9 10 17" />
          <path d="M10 3 L10 17" class="ui-strong" />
          <path d="M17 3 C17 10 10 9 10 17" />
          <circle cx="10" cy="17" r="2" />
        </svg>
        attributor
      </a>
      <div class="choice" role="group" aria-label="Theme">
        {THEMES.map((one) => (
          <button type="button" key={one} aria-pressed={theme.value === one} onClick={() => choose(one)}>
            {LABELS[one]}
          </button>
        ))}
      </div>
    </header>
  );
}
