"""Estimate the highest possible LDS from the cases of a run.

    attributor eval hotpotqa FILE --max-tokens 1900 --faithfulness --masks 64 --methods contextcite:128,removal-gradient
        --out RUN
    python bench/ceiling.py RUN

Prints the LDS of the run's methods and of ContextCite, fitted to one half of the random sets and measured on the other
half, in both directions.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from effects import format_interval, read_cases, read_removals

from attributor.eval.metrics import linear_datamodeling_score
from attributor.methods.contextcite import fit_lasso, logit

PENALTY = 0.01  # of the lasso, as in the method contextcite


def main(run: Path) -> None:
    """Print a Markdown table."""
    rows: dict[str, list[float]] = defaultdict(list)
    for case in read_cases([run]):
        for name, value in case["faithfulness"]["lds"].items():
            rows[name].append(np.nan if value is None else value)
        sets, log_probs, _ = read_removals(case)
        middle = len(sets) // 2
        halves = []
        for fitted, measured in ((slice(middle), slice(middle, None)), (slice(middle, None), slice(middle))):
            weights = fit_lasso(sets[fitted], logit(log_probs[fitted]) / case["answer_tokens"], PENALTY)
            lds = linear_datamodeling_score(weights.numpy(), sets[measured].numpy(), log_probs[measured].numpy())
            halves.append(np.nan if lds is None else lds)
        rows["one half of the sets against the other"].append(float(np.mean(halves)))
    print("| method | LDS | rows |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {format_interval(values)} | {len(values)} |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/ceiling.py RUN")
    main(Path(sys.argv[1]))
