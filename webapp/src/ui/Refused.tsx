import type { JSX } from "preact";
import { describe, Failure } from "./messages";

/** Shows an error with a button to try again, in place of content that could not be loaded. */
export function Refused({ error }: { error: unknown }): JSX.Element {
  return (
    <div class="ui-boundary card" role="alert">
      <Failure {...describe(error)} />
      <button type="button" class="button" onClick={() => location.reload()}>
        Try again
      </button>
    </div>
  );
}
