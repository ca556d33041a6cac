/** The documents of a prompt: paste, drop, reorder, remove. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";

import { moved } from "./draft";
import { number } from "./format";
import { Order } from "./Order";
import { draft, edit, failure } from "./state";
import type { Document } from "./types";

const LARGEST = 8_000_000; // characters of a dropped file: about twice what the longest windows read

/** The list of documents, and the question about them. */
export function Documents(): JSX.Element {
  const { documents, question } = draft.value;
  const over = useSignal(false);
  const put = (list: Document[]): void => edit({ documents: list.length > 0 ? list : [{ title: "", text: "" }] });
  const change = (at: number, more: Partial<Document>): void =>
    put(documents.map((one, i) => (i === at ? { ...one, ...more } : one)));
  const drop = async (event: DragEvent): Promise<void> => {
    event.preventDefault();
    over.value = false;
    const files = [...(event.dataTransfer?.files ?? [])];
    const large = files.find((file) => file.size > LARGEST);
    if (large) {
      failure.value = { about: "run", message: `${large.name} has ${number(large.size)} bytes: too long to be a document.` };
      return;
    }
    const read = await Promise.all(files.map(async (file) => ({ title: stem(file.name), text: await file.text() })));
    put([...documents.filter((one) => one.text.trim() !== ""), ...read]);
  };
  return (
    <div
      class={over.value ? "live-drop live-over" : "live-drop"}
      onDragOver={(event) => {
        event.preventDefault();
        over.value = true;
      }}
      onDragLeave={() => (over.value = false)}
      onDrop={(event) => void drop(event)}
    >
      <ol class="live-list" aria-label="Documents">
        {documents.map((one, i) => (
          <li key={i}>
            <div class="live-row">
              <input
                aria-label={`Title of document ${i + 1}`}
                placeholder={`Document ${i + 1}: title (optional)`}
                value={one.title}
                onInput={(event) => change(i, { title: event.currentTarget.value })}
              />
              <Order
                what={`document ${i + 1}`}
                index={i}
                count={documents.length}
                onMove={(by) => put(moved(documents, i, by))}
                onRemove={() => put(documents.filter((_, j) => j !== i))}
              />
            </div>
            <textarea
              aria-label={`Text of document ${i + 1}`}
              placeholder="Paste a text, or drop text files here"
              rows={4}
              value={one.text}
              onInput={(event) => change(i, { text: event.currentTarget.value })}
            />
          </li>
        ))}
      </ol>
      <button type="button" onClick={() => put([...documents, { title: "", text: "" }])}>
        Add a document
      </button>
      <label class="live-question">
        Question
        <textarea rows={2} value={question} onInput={(event) => edit({ question: event.currentTarget.value })} />
      </label>
    </div>
  );
}

function stem(name: string): string {
  return name.replace(/\.[^.]+$/, "");
}
