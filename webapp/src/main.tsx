/** The shell: which door this is, and which page the address names. An exported page is its case and nothing else. */

import { signal } from "@preact/signals";
import { render } from "preact";
import type { ComponentType, JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { session } from "./api/client";
import type { Session } from "./api/types";
import { CasePage } from "./case/CasePage";
import { navigate, route } from "./model/link";
import { embeddedFlow } from "./model/page";
import { serverFlow } from "./model/server";
import type { Case, FlowSource } from "./model/types";
import { UserError } from "./model/types";
import { OpenPage } from "./open/OpenPage";
import { find, loadSources, routeOf, sources, sourcesKnown } from "./open/sources";
import { RunCase } from "./run/RunCase";
import { RunPage } from "./run/RunPage";
import { ShareMenu } from "./share/ShareMenu";
import { Boundary } from "./ui/Boundary";
import { Header } from "./ui/Header";
import { describe, Failure, Messages, report, watchUncaught } from "./ui/messages";
import "./ui/theme";
import "./theme.css";
import "./app.css";

const found = signal<Session | null>(null);
const refused = signal<unknown>(null);

function App(): JSX.Element {
  const known = found.value;
  return (
    <>
      <a class="button app-skip" href="#app-main" onClick={skip}>
        Skip to the content
      </a>
      <Header version={known?.version ?? ""} />
      <Messages />
      <div class="app-main" id="app-main" tabIndex={-1}>
        <Boundary of={JSON.stringify(route.value)}>
          {refused.value !== null && <Refused error={refused.value} />}
          {refused.value === null && known === null && <p class="app-wait">Asking the server …</p>}
          {known?.door === "explore" && <Explore />}
          {known?.door === "serve" && <Serve />}
        </Boundary>
      </div>
    </>
  );
}

/** The hash is the address of the page, so the link must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("app-main")?.focus();
}

function Refused({ error }: { error: unknown }): JSX.Element {
  return (
    <div class="ui-boundary card" role="alert">
      <Failure {...describe(error)} />
      <button type="button" class="button" onClick={() => location.reload()}>
        Try again
      </button>
    </div>
  );
}

function Explore(): JSX.Element {
  const at = route.value;
  if (at.page === "flow") return <FlowPage id={at.flow} />;
  if (at.page !== "run" && at.page !== "case") return <OpenPage />;
  const source = sources.value.find((one) => one.id === at.source);
  if (source === undefined) return sourcesKnown.value ? <Missing id={at.source} /> : <p class="app-wait">Looking for the run …</p>;
  if (source.run === null) return <FlowPage id={source.flowId} />;
  const run = source.run();
  return at.page === "run" ? <RunPage key={source.id} source={source.id} run={run} /> : <RunCase key={source.id} source={source.id} id={at.id} run={run} />;
}

/** A link to what is not open: local files do not outlive their tab. */
function Missing({ id }: { id: string }): JSX.Element {
  const local = id.startsWith("file:");
  return (
    <>
      <p class="error" role="alert">
        {local ? `“${id.slice(5)}” was opened in another tab, or before this page was loaded again. Open it here and the link works.` : "What this link names is not open on this server."}
      </p>
      <OpenPage />
    </>
  );
}

function FlowPage({ id }: { id: string }): JSX.Element {
  const [opened, setOpened] = useState<Case | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const local = id.startsWith("file:");
  const source = local ? find(id) : undefined;
  useEffect(() => {
    if (local && source === undefined) return;
    let left = false;
    const flow = async (): Promise<FlowSource> => (source?.flow ? source.flow() : serverFlow(id));
    flow().then(
      (one) => !left && setOpened(caseOf(id, one)),
      (error: unknown) => !left && setFailed(error),
    );
    return () => {
      left = true;
    };
  }, [id, source]);
  if (local && source === undefined) return <Missing id={id} />;
  if (failed !== null) return <Refused error={failed} />;
  return opened === null ? <p class="app-wait">Reading the flow …</p> : <CasePage case={opened} tools={<ShareMenu />} />;
}

function caseOf(id: string, source: FlowSource): Case {
  return { id, variants: [{ name: "flow", label: "flow", source }] };
}

/** The live door; its code is fetched only there. */
function Serve(): JSX.Element {
  const [page, setPage] = useState<{ Live: ComponentType } | null>(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    import("./live/LivePage").then(
      (module) => setPage({ Live: module.default }),
      () => setFailed(true),
    );
  }, []);
  const at = route.value;
  if (at.page === "flow") return <FlowPage key={at.flow} id={at.flow} />;
  if (failed) return <Refused error={new UserError("A part of this page could not be loaded. Is attributor serve still running?")} />;
  return page === null ? <p class="app-wait">Loading …</p> : <page.Live />;
}

/** A page that was exported: the case alone. */
function Exported({ flow }: { flow: FlowSource }): JSX.Element {
  const it = useMemo(() => caseOf("page", flow), [flow]);
  return (
    <div class="app-main">
      <Messages />
      <Boundary of="page">
        <CasePage case={it} tools={<ShareMenu />} />
      </Boundary>
    </div>
  );
}

async function start(): Promise<void> {
  const { door, opened, version, csrf } = await session();
  if (door === "explore") await loadSources();
  // What the command line named is what its user wants to see, unless the link names something else.
  const named = opened === null ? undefined : find(opened);
  if (named !== undefined && route.value.page === "home" && /^#?\/?$/.test(location.hash)) navigate(routeOf(named), { replace: true });
  found.value = { door, opened, version, csrf };
}

watchUncaught();
const root = document.getElementById("app")!;
try {
  const flow = embeddedFlow();
  if (flow !== null) render(<Exported flow={flow} />, root);
  else {
    render(<App />, root);
    start().catch((error: unknown) => (refused.value = error));
  }
} catch (error) {
  report(error);
  render(<Messages />, root);
}
