/** Reads text files as documents. */

import { bytes } from "../ui/format";
import type { Document } from "./types";

const LARGEST = 8_000_000; // bytes: about twice the text of the longest context windows

/** One document for each file, with the file's name as title; or a sentence that says why a file cannot be one. */
export async function readDocuments(files: readonly File[]): Promise<Document[] | string> {
  const large = files.find((file) => file.size > LARGEST);
  if (large) return `${large.name} has ${bytes(large.size)}: a document may have ${bytes(LARGEST)}. Paste the part that matters.`;
  const found: Document[] = [];
  for (const file of files) {
    const text = decoded(new Uint8Array(await file.arrayBuffer()));
    if (text === null) return `${file.name} is no plain text. Save it as text, or copy its text and paste it.`;
    found.push({ title: file.name.replace(/\.[^.]+$/, ""), text });
  }
  return found;
}

/** Decodes UTF-8, or UTF-16 with a byte order mark; null if the data are not text. */
function decoded(data: Uint8Array<ArrayBuffer>): string | null {
  const mark = data[0] === 0xff && data[1] === 0xfe ? "utf-16le" : data[0] === 0xfe && data[1] === 0xff ? "utf-16be" : "utf-8";
  try {
    const text = new TextDecoder(mark, { fatal: true }).decode(data);
    return text.includes("\0") ? null : text.replace(/\r\n?/g, "\n");
  } catch {
    return null;
  }
}
