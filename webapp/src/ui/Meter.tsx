import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

interface Props {
  label: string;
  done: number;
  /** 0 if unknown. */
  total: number;
  cancel?: (() => void) | undefined;
}

const PATIENCE = 400; // ms; shorter work gets no progress bar

/** A progress bar with an optional stop button. It appears only after 400 ms. */
export function Meter({ label, done, total, cancel }: Props): JSX.Element | null {
  const [shown, show] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => show(true), PATIENCE);
    return () => clearTimeout(timer);
  }, []);
  if (!shown) return null;
  const share = total > 0 ? Math.min(1, done / total) : 0;
  return (
    <div class="ui-meter">
      <span>{label}</span>
      <progress {...(total > 0 ? { value: share, max: 1 } : {})} aria-label={label} />
      {total > 0 && <span class="soft">{Math.floor(share * 100)}%</span>}
      {cancel && (
        <button type="button" class="button" onClick={cancel}>
          Stop
        </button>
      )}
    </div>
  );
}
