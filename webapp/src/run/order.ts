/** Sorts parts in reading order: cases.jsonl, then cases.0.jsonl, cases.1.jsonl ... */
export function inOrder<P extends { name: string }>(parts: readonly P[]): P[] {
  return [...parts].sort((a, b) => {
    if (a.name === "cases.jsonl" || b.name === "cases.jsonl") return a.name === b.name ? 0 : a.name === "cases.jsonl" ? -1 : 1;
    return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
  });
}
