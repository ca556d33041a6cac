/** The flow from prompt to answer as curves, on pages without a loaded model: runs, files. */

import type { JSX } from "preact";
import { useCase } from "../case/state";
import { WholeModel } from "./WholeModel";

/** A section linked to the case above it. */
export function Connections(): JSX.Element {
  return (
    <section aria-labelledby="connections">
      <h2 id="connections">Connections</h2>
      <WholeModel state={useCase()} />
    </section>
  );
}
