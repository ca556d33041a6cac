/** Names for the types of the server's responses. The shapes come from its OpenAPI description. */
import type { components } from "./schema";

type Schemas = components["schemas"];

/** GET /api/session. */
export type Session = Schemas["Session"];
/** GET /api/sources. */
export type Sources = Schemas["SourceList"];
export type Source = Schemas["SourceInfo"];
/** Files of a source by their opaque ids, for /api/files/{id}; flows by their ids, for /api/flows/{id}. */
export type SourceFiles = Schemas["SourceFiles"];
/** The body of an error response. */
export type ErrorBody = Schemas["ErrorBody"];

/** The data of a job's events, by event name. Written by hand, because OpenAPI cannot describe streams. */
export interface JobEvents {
  /** The number of jobs before it in the queue. */
  queued: { position: number };
  stage: { stage: string; label: string; done: number | null; total: number | null };
  token: { text: string };
  done: { run: string | null; flow: string | null };
  failed: { code: string; message: string };
  cancelled: Record<string, never>;
}

export type JobHandlers = { [E in keyof JobEvents]?: (data: JobEvents[E]) => void };
