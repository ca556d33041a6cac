import type { JSX } from "preact";
import { describe, Failure } from "./messages";

/** In place of what could not be had: why, and trying again. */
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
