/** Detects the kind of a file from its content, not its name. */

import type { Bytes } from "../model/bytes";
import { headerLength, parseHeader } from "../model/header";
import { UserError } from "../model/types";
import { isObject } from "../run/summary";

/** A kind that can be opened, or the end of a sentence that says what the file seems to be. */
export type Kind = { kind: "flow" | "run" | "cases" | "list" } | { kind: "unknown"; looks: string };

/** The end of messages about files that cannot be opened. */
export const WHAT_OPENS =
  "What can be opened: the folder of an evaluation run or its cases.jsonl, a flow file (.safetensors, from flow.save), and a JSON list of attributed documents.";

const HEAD = 64 * 1024;
const LONG_HEAD = 4 * 1024 * 1024;

/** Detect the kind from the start of a file. */
export async function kindOf(bytes: Bytes, name: string): Promise<Kind> {
  if (bytes.size === 0) return unknown("is empty");
  const head = await bytes.read(0, Math.min(HEAD, bytes.size));
  // A safetensors header is JSON after eight bytes of length, the last of which are 0 in any real file.
  if (head.length > 8 && head[8] === 0x7b && head[7] === 0 && head[6] === 0) return safetensors(bytes, head, name);
  const binary = binaryKind(head);
  if (binary !== null) return unknown(binary);
  const text = new TextDecoder().decode(head).replace(/^\ufeff/, "").trimStart();
  if (text.startsWith("[")) return { kind: "list" };
  if (text.startsWith("{")) return object(bytes, text, head.length);
  if (/^<(!doctype|html|\?xml|svg)/i.test(text)) {
    return unknown("is a web page or XML; a page that was exported here opens by itself in the browser");
  }
  return unknown(/\.csv$/i.test(name) ? "is a table (CSV)" : "looks like plain text");
}

async function safetensors(bytes: Bytes, head: Uint8Array, name: string): Promise<Kind> {
  try {
    const length = headerLength(head, bytes.size, name);
    const header = parseHeader(await bytes.read(8, 8 + length), bytes.size, name);
    const format = header.metadata.get("format") ?? "";
    if (format === "attributor.flow") return { kind: "flow" };
    return unknown(format ? `is a safetensors file of another kind (${format.slice(0, 40)})` : "is a safetensors file of some other program, a model's weights perhaps");
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return unknown("begins like a safetensors file and is damaged or cut off");
  }
}

async function object(bytes: Bytes, text: string, read: number): Promise<Kind> {
  if (/"format"\s*:\s*"attributor\.run"/.test(text)) return { kind: "run" };
  let lines = text;
  if (!text.includes("\n") && read < bytes.size) {
    lines = new TextDecoder().decode(await bytes.read(0, Math.min(LONG_HEAD, bytes.size)));
  }
  const end = lines.indexOf("\n");
  try {
    const first: unknown = JSON.parse(end < 0 ? lines : lines.slice(0, end));
    if (isObject(first) && typeof first["id"] === "string" && ("methods" in first || "status" in first)) return { kind: "cases" };
    if (isObject(first) && "case" in first) return unknown("has one attribution a line; put them into one JSON list");
  } catch {
    // The line is longer than the bytes read, or the object has several lines.
    if (/^\{"id":/.test(text) && text.includes('"status":')) return { kind: "cases" };
  }
  if (/"case"\s*:\s*\{/.test(text)) return { kind: "list" };
  return unknown("is JSON of some other kind");
}

function binaryKind(head: Uint8Array): string | null {
  const begins = (...bytes: number[]) => bytes.every((byte, i) => head[i] === byte);
  if (begins(0x50, 0x4b)) return "is a zip archive; unpack it first";
  if (begins(0x1f, 0x8b)) return "is compressed (gzip); unpack it first";
  if (begins(0x25, 0x50, 0x44, 0x46)) return "is a PDF";
  if (begins(0x89, 0x50, 0x4e, 0x47) || begins(0xff, 0xd8, 0xff)) return "is a picture";
  return head.includes(0) ? "is binary data of some other kind" : null;
}

function unknown(looks: string): Kind {
  return { kind: "unknown", looks };
}
