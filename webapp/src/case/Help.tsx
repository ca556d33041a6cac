/** The keyboard, in a dialog that `?` opens. */
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";

const KEYS: readonly (readonly [string, string])[] = [
  ["← →", "the token before, the token after"],
  ["Home  End", "the first token, the last"],
  ["Enter  Space", "keep the token; again: let it go"],
  ["Shift + ← →", "keep several tokens"],
  ["Esc", "the whole answer, nothing selected"],
  ["Tab", "answer, controls, bars, prompt, map"],
  ["↑ ↓  Page ↑ ↓", "on the map: through the prompt"],
  ["j  k", "the next case, the one before"],
  ["?", "this list"],
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
