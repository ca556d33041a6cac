/** The page of one flow. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CasePage } from "../case/CasePage";
import type { Case, FlowSource } from "../model/types";
import { ShareMenu } from "../share/ShareMenu";
import { Below } from "./Below";
import { Refused } from "./Refused";

interface Props {
  id: string;
  open: () => FlowSource | Promise<FlowSource>;
}

/** Shows a flow. `open` is called once for each id. */
export function FlowPage({ id, open }: Props): JSX.Element {
  const [opened, setOpened] = useState<Case | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  useEffect(() => {
    let left = false;
    const flow = async (): Promise<FlowSource> => open();
    flow().then(
      (one) => !left && setOpened(caseOfFlow(id, one)),
      (error: unknown) => !left && setFailed(error),
    );
    return () => {
      left = true;
    };
  }, [id]);
  if (failed !== null) return <Refused error={failed} />;
  if (opened === null) return <p class="app-wait">Reading the flow …</p>;
  return (
    <div class="app-case">
      <CasePage case={opened} tools={<ShareMenu />} extra={<Below />} />
    </div>
  );
}

/** A flow as a case with one variant. */
export function caseOfFlow(id: string, source: FlowSource): Case {
  return { id, variants: [{ name: "flow", label: "flow", source }] };
}
