/** The flow inside an exported page. */
import { deferred } from "./deferred";
import { MemoryFlow, PackedRows } from "./memory";
import { type FlowSource, UserError } from "./types";
import { readViewFile } from "./view";

/** The flow of <script type="application/octet-stream" id="view">; null if the page has none.
 *
 * It is unpacked on first use, so that its errors are shown like others.
 */
export function embeddedFlow(): FlowSource | null {
  const element = document.getElementById("view");
  if (element === null || element.getAttribute("type") !== "application/octet-stream") return null;
  return deferred(async () => {
    const { view, rows } = readViewFile(fromBase64(element.textContent ?? ""));
    if (!rows) throw new UserError("This page carries no scores: export it again.");
    return new MemoryFlow(view, new PackedRows(rows, view.ends.length));
  });
}

function fromBase64(text: string): Uint8Array {
  let binary: string;
  try {
    binary = atob(text); // ignores white space
  } catch (error) {
    throw new UserError("The data in this page is damaged: export it again.", { cause: error });
  }
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}
