/** Error messages, in one place of the page. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { UserError } from "../model/types";

/** One message. `details` are for a bug report. */
export interface Message {
  id: number;
  text: string;
  details: string;
}

/** The shown messages, the newest last. */
export const messages = signal<readonly Message[]>([]);
const MOST = 4;
const UNEXPECTED = "Something went wrong that was not foreseen. Reloading the page may help.";
let count = 0;

/** Show an error: the message of a UserError, or a general sentence with details. An abort is ignored. */
export function report(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const { text, details } = describe(error);
  if (messages.value.at(-1)?.text === text) return; // do not repeat the last message
  messages.value = [...messages.value.slice(1 - MOST), { id: ++count, text, details }];
}

/** An error as a sentence, with technical details. */
export function describe(error: unknown): { text: string; details: string } {
  if (error instanceof UserError) return { text: error.message, details: "" };
  return { text: UNEXPECTED, details: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** Remove a message. */
export function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

/** Report uncaught errors and rejections too. */
export function watchUncaught(): void {
  addEventListener("error", (event) => {
    // Browsers raise this harmless error when a layout takes two rounds.
    if (!/ResizeObserver/.test(event.message)) report(event.error ?? event.message);
  });
  addEventListener("unhandledrejection", (event) => report(event.reason));
}

/** The area of messages. It is always rendered, because screen readers announce only changes of an existing area. */
export function Messages(): JSX.Element {
  return (
    <div class="ui-messages" role="alert">
      {messages.value.map((message) => (
        <div class="ui-message" key={message.id}>
          <Failure text={message.text} details={message.details} />
          <button type="button" class="button quiet" onClick={() => dismiss(message.id)}>
            Dismiss
          </button>
        </div>
      ))}
    </div>
  );
}

/** A sentence with collapsed details. */
export function Failure({ text, details }: { text: string; details: string }): JSX.Element {
  return (
    <div class="ui-failure">
      <p>{text}</p>
      {details && (
        <details>
          <summary>Details</summary>
          <pre>{details}</pre>
        </details>
      )}
    </div>
  );
}
