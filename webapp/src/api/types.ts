/** What the server answers, as far as every door has it; shaped as its OpenAPI description. */

/** GET /api/session. */
export interface Session {
  door: "explore" | "serve";
  version: string;
  /** Goes with every request that changes something. */
  csrf: string;
  /** The source that the command line named. */
  opened: string | null;
}

/** Files of a source by their opaque ids, for /api/files/{id}; a flow by its own, for /api/flows/{id}. */
export interface SourceFiles {
  run?: string;
  cases?: string[];
  list?: string;
  flow?: string;
}

export interface Source {
  id: string;
  kind: "run" | "flow" | "list";
  name: string;
  bytes: number;
  files: SourceFiles;
}

/** GET /api/sources. */
export interface Sources {
  sources: Source[];
  /** What the reader should know about the list: that it was cut, say. */
  note: string | null;
}

/** The body of every answer that is an error. */
export interface ErrorBody {
  error: { code: string; message: string };
}

/** What a job tells, by the names of its events. */
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
