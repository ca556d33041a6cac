/** What the answer took from the prompt as curves, on pages that know no model: runs, files. */

import type { JSX } from "preact";
import { useCase } from "../case/state";
import { WholeModel } from "./WholeModel";

/** A section of its own, linked to the case that it stands below. */
export function Connections(): JSX.Element {
  return (
    <section aria-labelledby="connections">
      <h2 id="connections">Connections</h2>
      <WholeModel state={useCase()} />
    </section>
  );
}
