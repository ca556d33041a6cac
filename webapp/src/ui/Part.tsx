/** A part of the page whose code is loaded when it is first shown. */

import type { ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { UserError } from "../model/types";
import { Refused } from "./Refused";

interface Props<P> {
  /** Loads the module's component. Called once. */
  load: () => Promise<ComponentType<P>>;
  /** The component's props. */
  with: P;
}

/** Shows the component once its code is loaded, or an error message. */
export function Part<P extends object>({ load, with: props }: Props<P>): JSX.Element {
  const [part, setPart] = useState<{ Page: ComponentType<P> } | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  useEffect(() => {
    load().then(
      (Page) => setPart({ Page }),
      (error: unknown) =>
        setFailed(new UserError("A part of this page could not be loaded. Is attributor still running?", { cause: error })),
    );
  }, []);
  if (failed !== null) return <Refused error={failed} />;
  return part === null ? <p class="app-wait">Loading …</p> : <part.Page {...props} />;
}
