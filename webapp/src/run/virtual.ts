/** The visible rows of a long table. Pure functions. */

/** Half-open rows [first, last) to draw: the visible ones, and a few more on both sides for fast scrolling. */
export function inSight(scroll: number, height: number, row: number, count: number, more = 8): { first: number; last: number } {
  const first = Math.max(0, Math.min(count, Math.floor(scroll / row) - more));
  const last = Math.max(first, Math.min(count, Math.ceil((scroll + height) / row) + more));
  return { first, last };
}

/** The scroll position at which a row is completely visible; unchanged if it already is. */
export function scrolledTo(index: number, scroll: number, height: number, row: number): number {
  const top = index * row;
  if (top < scroll) return top;
  if (top + row > scroll + height) return Math.max(0, top + row - height);
  return scroll;
}

/** The row that a key moves to; null for other keys. */
export function moved(key: string, index: number, count: number, page: number): number | null {
  const to = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: count - 1 }[key];
  return to === undefined || count === 0 ? null : Math.max(0, Math.min(count - 1, to));
}
