/** What went wrong, in sentences, in one place of the page. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { UserError } from "../model/types";

/** One message; `details` is for whoever reports it. */
export interface Message {
  id: number;
  text: string;
  details: string;
}

/** What is shown now, the newest last. */
export const messages = signal<readonly Message[]>([]);
const MOST = 4;
const UNEXPECTED = "Something went wrong that was not foreseen. Reloading the page may help.";
let count = 0;

/** Show an error: a UserError by its sentence, anything else by a plain one with its details. An abort is nobody's error. */
export function report(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const { text, details } = describe(error);
  if (messages.value.at(-1)?.text === text) return; // the same thing again, a row later
  messages.value = [...messages.value.slice(1 - MOST), { id: ++count, text, details }];
}

/** An error as a sentence, and what is behind it. */
export function describe(error: unknown): { text: string; details: string } {
  if (error instanceof UserError) return { text: error.message, details: "" };
  return { text: UNEXPECTED, details: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** Take a message away. */
export function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

/** Also what nobody caught. */
export function watchUncaught(): void {
  addEventListener("error", (event) => {
    // Browsers say this when a layout took two rounds; nothing is lost by it.
    if (!/ResizeObserver/.test(event.message)) report(event.error ?? event.message);
  });
  addEventListener("unhandledrejection", (event) => report(event.reason));
}

/** The area where messages stand; there from the start, because readers announce what comes into it. */
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

/** A sentence, with what is behind it folded away. */
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
