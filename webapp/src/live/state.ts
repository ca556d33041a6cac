/** What the live page knows: the model, the job that runs, the runs that are kept. One set a tab. */

import { batch, computed, effect, signal } from "@preact/signals";

import { api, ApiError, events } from "../api/client";
import { UserError } from "../model/types";
import { type Draft, request, store, stored } from "./draft";
import { followed, forget, remember } from "./memory";
import type { Count, JobStarted, LoadRequest, ModelState, Runs } from "./types";

/** What a job is for: a model, a run of the draft, or a recorded run under other weights. */
export type Kind = "load" | "run" | "weigh";

export interface Job {
  id: string;
  kind: Kind;
  /** How many jobs are in front of it; 0 once it runs. */
  position: number;
  label: string;
  done: number;
  /** 0 where nobody knows how much there is to do. */
  total: number;
  /** What the model has written so far. */
  written: string;
  cancelling: boolean;
}

export const model = signal<ModelState | null>(null);
export const runs = signal<Runs | null>(null);
export const job = signal<Job | null>(null);
export const draft = signal<Draft>(stored());
export const count = signal<Count | null>(null);
/** A sentence for the user, what it is about, and the server's code for it ("" where it is not the server's). */
export const failure = signal<{ about: About; message: string; code: string } | null>(null);
export type About = Kind | "list" | "files";
/** What was asked for when a model was last to be loaded, until it is there: whoever mistyped corrects it. */
export const wanted = signal<LoadRequest | null>(null);
/** The run that a job of this tab just brought, until the page has gone there. */
export const arrived = signal<string | null>(null);
export const ready = computed(() => model.value?.state === "ready");
/** Whether another model takes the place of this one: from the request until the server's state is read again. */
const replacing = signal(false);
/** Which model counts tokens; null where there is none, or where it is being replaced. */
const counter = computed(() => {
  const now = model.value;
  return now?.state === "ready" && !replacing.value ? JSON.stringify([now.id, now.revision, now.max_tokens]) : null;
});

/** Change a part of the draft. */
export function edit(more: Partial<Draft>): void {
  draft.value = { ...draft.value, ...more };
}

/** Read what the server knows, and keep the draft and its count of tokens up to date; returns how to stop that.
 *
 * A job that this tab followed before it was loaded anew is followed again; `opened` gets the run that comes of it.
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

/** Count the draft's tokens a moment after the last change of the draft or of the model; only the newest answer is used.
 *
 * No count is requested while a model is loaded, and one on its way is given up: the server has no model to count with.
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
      if (!mine.signal.aborted) count.value = null; // the same sentence comes, and is shown, when it is run
    }
  }, 350);
}

/** Read the model's state and the list of runs again; a load that runs already, from another tab, is followed. */
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
    if (ticket !== reads) return; // what was asked later is newer
    batch(() => {
      model.value = state;
      runs.value = list;
      if (failure.value?.about === "list") failure.value = null; // the server answers again
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

/** The same recording with other heads, as a new run. */
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

/** Forget a run. */
export async function remove(id: string): Promise<void> {
  try {
    await api.delete(`/api/runs/${encodeURIComponent(id)}`);
    await refresh();
  } catch (error) {
    tell("list", error);
  }
}

/** Stop the job that runs or waits. */
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
    if (!(again && error instanceof ApiError && error.status === 404)) tell(kind, error); // of a server before this one
  });
}

/** Where no load is under way any more, the model that `model` names is the server's. */
function settle(): void {
  if (job.value?.kind !== "load") replacing.value = false;
}

function tell(about: About, error: unknown): void {
  const message = error instanceof UserError ? error.message : "Something went wrong in this page: load it again.";
  if (!(error instanceof UserError)) console.error(error);
  failure.value = { about, message, code: error instanceof ApiError ? error.code : "" };
}
