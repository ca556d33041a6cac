/** What the serve door asks and answers, from the server's OpenAPI description. */

import type { components } from "../api/schema";

type Schemas = components["schemas"];

export type ModelState = Schemas["ModelState"];
export type LoadRequest = Schemas["LoadRequest"];
export type RunInfo = Schemas["RunInfo"];
export type Runs = Schemas["Runs"];
export type Count = Schemas["Counted"];
export type Message = Schemas["Message"];
export type Document = Schemas["Document"];
/** With every field that has a default in it. */
export type RunRequest = Required<Omit<Schemas["RunRequest"], "model">> & Pick<Schemas["RunRequest"], "model">;
export type WeightsName = RunRequest["weights"];
export type Role = Message["role"];
export type JobStarted = Schemas["JobStarted"];
