/** The pages of a run and the code that reads runs, in one chunk that is loaded with the first of these pages. */

import type { JSX } from "preact";
import type { Source } from "../open/sources";
import { OpenRun } from "./opened";
import { RunCase as Case } from "./RunCase";
import { RunPage as Page } from "./RunPage";

/** The page of a source that is a run. */
export function RunPage({ source }: { source: Source }): JSX.Element {
  return <Page source={source.id} run={source.run!(OpenRun)} />;
}

/** The page of a run's case. */
export function RunCase({ source, id }: { source: Source; id: string }): JSX.Element {
  return <Case source={source.id} id={id} run={source.run!(OpenRun)} />;
}
