/** Makes a one-file page from this bundle and a view. It opens from disk without a network. */

import { api } from "../api/client";
import { escaped } from "../model/text";
import { UserError } from "../model/types";

const SCRIPT = "/static/app.js";
const STYLE = "/static/app.css";
const UTF8 = new TextDecoder();

/** The page as text.
 *
 * @param title - shown by the browser.
 * @param view - bytes of a view file.
 */
export async function standalone(title: string, view: Uint8Array): Promise<string> {
  const [script, style] = await Promise.all([own("script", "script[type=module]", SCRIPT), own("style", "style", STYLE)]);
  const policy =
    `default-src 'none'; img-src data: blob:; style-src '${await hash(style)}'; ` +
    `script-src '${await hash(script)}'; base-uri 'none'; form-action 'none'`;
  return [
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark"><meta name="generator" content="attributor">',
    `<link rel="icon" href="data:,"><title>${escaped(title)}</title><style>${style}</style></head>`,
    '<body><div id="app"></div>',
    "<noscript>This page draws itself with its own script; nothing is loaded from anywhere.</noscript>",
    `<script type="application/octet-stream" id="view">${base64(view)}</script>`,
    `<script type="module">${script}</script></body></html>`,
  ].join("\n");
}

/** This page's script or style: the inline element in an exported page, otherwise the file on the server. */
async function own(element: "script" | "style", selector: string, path: string): Promise<string> {
  const exported = document.getElementById("view") !== null;
  const text = exported ? (document.querySelector(selector)?.textContent ?? "") : UTF8.decode(await api.bytes(path));
  // The closing tag ends an inline element, except in a script after the start of an HTML comment, so neither may occur in
  // the code. This function is itself part of the code, so the pattern must not match itself.
  if (new RegExp(`</${element}|<!-{2}`, "i").test(text)) throw new UserError("This build cannot be put into a page: its code ends its own element.");
  return text;
}

async function hash(code: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(code));
  return `sha256-${base64(new Uint8Array(digest))}`;
}

/** Base64 in pieces, because a call with a hundred thousand arguments would overflow the stack. */
export function base64(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let i = 0; i < bytes.length; i += 24_576) {
    parts.push(btoa(String.fromCharCode(...bytes.subarray(i, i + 24_576))));
  }
  return parts.join("");
}
