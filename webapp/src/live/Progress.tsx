/** A running job: its stage, its progress, the text written so far, and a button to cancel it. */

import type { JSX } from "preact";

import { count } from "../ui/format";
import { cancel, type Job } from "./state";

/** The progress of one job. */
export function Progress({ job }: { job: Job }): JSX.Element {
  const known = job.total > 0;
  const label = job.cancelling ? "Stopping" : job.label;
  return (
    <div class="live-progress">
      <div class="live-progress-line">
        <span aria-live="polite">{label}</span>
        <span class="live-soft">{known && `${count(job.done)} of ${count(job.total)}`}</span>
        <button type="button" disabled={job.cancelling} onClick={() => void cancel()}>
          Cancel
        </button>
      </div>
      {known ? (
        <progress aria-label={label} value={job.done} max={job.total} />
      ) : (
        <progress aria-label={label} />
      )}
      {job.written !== "" && (
        <p class="live-written">
          <span class="live-soft">The answer so far: </span>
          {job.written}
        </p>
      )}
    </div>
  );
}
