/** The state of the live page: the model, the running job, the stored runs. One set for each tab. */

import { batch, computed, effect, signal } from "@preact/signals";

import { api, ApiError, events } from "../api/client";
import { UserError } from "../model/types";
import { type Draft, request, store, stored } from "./draft";
import { followed, forget, remember } from "./memory";
import type { Count, JobStarted, LoadRequest, ModelState, Runs } from "./types";

/** The kinds of jobs: load a model, run the draft, recompute a recorded run with other weights. */
export type Kind = "load" | "run" | "weigh";

export interface Job {
  id: string;
  kind: Kind;
  /** The number of jobs before it; 0 once it runs. */
  position: number;
  label: string;
  done: number;
  /** 0 if the amount of work is unknown. */
  total: number;
  /** The text that the model has written so far. */
  written: string;
  cancelling: boolean;
}

export const model = signal<ModelState | null>(null);
export const runs = signal<Runs | null>(null);
export const job = signal<Job | null>(null);
export const draft = signal<Draft>(stored());
export const count = signal<Count | null>(null);
/** An error for the user: its subject, a sentence, and the server's code ("" if it is not the server's error). */
export const failure = signal<{ about: About; message: string; code: string } | null>(null);
export type About = Kind | "list" | "files";
/** The last request to load a model, until it is loaded. The form shows it again, so that a typing error can be corrected. */
export const wanted = signal<LoadRequest | null>(null);
/** The run that a job of this tab just finished, until the page shows it. */
export const arrived = signal<string | null>(null);
export const ready = computed(() => model.value?.state === "ready");
/** True while another model replaces this one: from the request until the server's state is read again. */
const replacing = signal(false);
/** Identifies the model that counts tokens; null without a model, or while it is being replaced. */
const counter = computed(() => {
  const now = model.value;
  return now?.state === "ready" && !replacing.value ? JSON.stringify([now.id, now.revision, now.max_tokens]) : null;
});

/** Change a part of the draft. */
export function edit(more: Partial<Draft>): void {
  draft.value = { ...draft.value, ...more };
}

/** Read the server's state, store the draft on changes, and count its tokens. Returns a function that stops this.
 *
 * A job that this tab followed before the page was reloaded is followed again. `opened` gets its run.
 */
export function start(opened: (id: string) => void): () => void {
  const before = followed();
  if (before !== null && job.value === null) follow(before.id, before.kind, opened, true);
  void refresh();
  const stops = [effect(keep), effect(recount)];
  const again = (): void => void (document.visibilityState === "visible" && refresh());
  document.addEventListener("visibilitychange", again); // another tab may have loaded a model, or added runs
  window.addEventListener("focus", again);
  return () => {
    stops.forEach((stop) => stop());
    document.removeEventListener("visibilitychange", again);
    window.removeEventListener("focus", again);
  };
}

function keep(): void {
  const now = draft.value;
  clearTimeout(keeping);
  keeping = setTimeout(() => store(now), 300);
}
let keeping: ReturnType<typeof setTimeout> | undefined;

let counting: ReturnType<typeof setTimeout> | undefined;
let newestCount = new AbortController();

/** Count the draft's tokens 350 ms after the last change of the draft or the model. Only the newest response is used.
 *
 * While a model is loading there is no model to count with: no count is requested, and a running request is aborted.
 */
function recount(): void {
  const { messages, documents, question, answer } = request(draft.value);
  const written = messages.length > 0 || documents.length > 0 || (question ?? "").trim() !== "";
  clearTimeout(counting);
  newestCount.abort();
  if (counter.value === null || !written) {
    count.value = null;
    return;
  }
  const mine = (newestCount = new AbortController());
  counting = setTimeout(async () => {
    try {
      const filled = answer !== null && answer.trim() !== "" ? answer : null;
      const body = { messages, documents, question, answer: filled };
      const answered = await api.post<Count>("/api/count", body, mine.signal);
      if (!mine.signal.aborted) count.value = answered;
    } catch {
      if (!mine.signal.aborted) count.value = null; // a run reports the same error
    }
  }, 350);
}

/** Read the model's state and the list of runs again. Follow a load that another tab started. */
export function refresh(): Promise<void> {
  const mine: Promise<void> = read().then((): Promise<void> | undefined => (mine === newest ? undefined : newest));
  newest = mine;
  return mine;
}
let newest: Promise<void> = Promise.resolve();
let reads = 0;

