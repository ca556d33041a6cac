/** The draft of a prompt: plain data and pure functions, stored for this tab only. */

import type { Count, Document, Message, Role, RunRequest, WeightsName } from "./types";
import { isWeightsName } from "./weights";

export interface Draft {
  mode: "documents" | "chat";
  documents: Document[];
  question: string;
  messages: Message[];
  /** null: the model writes the answer. */
  answer: string | null;
  maxNewTokens: number;
  weights: WeightsName;
}

export const EMPTY: Draft = {
  mode: "documents",
  documents: [{ title: "", text: "" }],
  question: "",
  messages: [{ role: "user", content: "" }],
  answer: null,
  maxNewTokens: 64,
  weights: "retrieval",
};

/** Three short documents, so that a first try needs no typing. */
export const EXAMPLE: Draft = {
  ...EMPTY,
  documents: [
    {
      title: "The harbour",
      text:
        "The harbour of Marrowick has a stone pier of 210 metres. Boats leave before dawn and are back by noon. " +
        "A small ferry crosses to the mainland twice a day; in winter the second crossing is often cancelled.",
    },
    {
      title: "The lighthouse",
      text:
        "The lighthouse stands on Gannet Head. It was finished in 1868 and has 164 steps. Its lamp burned oil for " +
        "sixty years. Today a retired teacher keeps its books and opens the tower on Sundays.",
    },
    {
      title: "The bakery",
      text:
        "The bakery on the quay sells rye bread and a cake with cloudberries. Its oven came from the old fish " +
        "factory. The baker starts at three in the morning, long before the first boat.",
    },
  ],
  question: "How many steps does the lighthouse have?",
};

const KEY = "attributor.draft";

/** The draft of this tab before the page was reloaded. */
export function stored(): Draft {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    return isDraft(found) ? found : EMPTY;
  } catch {
    return EMPTY; // storage is forbidden, or holds other data
  }
}

/** Store the draft. A draft that is too large for the storage is not stored. */
export function store(draft: Draft): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(draft));
  } catch {
    try {
      sessionStorage.removeItem(KEY);
    } catch {
      // no storage at all
    }
  }
}

function isDraft(found: unknown): found is Draft {
  if (typeof found !== "object" || found === null) return false;
  const draft = found as Partial<Draft>;
  return (
    (draft.mode === "documents" || draft.mode === "chat") &&
    Array.isArray(draft.documents) &&
    draft.documents.every((one) => typeof one?.title === "string" && typeof one.text === "string") &&
    Array.isArray(draft.messages) &&
    draft.messages.every((one) => isRole(one?.role) && typeof one.content === "string") &&
    typeof draft.question === "string" &&
    (draft.answer === null || typeof draft.answer === "string") &&
    typeof draft.maxNewTokens === "number" &&
    isWeightsName(draft.weights)
  );
}

function isRole(role: unknown): role is Role {
  return role === "system" || role === "user" || role === "assistant";
}

/** The request to the server. Empty documents and messages are left out. */
export function request(draft: Draft): RunRequest {
  const chat = draft.mode === "chat";
  return {
    messages: chat ? draft.messages.filter((one) => one.content.trim() !== "") : [],
    documents: chat ? [] : draft.documents.filter((one) => one.text.trim() !== ""),
    question: chat ? null : draft.question,
    answer: draft.answer,
    max_new_tokens: draft.maxNewTokens,
    weights: draft.weights,
  };
}

/** True if the draft has no text that could be lost. */
export function isBlank(draft: Draft): boolean {
  const texts = [...draft.documents.flatMap((one) => [one.title, one.text]), ...draft.messages.map((one) => one.content)];
  return [...texts, draft.question, draft.answer ?? ""].every((text) => text.trim() === "");
}

/** A sentence that says why the draft cannot run yet, or null. */
export function missing(draft: Draft): string | null {
  const asked = request(draft);
  if (draft.mode === "chat") {
    if (asked.messages.length === 0) return "Write at least one message.";
    if (asked.messages.at(-1)?.role === "assistant") {
      return "The last message is the assistant's: make it the answer to attribute, or add a user message.";
    }
  } else if (draft.question.trim() === "") {
    return "Write a question.";
  }
  if (draft.answer !== null && draft.answer.trim() === "") return "Write the answer that should be attributed.";
  return null;
}

/** A sentence with the numbers if the draft is too long, or null. */
export function tooLong(draft: Draft, count: Count | null): string | null {
  if (count === null) return null;
  const answer = draft.answer === null ? draft.maxNewTokens : count.answer_tokens;
  const most = Math.min(count.window ?? Infinity, count.max_tokens);
  const total = count.prompt_tokens + answer;
  if (total <= most) return null;
  const whose = most === count.max_tokens ? "the limit set at loading" : "what the model can read";
  return (
    `${total.toLocaleString("en")} tokens (${count.prompt_tokens.toLocaleString("en")} of prompt, ` +
    `${answer.toLocaleString("en")} of answer) are more than ${most.toLocaleString("en")}, ${whose}: ` +
    "shorten the prompt, or allow a shorter answer."
  );
}

/** A copy of the list with one element moved by one place; unchanged if there is no such place. */
export function moved<T>(list: readonly T[], from: number, by: 1 | -1): T[] {
  const to = from + by;
  const copy = [...list];
  if (from < 0 || from >= copy.length || to < 0 || to >= copy.length) return copy;
  [copy[from], copy[to]] = [copy[to]!, copy[from]!];
  return copy;
}
