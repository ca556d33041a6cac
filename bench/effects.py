"""Compare estimated removal effects with measured removals, from the cases of an evaluation run.

    attributor eval hotpotqa FILE --max-tokens 1100 --faithfulness --masks 80 --out RUN
        --methods flow:retrieval,removal-gradient,removal-gradient:suffix
    python bench/effects.py RUN ...

The run holds log p(answer) for 80 random sets of sentences per row. Sets 0 to 47 fit the methods that need measured
removals (ContextCite, ridge, the posterior of `attributor.effects`). Sets 48 to 79 measure every method by LDS, the
rank correlation of the scores' sums with log p. The last lines show how often the gradient has the sign of the removal
for the sentence that the run's first method ranks first. They also show the medians of the posterior's alpha and
tau / sigma, which attributor/_effects/posterior.py uses below 8 removals.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._effects.posterior import RATIOS, fit_posterior
from attributor.eval.metrics import linear_datamodeling_score, main_aggregation, mean_intervals
from attributor.eval.metrics.evidence import measure_case
from attributor.methods.contextcite import fit_lasso, logit

FITTED = 48  # sets for fitting; the others are for measuring
LDS, AP = "LDS", "AP"


def read_cases(runs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Return the finished rows of some runs."""
    for run in runs:
        with (run / "cases.jsonl").open(encoding="utf-8") as file:
            for line in file:
                case = json.loads(line)
                if case["status"] == "done":
                    yield case


def scores_of(case: dict[str, Any]) -> dict[str, Tensor]:
    """Return (S,) by method: the scores of the run and those fitted to its removals."""
    scores = {}
    for name, fields in case["methods"].items():
        by = fields["scores"]
        scores[name] = torch.tensor(by[main_aggregation(by)], dtype=torch.float64)
    sets, log_probs, full = read_removals(case)
    tokens = case["answer_tokens"]
    gradient = scores["removal-gradient"]
    intact = torch.ones(1, sets.shape[1], dtype=torch.bool)
    for count in (4, 8, 16, 32, 48):
        if count >= 8:
            scores[f"ContextCite {count}"] = fit_lasso(sets[:count], logit(log_probs[:count]) / tokens, 0.01)
        design = torch.cat([intact, sets[:count]])
        y = torch.cat([full, log_probs[:count]])
        scores[f"removals alone, ridge, {count}"] = fit_posterior(torch.zeros_like(gradient), design, y).mean
        scores[f"removal-gradient:{count}"] = fit_posterior(gradient, design, y).mean
    return scores


def read_removals(case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kept sets (M, S) bool, log p (M,) of the answer with each, and log p (1,) with all sentences."""
    effects = case["faithfulness"]["effects"]
    sets = torch.tensor([[bit == "1" for bit in row] for row in effects["kept"]])
    return sets, torch.tensor(effects["log_probs"], dtype=torch.float64), torch.tensor([effects["full"]]).double()


def main(runs: Sequence[Path]) -> None:
    """Print a Markdown table."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    fits, signs = [], []
    for case in read_cases(runs):
        if not case["faithfulness"]:
            continue
        sets, log_probs, full = read_removals(case)
        if len(sets) < FITTED + 8:
            continue
        measured = slice(FITTED, None)
        for name, scores in scores_of(case).items():
            lds = linear_datamodeling_score(scores.numpy(), sets[measured].numpy(), log_probs[measured].numpy())
            rows[name][LDS].append(np.nan if lds is None else lds)
            ap = measure_case(scores.numpy(), case["gold"])["ap"]
            rows[name][AP].append(np.nan if ap is None else ap)
        intact = torch.ones(1, sets.shape[1], dtype=torch.bool)
        gradient = torch.tensor(case["methods"]["removal-gradient"]["scores"]["segment"], dtype=torch.float64)
        fits.append(fit_posterior(gradient, torch.cat([intact, sets]), torch.cat([full, log_probs])))
        first = int(next(iter(scores_of(case).values())).argmax())
        signs.append(float(gradient[first] * fits[-1].mean[first] > 0))
    count = len(fits)
    print(f"{count} rows\n\n| method | LDS | AP of marked evidence |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {format_interval(values[LDS])} | {format_interval(values[AP])} |")
    name = next(iter(rows), "")
    print(f"\nthe gradient has the sign of the removal for the first sentence of {name}: {format_interval(signs)}")
    print(f"median alpha {np.median([fit.alpha for fit in fits]):.3g}, ", end="")
    print(f"median tau / sigma {np.median([fit.ratio for fit in fits]):.3g} (of {RATIOS[0]:g} to {RATIOS[-1]:g})")


def format_interval(values: Sequence[float] | npt.NDArray[np.float64], digits: int = 2) -> str:
    """Format a mean with its bootstrap interval."""
    (mean,) = mean_intervals(np.asarray(values)[:, None])
    if mean.value is None:
        return ""
    shown = f"{mean.value:.{digits}f}"
    return shown + (f" [{mean.low:.{digits}f}, {mean.high:.{digits}f}]" if mean.low is not None else "")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
