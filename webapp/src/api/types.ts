/** What the server answers, under the names that the page has for it; the shapes are those of its OpenAPI description. */
import type { components } from "./schema";

type Schemas = components["schemas"];

/** GET /api/session. */
export type Session = Schemas["Session"];
/** GET /api/sources. */
export type Sources = Schemas["SourceList"];
export type Source = Schemas["SourceInfo"];
/** Files of a source by their opaque ids, for /api/files/{id}; a flow by its own, for /api/flows/{id}. */
export type SourceFiles = Schemas["SourceFiles"];
/** The body of every answer that is an error. */
export type ErrorBody = Schemas["ErrorBody"];

/** What a job tells, by the names of its events; OpenAPI has no words for streams, so this is written by hand. */
export interface JobEvents {
  /** How many jobs are in front of it. */
  queued: { position: number };
  stage: { stage: string; label: string; done: number | null; total: number | null };
  token: { text: string };
  done: { run: string | null; flow: string | null };
  failed: { code: string; message: string };
  cancelled: Record<string, never>;
}

export type JobHandlers = { [E in keyof JobEvents]?: (data: JobEvents[E]) => void };
