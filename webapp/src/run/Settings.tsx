import type { JSX } from "preact";
import { count, digits, range } from "../ui/format";
import type { Digest } from "./digest";

/** The settings, data, versions and machine of a run. */
export function SettingsFold({ digest }: { digest: Digest }): JSX.Element | null {
  const groups = digest.settings;
  if (groups.length === 0) return null;
  return (
    <details class="run-fold">
      <summary>Settings and versions</summary>
      <div class="run-groups">
        {groups.map(([title, values]) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {values.map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </details>
  );
}

/** "165 rows · 144 done · 21 skipped", and the quality of the model's own answers. */
export function Counts({ digest }: { digest: Digest }): JSX.Element {
  const own = digest.answers.map(([name, interval]) => `${name} ${digits(interval.value, 3)}${range(interval, 3) && ` (${range(interval, 3)})`}`);
  const said = digest.counts.map(([name, value]) => `${count(value)} ${name}`);
  if (digest.status && digest.status !== "done") said.push(digest.status === "running" ? "running, or stopped early" : digest.status);
  return (
    <>
      {said.length > 0 && <p class="soft">{said.join(" · ")}</p>}
      {own.length > 0 && <p class="soft">The model's own answers: {own.join(", ")}</p>}
    </>
  );
}
