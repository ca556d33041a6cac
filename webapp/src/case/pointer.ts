/** Finds the unit of the prompt under a point on the screen. */
import type { Chunk, Layout } from "./layout";

/** The unit whose character is under the point; -1 if there is no text (margins, line ends). */
export function unitUnder(x: number, y: number, layout: Layout): number {
  const caret = caretAt(x, y);
  const element = caret?.node.parentElement?.closest<HTMLElement>("[data-chunk]");
  if (!caret || !element || caret.node.nodeType !== Node.TEXT_NODE) return -1;
  const chunk = layout.chunks[Number(element.dataset.chunk)];
  if (!chunk) return -1;
  // The caret is at the nearer edge of the character, so the character is the one before or after it.
  for (const at of [caret.offset, caret.offset - 1]) {
    if (covers(caret.node, at, x, y)) return layout.unitAt(indexOf(chunk, element, caret.node, at));
  }
  return -1;
}

function caretAt(x: number, y: number): { node: Node; offset: number } | null {
  if (typeof document.caretPositionFromPoint === "function") {
    const at = document.caretPositionFromPoint(x, y);
    return at && { node: at.offsetNode, offset: at.offset };
  }
  const range = document.caretRangeFromPoint?.(x, y); // Safari
  return range ? { node: range.startContainer, offset: range.startOffset } : null;
}

function covers(node: Node, offset: number, x: number, y: number): boolean {
  if (offset < 0 || offset >= (node.nodeValue ?? "").length) return false;
  const range = document.createRange();
  range.setStart(node, offset);
  range.setEnd(node, offset + 1);
  for (const box of range.getClientRects()) {
    const slack = box.height / 4; // count half of the space between lines to the line
    if (x >= box.left && x <= box.right && y >= box.top - slack && y <= box.bottom + slack) return true;
  }
  return false;
}

/** The index in view.text of a character of a chunk. The chunk may be cut into spans. */
export function indexOf(chunk: Chunk, element: HTMLElement, node: Node, offset: number): number {
  let before = 0;
  const child = node.parentNode === element ? node : node.parentNode;
  for (let sibling = child?.previousSibling; sibling; sibling = sibling.previousSibling) before += (sibling.textContent ?? "").length;
  return chunk.start + before + offset;
}
