/** The client of the server's API. All requests of the page pass through it, except range requests for files. */
import { decode, type Tensor } from "../model/safetensors";
import { UserError } from "../model/types";
import { readEvents } from "./sse";
import type { ErrorBody, JobEvents, JobHandlers, Session } from "./types";

export type { JobEvents, JobHandlers, Session } from "./types";

/** An error response. Its message is the server's. */
export class ApiError extends UserError {
  /** "queue_full", "recording_gone" ...; "" if the response did not come from our server. */
  readonly code: string;
  /** The HTTP status. */
  readonly status: number;

  constructor(message: string, code: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** No response: the server was stopped, or the connection was cut. */
export class Unreachable extends UserError {}

let asked: Promise<Session> | null = null;
let door = "";

/** The kind of server (explore or serve) and its token. Fetched once. */
export function session(): Promise<Session> {
  const fresh = (asked ??= api.get<Session>("/api/session").then((found) => {
    if (found.door !== "explore" && found.door !== "serve") throw unreadable();
    return found;
  }));
  fresh.then(
    (found) => (door = ` ${found.door}`),
    () => {
      if (asked === fresh) asked = null; // the next call fetches it again
    },
  );
  return fresh;
}

/** Requests to paths under /api. They throw a UserError, whose message is shown to the user, or an AbortError. */
export const api = {
  /** GET a path that returns JSON. */
  async get<T>(path: string, signal?: AbortSignal): Promise<T> {
    const found = await json<T | undefined>(await send("GET", path, signal));
    if (found === undefined || found === null) throw unreadable();
    return found;
  },

  /** POST JSON. Returns the response's JSON, or undefined for an empty body. */
  async post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    return json<T>(await sendSafely("POST", path, JSON.stringify(body), signal));
  },

  async delete<T = unknown>(path: string, signal?: AbortSignal): Promise<T> {
    return json<T>(await sendSafely("DELETE", path, null, signal));
  },

  /** GET the bytes of a path. */
  async bytes(path: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const answer = await send("GET", path, signal);
    return new Uint8Array(await whole(answer.arrayBuffer()));
  },

  /** GET the tensors of a path that returns safetensors. */
  async tensors(path: string, signal?: AbortSignal): Promise<Map<string, Tensor>> {
    return decode(await api.bytes(path, signal), "The server's answer").tensors;
  },
};

/** Calls the handlers for each event of a job, from its start, until the job is over or the signal is aborted.
 *
 * A broken connection is opened again. The server then sends all events from the start; those already handled are skipped.
 * Throws a UserError if the job is unknown or the server stays unreachable.
 */
export async function events(job: string, handlers: JobHandlers, signal?: AbortSignal): Promise<void> {
  const over = new Set(["done", "failed", "cancelled"]);
  let told = 0;
  for (let tries = 0; !signal?.aborted; tries++) {
    let count = 0;
    try {
      for await (const next of stream(`/api/jobs/${encodeURIComponent(job)}/events`, signal)) {
        if (++count <= told) continue;
        told = count;
        tries = 0;
        call(handlers, next.event, next.data);
        if (over.has(next.event)) return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof Unreachable) || tries >= RETRIES) throw error;
    }
    if (tries >= RETRIES) throw unreachable();
    await new Promise((resolve) => setTimeout(resolve, PAUSE * 2 ** tries));
  }
}

const RETRIES = 4;
const PAUSE = 250; // ms before the second try, doubled with each try
const NAMES: readonly string[] = ["queued", "stage", "token", "done", "failed", "cancelled"] satisfies (keyof JobEvents)[];

function call(handlers: JobHandlers, event: string, data: string): void {
  if (!NAMES.includes(event)) return; // an event of a newer server
  const handler = handlers[event as keyof JobEvents] as ((data: unknown) => void) | undefined;
  handler?.(JSON.parse(data));
}

async function* stream(path: string, signal?: AbortSignal): ReturnType<typeof readEvents> {
  const answer = await send("GET", path, signal, { Accept: "text/event-stream" });
  if (!answer.body) return;
  const events = readEvents(answer.body);
  try {
    for (;;) {
      const next = await whole(events.next());
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await events.return();
  }
}

/** Sends a request that changes something, with the token. Fetches a new token if the server was restarted. */
async function sendSafely(method: string, path: string, body: string | null, signal?: AbortSignal): Promise<Response> {
  const { csrf } = await session();
  const headers = (token: string): Record<string, string> =>
    body === null ? { "X-Attributor-Token": token } : { "X-Attributor-Token": token, "Content-Type": "application/json" };
  try {
    return await send(method, path, signal, headers(csrf), body);
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 403)) throw error;
    asked = null;
    const renewed = await session();
    if (renewed.csrf === csrf) throw error;
    return send(method, path, signal, headers(renewed.csrf), body);
  }
}

async function send(
  method: string,
  path: string,
  signal?: AbortSignal,
  headers: Record<string, string> = {},
  body: string | null = null,
): Promise<Response> {
  const answer = await whole(fetch(path, { method, headers, body, signal: signal ?? null, cache: "no-store" }));
  if (answer.ok) return answer;
  const error = await answer.json().then((found: Partial<ErrorBody> | null) => found?.error, () => undefined);
  const unsaid = `The server refused ${path.split("?")[0]} (status ${answer.status}).`;
  const message = typeof error?.message === "string" && error.message ? error.message : unsaid;
  throw new ApiError(message, typeof error?.code === "string" ? error.code : "", answer.status);
}

/** Waits for the network, and replaces the browsers' various network errors by one. */
async function whole<T>(waiting: Promise<T>): Promise<T> {
  try {
    return await waiting;
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw unreachable(error);
  }
}

function unreachable(cause?: unknown): Unreachable {
  return new Unreachable(`The server at this address does not answer; is \`attributor${door}\` still running?`, { cause });
}

function unreadable(cause?: unknown): UserError {
  return new UserError("The server's answer cannot be read; is another program at this address?", { cause });
}

async function json<T>(answer: Response): Promise<T> {
  const text = await whole(answer.text());
  try {
    return (text ? JSON.parse(text) : undefined) as T;
  } catch (error) {
    throw unreadable(error);
  }
}
