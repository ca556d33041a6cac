/** Up, down, away: for the elements of a list. */

import type { JSX } from "preact";

/** Three buttons that say what they move. */
export function Order(props: {
  what: string;
  index: number;
  count: number;
  onMove: (by: 1 | -1) => void;
  onRemove: () => void;
}): JSX.Element {
  const { what, index, count } = props;
  return (
    <span class="live-order">
      <button type="button" aria-label={`Move ${what} up`} disabled={index === 0} onClick={() => props.onMove(-1)}>
        ↑
      </button>
      <button type="button" aria-label={`Move ${what} down`} disabled={index === count - 1} onClick={() => props.onMove(1)}>
        ↓
      </button>
      <button type="button" aria-label={`Remove ${what}`} onClick={props.onRemove}>
        ×
      </button>
    </span>
  );
}
