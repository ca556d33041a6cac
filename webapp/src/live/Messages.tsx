/** The messages of a chat: system, user, assistant, in any order. */

import type { JSX } from "preact";

import { moved } from "./draft";
import { focusLast, Order } from "./Order";
import { draft, edit } from "./state";
import type { Message, Role } from "./types";

const ROLES: Role[] = ["system", "user", "assistant"];

/** The list of messages. If the last one is the assistant's, it can become the answer. */
export function Messages(): JSX.Element {
  const { messages } = draft.value;
  const put = (list: Message[]): void => edit({ messages: list.length > 0 ? list : [{ role: "user", content: "" }] });
  const change = (at: number, more: Partial<Message>): void =>
    put(messages.map((one, i) => (i === at ? { ...one, ...more } : one)));
  const last = messages.at(-1);
  return (
    <div>
      <ol class="live-list" aria-label="Messages">
        {messages.map((one, i) => (
          <li key={i}>
            <div class="live-row">
              <select
                aria-label={`Role of message ${i + 1}`}
                value={one.role}
                onChange={(event) => change(i, { role: event.currentTarget.value as Role })}
              >
                {ROLES.map((role) => (
                  <option key={role}>{role}</option>
                ))}
              </select>
              <Order
                what={`message ${i + 1}`}
                index={i}
                count={messages.length}
                onMove={(by) => put(moved(messages, i, by))}
                onRemove={() => put(messages.filter((_, j) => j !== i))}
              />
            </div>
            <textarea
              aria-label={`Message ${i + 1}`}
              rows={one.role === "system" ? 2 : 4}
              value={one.content}
              onInput={(event) => change(i, { content: event.currentTarget.value })}
            />
          </li>
        ))}
      </ol>
      <div class="live-row">
        <button
          type="button"
          onClick={(event) => {
            put([...messages, { role: last?.role === "user" ? "assistant" : "user", content: "" }]);
            focusLast(event);
          }}
        >
          Add a message
        </button>
        {last?.role === "assistant" && messages.length > 1 && (
          <button type="button" onClick={() => edit({ messages: messages.slice(0, -1), answer: last.content })}>
            Attribute the last message
          </button>
        )}
      </div>
    </div>
  );
}
