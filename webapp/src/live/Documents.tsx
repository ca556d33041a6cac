/** The documents of a prompt: paste, drop, open, move, remove. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";

import { moved } from "./draft";
import { readDocuments } from "./files";
import { focusLast, Order } from "./Order";
import { draft, edit, failure } from "./state";
import type { Document } from "./types";

/** The list of documents, and the question about them. */
export function Documents(): JSX.Element {
  const { documents, question } = draft.value;
  const over = useSignal(false);
  const put = (list: Document[]): void => edit({ documents: list.length > 0 ? list : [{ title: "", text: "" }] });
  const change = (at: number, more: Partial<Document>): void =>
    put(documents.map((one, i) => (i === at ? { ...one, ...more } : one)));
  const open = async (files: File[]): Promise<void> => {
    if (files.length === 0) return;
    const read = await readDocuments(files);
    if (typeof read === "string") {
      failure.value = { about: "files", message: read, code: "" };
      return;
    }
    if (failure.value?.about === "files") failure.value = null;
    put([...draft.value.documents.filter((one) => one.text.trim() !== ""), ...read]);
  };
  return (
    <div
      class={over.value ? "live-drop live-over" : "live-drop"}
      onDragOver={(event) => {
        event.preventDefault();
        over.value = true;
      }}
      onDragLeave={() => (over.value = false)}
      onDrop={(event) => {
        event.preventDefault();
        over.value = false;
        void open([...(event.dataTransfer?.files ?? [])]);
      }}
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
      <div class="live-row">
        <button
          type="button"
          onClick={(event) => {
            put([...documents, { title: "", text: "" }]);
            focusLast(event);
          }}
        >
          Add a document
        </button>
        <label class="live-file">
          Open text files …
          <input
            type="file"
            multiple
            class="visually-hidden"
            onChange={(event) => {
              const input = event.currentTarget;
              void open([...(input.files ?? [])]).then(() => (input.value = "")); // lets the user choose the same file again
            }}
          />
        </label>
      </div>
      {failure.value?.about === "files" && (
        <p class="live-error" role="alert">
          {failure.value.message}
        </p>
      )}
      <label class="live-question">
        Question
        <textarea rows={2} value={question} onInput={(event) => edit({ question: event.currentTarget.value })} />
      </label>
    </div>
  );
}
