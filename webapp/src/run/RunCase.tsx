/** A case of a run, with links to the previous and next case in the table's order. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CasePage } from "../case/CasePage";
import { Steps } from "../case/Header";
import { format, navigate, place } from "../model/link";
import { visible } from "../model/text";
import type { Case, Variant } from "../model/types";
import { ShareMenu } from "../share/ShareMenu";
import { Below } from "../ui/Below";
import { count } from "../ui/format";
import { describe, Failure } from "../ui/messages";
import { Meter } from "../ui/Meter";
import type { OpenRun } from "./opened";
import { memoryOf } from "./RunPage";
import { tableQuery } from "./table";
import { useShown } from "./use";
import "./run.css";

export function RunCase({ source, id, run }: { source: string; id: string; run: OpenRun }): JSX.Element {
  const { shown, method } = useShown(run);
  const [opened, setOpened] = useState<Case | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const cases = run.cases.value;
  const progress = run.progress.value;
  run.version.value; // re-render as more cases are read
  const at = cases?.find(id) ?? -1;
  useEffect(() => {
    memoryOf(source).active = id;
    if (cases === null || at < 0) return;
    let left = false;
    cases.open(at).then(
      (found) => {
        if (left) return;
        setFailed(null);
        setOpened(leadBy(found, `${cases.methods.names[method]}/${cases.methods.aggregations[method]}`));
      },
      (error: unknown) => !left && setFailed(error),
    );
    return () => {
      left = true;
    };
  }, [cases, at, id]);
  useEffect(() => {
    const title = at >= 0 ? cases!.cases[at]!.question : id;
    document.title = `${visible(title)} · attributor`;
  }, [cases, at, id]);
  const position = shown.indexOf(at);
  const to = (index: number): (() => void) | undefined => {
    const next = position < 0 ? undefined : shown[index];
    if (next === undefined) return undefined;
    // Replace the history entry, so that the back button leads to the table.
    return () => navigate({ page: "case", source, id: cases!.cases[next]!.id }, { query: tableQuery(place.peek().query), replace: true });
  };
  const back = format({ page: "run", source }, tableQuery(place.value.query));
  return (
    <div class="app-case run-case">
      <nav class="run-crumbs" aria-label="Cases">
        <a href={back}>← Cases of {run.digest.value?.title ?? run.name}</a>
        {position >= 0 && (
          <span class="soft">
            {count(position + 1)} of {count(shown.length)}
          </span>
        )}
        {at >= 0 && position < 0 && <span class="soft">hidden by the filters</span>}
      </nav>
      {at < 0 && progress === null && <p class="error run-wrong">There is no case “{visible(id)}” in this run.</p>}
      {at < 0 && progress !== null && <Meter label="Reading cases" done={progress.read} total={progress.size} />}
      {failed !== null && (
        <div class="run-wrong" role="alert">
          <Failure {...describe(failed)} />
          <div class="case-tools">
            <Steps onPrevious={to(position - 1)} onNext={to(position + 1)} />
          </div>
        </div>
      )}
      {opened !== null && failed === null && (
        <CasePage case={opened} onPrevious={to(position - 1)} onNext={to(position + 1)} tools={<ShareMenu />} extra={<Below />} />
      )}
    </div>
  );
}

/** The case with the table's method first, or second after a token-level flow. */
function leadBy(it: Case, name: string): Case {
  const place = (variant: Variant) => (variant.name === "flow" ? 0 : variant.name === name ? 1 : 2);
  return { ...it, variants: [...it.variants].sort((a, b) => place(a) - place(b)) };
}
