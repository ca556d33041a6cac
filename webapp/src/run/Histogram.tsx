import type { JSX } from "preact";
import { count } from "../ui/format";
import { BIN_LABELS } from "./ranks";

interface Props {
  counts: readonly number[];
  n: number;
  unit: "sentence" | "document";
  method: string;
}

const WIDTH = 320;
const HEIGHT = 150;
const FOOT = 22;
const HEAD = 18;

/** The rank of the first gold piece as bars, and as text for screen readers. */
export function Histogram({ counts, n, unit, method }: Props): JSX.Element | null {
  if (n === 0) return null;
  let largest = 1e-9;
  for (const value of counts) largest = Math.max(largest, value);
  const step = WIDTH / counts.length;
  const room = HEIGHT - FOOT - HEAD;
  // Expected values over ties, so not always whole numbers.
  const text = (value: number) => (value > 0 && value < 0.5 ? "<1" : count(Math.round(value)));
  const words = counts.map((value, i) => `rank ${BIN_LABELS[i]}: ${text(value)}`).join(", ");
  return (
    <figure class="run-histogram">
      <figcaption>
        <h2>Rank of the first gold {unit}</h2>
        <p class="soft">
          {method}, {count(n)} cases
        </p>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Cases by the rank of the first gold ${unit}: ${words}.`}>
        {counts.map((value, i) => {
          const height = (value / largest) * room;
          return (
            <g key={BIN_LABELS[i]}>
              <rect x={i * step + 3} y={HEAD + room - height} width={step - 6} height={Math.max(height, value > 0 ? 1 : 0)} rx={2} />
              <text x={(i + 0.5) * step} y={HEAD + room - height - 5}>
                {text(value)}
              </text>
              <text class="run-tick" x={(i + 0.5) * step} y={HEIGHT - 5}>
                {BIN_LABELS[i]}
              </text>
            </g>
          );
        })}
        <line x1={0} x2={WIDTH} y1={HEAD + room + 0.5} y2={HEAD + room + 0.5} />
      </svg>
    </figure>
  );
}
