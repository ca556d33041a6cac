/** Buttons to move and remove the elements of a list. */

import type { JSX } from "preact";

/** Three labelled buttons. The focus follows a moved element, and stays in the list after a removal. */
export function Order(props: {
  what: string;
  index: number;
  count: number;
  onMove: (by: 1 | -1) => void;
  onRemove: () => void;
}): JSX.Element {
  const { index, count } = props;
  const move = (event: Event, by: 1 | -1): void => {
    const list = listOf(event);
    props.onMove(by);
    focusLater(list, index + by, by < 0 ? [0, 1] : [1, 0]);
  };
  const remove = (event: Event): void => {
    const list = listOf(event);
    props.onRemove();
    focusLater(list, Math.min(index, count - 2), [2]);
  };
  return (
    <span class="live-order">
      <button type="button" aria-label={`Move ${props.what} up`} disabled={index === 0} onClick={(event) => move(event, -1)}>
        ↑
      </button>
      <button type="button" aria-label={`Move ${props.what} down`} disabled={index === count - 1} onClick={(event) => move(event, 1)}>
        ↓
      </button>
      <button type="button" aria-label={`Remove ${props.what}`} onClick={remove}>
        ×
      </button>
    </span>
  );
}

function listOf(event: Event): Element | null {
  return (event.currentTarget as Element).closest(".live-list");
}

/** After the next render, focuses the first enabled one of these buttons of the element at `index`. */
function focusLater(list: Element | null, index: number, buttons: number[]): void {
  requestAnimationFrame(() => {
    const found = list?.children[Math.max(0, index)]?.querySelectorAll<HTMLButtonElement>(".live-order button");
    const usable = buttons.map((at) => found?.[at]).find((button) => button && !button.disabled);
    usable?.focus();
  });
}

/** After the next render, focuses the text field of the last element. */
export function focusLast(event: Event): void {
  const panel = (event.currentTarget as Element).closest(".live-panel");
  requestAnimationFrame(() => panel?.querySelector<HTMLElement>(".live-list > li:last-child textarea")?.focus());
}
