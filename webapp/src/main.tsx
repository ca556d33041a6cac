/** The entry point: renders the page of `explore` or `serve`, or the case of an exported page. */

import { signal } from "@preact/signals";
import { render } from "preact";
import type { ComponentType, JSX } from "preact";
import { useMemo } from "preact/hooks";
import { session } from "./api/client";
import type { Session } from "./api/types";
import { CasePage } from "./case/CasePage";
import { route } from "./model/link";
import { embeddedFlow } from "./model/page";
import { serverFlow } from "./model/server";
import type { FlowSource } from "./model/types";
import { ShareMenu } from "./share/ShareMenu";
import { Boundary } from "./ui/Boundary";
import { caseOfFlow, FlowPage } from "./ui/FlowPage";
import { Header } from "./ui/Header";
import { Messages, report, watchUncaught } from "./ui/messages";
import { Part } from "./ui/Part";
import { Refused } from "./ui/Refused";
import "./ui/theme";
import "./theme.css";
import "./app.css";

const known = signal<Session | null>(null);
const refused = signal<unknown>(null);

function App(): JSX.Element {
  const door = known.value?.door;
  return (
    <>
      <a class="button app-skip" href="#app-main" onClick={skip}>
        Skip to the content
      </a>
      <Header version={known.value?.version ?? ""} />
      <Messages />
      <main class="app-main" id="app-main" tabIndex={-1}>
        <Boundary of={JSON.stringify(route.value)}>
          {refused.value !== null && <Refused error={refused.value} />}
          {refused.value === null && door === undefined && <p class="app-wait">Connecting to the server …</p>}
          {door === "explore" && <Part load={explore} with={{ opened: known.value!.opened }} />}
          {door === "serve" && <Serve />}
        </Boundary>
      </main>
    </>
  );
}

/** Moves the focus without changing the hash, which holds the page's address. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("app-main")?.focus();
}

// Each command's page loads only its own code.
const explore = async (): Promise<ComponentType<{ opened: string | null }>> => (await import("./open/Explore")).default;
const live = async (): Promise<ComponentType<object>> => (await import("./live/LivePage")).default;

function Serve(): JSX.Element {
  const at = route.value;
  if (at.page === "flow") return <FlowPage key={at.flow} id={at.flow} open={() => serverFlow(at.flow)} />;
  return <Part load={live} with={{}} />;
}

/** An exported page: one case. */
function Exported({ flow }: { flow: FlowSource }): JSX.Element {
  const it = useMemo(() => caseOfFlow("page", flow), [flow]);
  return (
    <main class="app-main">
      <Messages />
      <Boundary of="page">
        <div class="app-case app-alone">
          <CasePage case={it} tools={<ShareMenu />} />
        </div>
      </Boundary>
    </main>
  );
}

watchUncaught();
const root = document.getElementById("app")!;
try {
  const flow = embeddedFlow();
  if (flow !== null) render(<Exported flow={flow} />, root);
  else {
    render(<App />, root);
    session().then(
      (found) => (known.value = found),
      (error: unknown) => (refused.value = error),
    );
  }
} catch (error) {
  report(error);
  render(<Messages />, root);
}
