/** The file name of a case's token-level flow, as in attributor/eval/store.py. */

import { sha256 } from "./sha256";

const PLAIN = /^[A-Za-z0-9_-]$/;
const LONGEST = 100;

/** The name within "flows/". Characters other than letters, digits, - and _ become %xx. Ids that are long, have capitals, or exceed U+00FF get a hash. */
export function flowName(id: string): string {
  let plain = "";
  for (const character of id) {
    plain += PLAIN.test(character) ? character : `%${character.codePointAt(0)!.toString(16).padStart(2, "0")}`;
  }
  // With more than two digits the end of %xx is ambiguous: "แ" and "ä1" would both be %e41.
  if (plain.length > LONGEST || plain !== plain.toLowerCase() || /[^\u0000-\u00ff]/.test(id)) {
    plain = `${plain.slice(0, 80)}-${sha256(bytesOf(id)).slice(0, 12)}`;
  }
  return `${plain}.safetensors`;
}

/** UTF-8, in which a lone surrogate is three bytes, like Python's "surrogatepass". */
function bytesOf(text: string): Uint8Array {
  const encoder = new TextEncoder();
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (code >= 0xd800 && code <= 0xdfff) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}
