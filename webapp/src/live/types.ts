/** Request and response types of `attributor serve`, from the server's OpenAPI description. */

import type { components } from "../api/schema";

type Schemas = components["schemas"];

export type ModelState = Schemas["ModelState"];
export type LoadRequest = Schemas["LoadRequest"];
export type RunInfo = Schemas["RunInfo"];
export type Runs = Schemas["Runs"];
export type Count = Schemas["Counted"];
export type Message = Schemas["Message"];
export type Document = Schemas["Document"];
/** With all fields, including those that have a default. */
export type RunRequest = Required<Omit<Schemas["RunRequest"], "model">> & Pick<Schemas["RunRequest"], "model">;
export type WeightsName = RunRequest["weights"];
export type Role = Message["role"];
export type JobStarted = Schemas["JobStarted"];
