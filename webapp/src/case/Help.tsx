/** A dialog that lists the keys. `?` opens it. */
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";

const KEYS: readonly (readonly [string, string])[] = [
  ["← →", "previous token, next token"],
  ["Home  End", "first token, last token"],
  ["Enter  Space", "keep the token, or release it"],
  ["Shift + ← →", "keep several tokens"],
  ["Esc", "show the whole answer, select nothing"],
  ["Tab", "move through answer, options, bars, prompt and map"],
  ["↑ ↓  Page ↑ ↓", "on the map: scroll the prompt"],
  ["j  k", "next case, previous case"],
  ["?", "show these keys"],
];

export function Help({ open, onClose }: { open: boolean; onClose: () => void }): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const { current } = dialog;
    if (open && !current?.open) current?.showModal();
    if (!open && current?.open) current.close();
  }, [open]);
  return (
    <dialog ref={dialog} class="case-help" aria-labelledby="case-help-title" onClose={onClose} onClick={(event) => event.target === dialog.current && onClose()}>
      <h2 id="case-help-title">Keyboard</h2>
      <dl>
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>{key.split("  ").map((one) => <kbd key={one}>{one}</kbd>)}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <button type="button" class="button" onClick={onClose}>Close</button>
    </dialog>
  );
}
