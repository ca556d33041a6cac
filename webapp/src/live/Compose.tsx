/** The prompt panel: documents and a question, or the messages of a chat; and who writes the answer. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";

import { count as number, plural } from "../ui/format";
import { type Draft, EMPTY, EXAMPLE, isBlank, missing, tooLong } from "./draft";
import { Documents } from "./Documents";
import { Messages } from "./Messages";
import { Progress } from "./Progress";
import { count, draft, edit, failure, job, ready, run } from "./state";
import type { WeightsName } from "./types";
import { WEIGHTS, WEIGHTS_NAMES } from "./weights";

/** The prompt panel. `opened` gets the id of the finished run. */
export function Compose({ opened }: { opened: (id: string) => void }): JSX.Element {
  const now = draft.value;
  const blocked = !ready.value ? "Load a model first." : (missing(now) ?? tooLong(now, count.value));
  const running = job.value?.kind === "run";
  const replaced = useSignal<{ before: Draft; by: Draft } | null>(null);
  const replace = (by: Draft): void => {
    const fresh = { ...by, weights: now.weights };
    replaced.value = isBlank(now) ? null : { before: now, by: fresh };
    draft.value = fresh;
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    if (blocked === null && job.value === null) void run(opened);
  };
  return (
    <section class="live-panel" aria-labelledby="live-prompt" aria-busy={running}>
      <h2 id="live-prompt">Prompt</h2>
      <form class="live-compose" onSubmit={submit}>
        <div class="live-row">
          <div class="live-choice" role="group" aria-label="Kind of prompt">
            {(["documents", "chat"] as const).map((mode) => (
              <button key={mode} type="button" aria-pressed={now.mode === mode} onClick={() => edit({ mode })}>
                {mode === "documents" ? "Documents" : "Chat"}
              </button>
            ))}
          </div>
          <button type="button" onClick={() => replace(EXAMPLE)}>
            Example
          </button>
          <button type="button" onClick={() => replace(EMPTY)}>
            Clear
          </button>
          {replaced.value !== null && now === replaced.value.by && (
            <button type="button" onClick={() => (draft.value = replaced.value!.before)}>
              Undo
            </button>
          )}
        </div>
        {now.mode === "documents" ? <Documents /> : <Messages />}
        <Answer />
        <label>
          Heads to follow
          <select value={now.weights} onChange={(event) => edit({ weights: event.currentTarget.value as WeightsName })}>
            {WEIGHTS_NAMES.map((name) => (
              <option key={name} value={name}>
                {WEIGHTS[name].choice}
              </option>
            ))}
          </select>
        </label>
        <Tokens />
        {failure.value?.about === "run" && (
          <p class="live-error" role="alert">
            {failure.value.message}
          </p>
        )}
        {running && job.value ? (
          <Progress job={job.value} />
        ) : (
          <div class="live-row">
            <button class="live-primary" type="submit" disabled={blocked !== null || job.value !== null}>
              {now.answer === null ? "Answer and attribute" : "Attribute"}
            </button>
            {blocked !== null && <span class="live-soft">{blocked}</span>}
          </div>
        )}
      </form>
    </section>
  );
}

function Answer(): JSX.Element {
  const now = draft.value;
  return (
    <fieldset class="live-answer">
      <legend>Answer</legend>
      <label class="live-inline">
        <input type="radio" name="live-answer" checked={now.answer === null} onChange={() => edit({ answer: null })} />
        the model writes at most
        <input
          type="number"
          aria-label="Maximum answer tokens"
          min={1}
          max={4096}
          value={now.maxNewTokens}
          onInput={(event) => {
            const most = Math.floor(event.currentTarget.valueAsNumber);
            if (most >= 1) edit({ maxNewTokens: most });
          }}
        />
        tokens
      </label>
      <label class="live-inline">
        <input
          type="radio"
          name="live-answer"
          checked={now.answer !== null}
          onChange={() => edit({ answer: now.answer ?? "" })}
        />
        I write the answer
      </label>
      {now.answer !== null && (
        <textarea
          aria-label="The answer to attribute"
          rows={2}
          value={now.answer}
          onInput={(event) => edit({ answer: event.currentTarget.value })}
        />
      )}
    </fieldset>
  );
}

/** The length of the prompt, and the limit. */
function Tokens(): JSX.Element | null {
  const found = count.value;
  if (found === null) return null;
  const most = Math.min(found.window ?? Infinity, found.max_tokens);
  const total = found.prompt_tokens + found.answer_tokens;
  return (
    <div class="live-tokens">
      <span>
        {plural(found.prompt_tokens, "token")} of prompt
        {found.answer_tokens > 0 && `, ${number(found.answer_tokens)} of answer`}
        {`; limit ${number(most)}`}
      </span>
      <meter aria-label="Used part of the limit" min={0} max={most} value={total} high={most * 0.9} />
    </div>
  );
}
