/** The page of `attributor explore`, in a chunk of its own that exported pages and `serve` do not load. */

import type { ComponentProps, ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { navigate, route } from "../model/link";
import { serverFlow } from "../model/server";
import { visible } from "../model/text";
import { FlowPage } from "../ui/FlowPage";
import { Part } from "../ui/Part";
import { Refused } from "../ui/Refused";
import { OpenPage } from "./OpenPage";
import { find, loadSources, routeOf, sources } from "./sources";

/** Shows the page of the link; without one, the source of the command line.
 *
 * @param opened the id of the source that the command line named.
 */
export default function Explore({ opened }: { opened: string | null }): JSX.Element {
  const [known, setKnown] = useState(false);
  const [refused, setRefused] = useState<unknown>(null);
  useEffect(() => {
    loadSources().then(
      () => {
        const named = opened === null ? undefined : find(opened);
        if (named !== undefined && /^#?\/?$/.test(location.hash)) navigate(routeOf(named), { replace: true });
        setKnown(true);
      },
      (error: unknown) => setRefused(error),
    );
  }, []);
  if (refused !== null) return <Refused error={refused} />;
  if (!known) return <p class="app-wait">Reading the list of sources …</p>;
  const at = route.value;
  if (at.page === "flow") {
    const source = sources.value.find((one) => one.flowId === at.flow);
    if (source === undefined && at.flow.startsWith(LOCAL)) return <Missing id={at.flow} />;
    return <FlowPage key={at.flow} id={at.flow} open={source?.flow ?? (() => serverFlow(at.flow))} />;
  }
  if (at.page !== "run" && at.page !== "case") return <OpenPage />;
  const source = sources.value.find((one) => one.id === at.source);
  if (source === undefined) return <Missing id={at.source} />;
  if (source.run === null) return <FlowPage key={source.id} id={source.flowId} open={source.flow!} />;
  if (at.page === "run") return <Part key={`run ${source.id}`} load={runPage} with={{ source }} />;
  return <Part key={`case ${source.id}`} load={runCase} with={{ source, id: at.id }} />;
}

type Pages = typeof import("../run/pages");
const runPage = async (): Promise<ComponentType<ComponentProps<Pages["RunPage"]>>> => (await import("../run/pages")).RunPage;
const runCase = async (): Promise<ComponentType<ComponentProps<Pages["RunCase"]>>> => (await import("../run/pages")).RunCase;

const LOCAL = "file:";

/** The notice for a link whose source is not open. Local files are lost with their tab. */
function Missing({ id }: { id: string }): JSX.Element {
  return (
    <>
      <p class="error" role="alert">
        {id.startsWith(LOCAL)
          ? `“${visible(id.slice(LOCAL.length))}” was opened in another tab, or before this page was loaded again. Open it here and the link works.`
          : "What this link names is not open on this server."}
      </p>
      <OpenPage />
    </>
  );
}