async function read(): Promise<void> {
  const ticket = ++reads;
  try {
    const [state, list] = await Promise.all([api.get<ModelState>("/api/model"), api.get<Runs>("/api/runs")]);
    if (ticket !== reads) return; // a later request has newer data
    batch(() => {
      model.value = state;
      runs.value = list;
      if (failure.value?.about === "list") failure.value = null; // the server responds again
    });
    if (state.state === "loading" && state.job !== null && job.value === null) follow(state.job, "load");
  } catch (error) {
    if (ticket === reads) tell("list", error);
  }
}

/** Start loading a model. */
export async function load(asked: LoadRequest): Promise<void> {
  wanted.value = asked;
  replacing.value = true;
  await submit("load", "/api/model", asked);
  settle();
}

/** Start a run of the draft; `opened` is called with its id once it is done. */
export async function run(opened: (id: string) => void): Promise<void> {
  await submit("run", "/api/runs", { ...request(draft.value), model: model.value?.id ?? null }, opened);
}

/** Recompute the flow of a recording through other heads, as a new run. */
export async function weigh(
  id: string,
  chosen: { weights: string | null; heads: [number, number][] | null },
  opened: (id: string) => void,
): Promise<void> {
  if (job.value !== null) {
    const message = "This tab still waits for another answer: let it end, or cancel it.";
    failure.value = { about: "weigh", message, code: "" };
    return;
  }
  await submit("weigh", `/api/runs/${encodeURIComponent(id)}/weigh`, chosen, opened);
}

/** Remove a run from the server. */
export async function remove(id: string): Promise<void> {
  try {
    await api.delete(`/api/runs/${encodeURIComponent(id)}`);
    await refresh();
  } catch (error) {
    tell("list", error);
  }
}

/** Cancel the running or waiting job. */
export async function cancel(): Promise<void> {
  const now = job.value;
  if (now === null || now.cancelling) return;
  job.value = { ...now, cancelling: true };
  try {
    await api.delete(`/api/jobs/${encodeURIComponent(now.id)}`);
  } catch (error) {
    job.value = null;
    tell(now.kind, error);
  }
}

async function submit(kind: Job["kind"], path: string, body: object, opened?: (id: string) => void): Promise<void> {
  failure.value = null;
  try {
    const accepted = await api.post<JobStarted>(path, body);
    follow(accepted.job, kind, opened);
  } catch (error) {
    tell(kind, error);
  }
}

function follow(id: string, kind: Kind, opened?: (id: string) => void, again = false): void {
  job.value = { id, kind, position: 0, label: "Starting", done: 0, total: 0, written: "", cancelling: false };
  if (kind === "load") replacing.value = true;
  remember(id, kind);
  const change = (more: Partial<Job>): void => {
    const now = job.value;
    if (now?.id === id) job.value = { ...now, ...more };
  };
  const end = (): Promise<void> => {
    if (job.value?.id === id) job.value = null;
    forget(id);
    return refresh().then(settle);
  };
  void events(id, {
    queued: ({ position }) => {
      if (position > 0) change({ position, label: `Waiting behind ${position} other${position === 1 ? "" : "s"}` });
    },
    stage: ({ label, done, total }) => change({ position: 0, label, done: done ?? 0, total: total ?? 0 }),
    token: ({ text }) => change({ written: (job.value?.written ?? "") + text }),
    done: ({ run: made }) => {
      if (kind === "load") wanted.value = null;
      void end().then(() => {
        if (!made || !opened) return;
        arrived.value = made;
        opened(made);
      });
    },
    failed: ({ code, message }) => {
      failure.value = { about: kind, message, code };
      void end();
    },
    cancelled: () => void end(),
  }).catch((error: unknown) => {
    void end();
    if (!(again && error instanceof ApiError && error.status === 404)) tell(kind, error); // 404: the stored job belongs to an earlier server
  });
}

/** Once no load is running, `model` is the server's model again. */
function settle(): void {
  if (job.value?.kind !== "load") replacing.value = false;
}

function tell(about: About, error: unknown): void {
  const message = error instanceof UserError ? error.message : "Something went wrong in this page: load it again.";
  if (!(error instanceof UserError)) console.error(error);
  failure.value = { about, message, code: error instanceof ApiError ? error.code : "" };
}
