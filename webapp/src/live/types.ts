/** What the serve door answers; the same shapes as the server's OpenAPI description. */

export interface ModelState {
  state: "none" | "loading" | "ready" | "failed";
  id: string | null;
  revision: string | null;
  dtype: string | null;
  device_map: string | null;
  device: string | null;
  layers: number | null;
  heads: number | null;
  kv_heads: number | null;
  /** Tokens that the model can read; null where its configuration does not say. */
  window: number | null;
  max_tokens: number | null;
  parameters: number | null;
  weights: string[];
  default_model: string;
  dtypes: string[];
  device_maps: string[];
  job: string | null;
  error: string | null;
  /** Bytes. */
  memory: { budget: number; used: number; total: number };
}

export interface RunInfo {
  id: string;
  flow: string;
  title: string;
  model: string;
  weights: string;
  prompt_tokens: number;
  answer_tokens: number;
  created: string | number;
  bytes: number;
  /** Whether its recording is still there, from which the pictures of layers and heads are made. */
  recorded: boolean;
  heads: [number, number][] | null;
}

export interface Runs {
  runs: RunInfo[];
  budget: number;
  used: number;
}

export interface Count {
  prompt_tokens: number;
  answer_tokens: number;
  window: number | null;
  max_tokens: number | null;
}

export type Role = "system" | "user" | "assistant";

export interface Message {
  role: Role;
  content: string;
}

export interface Document {
  title: string;
  text: string;
}

export interface RunRequest {
  messages: Message[];
  documents: Document[];
  question: string | null;
  answer: string | null;
  max_new_tokens: number;
  weights: string;
}
