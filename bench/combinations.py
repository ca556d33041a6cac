"""Combine the scores of two methods from the cases of evaluation runs and compare them with each method alone.

    attributor eval hotpotqa FILE --methods flow:retrieval,bm25,bm25:title,removal-gradient --out RUN
    python bench/combinations.py flow:retrieval,bm25:title RUN ...
    python bench/combinations.py flow:retrieval,removal-gradient RUN ...

There are three ways for each sentence: "rank" adds its ranks; "share" adds its shares of the positive scores;
"product" multiplies these shares, each with 1/S added. AP uses the gold evidence. LDS uses rows run with
--faithfulness. A difference is paired: combination minus the better of the two methods.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from effects import format_interval, read_cases, read_removals

from attributor.eval.metrics import linear_datamodeling_score, main_aggregation
from attributor.eval.metrics.evidence import measure_case

Floats = npt.NDArray[np.float64]
METRICS = ("AP", "LDS")


def scores_of(case: dict[str, Any], method: str) -> Floats:
    """Return (S,) scores by sentence."""
    if method not in case["methods"]:
        sys.exit(f"the run has no {method!r}; it has {', '.join(case['methods'])}")
    by = case["methods"][method]["scores"]
    return np.array(by[main_aggregation(by)], np.float64)


def shares(scores: Floats) -> Floats:
    """Return (S,) the positive scores, scaled to sum 1; equal shares if none is positive."""
    positive = scores.clip(min=0)
    return positive / positive.sum() if positive.any() else np.full(len(scores), 1 / max(1, len(scores)))


def ranks(scores: Floats) -> Floats:
    """Return (S,) ranks from 0, higher for higher scores; equal scores get the mean of their ranks."""
    from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

    return np.asarray(rankdata(scores), np.float64) - 1


def combine(one: Floats, other: Floats) -> dict[str, Floats]:
    """Return (S,) combined scores by way."""
    even = 1 / max(1, len(one))
    return {
        "rank": ranks(one) + ranks(other),
        "share": shares(one) + shares(other),
        "product": (shares(one) + even) * (shares(other) + even),
    }


def measure(case: dict[str, Any], scores: Floats) -> dict[str, float]:
    """Return AP, and LDS if the row has it; NaN for a value that cannot be measured."""
    ap = measure_case(scores, case["gold"])["ap"]
    measured = {"AP": np.nan if ap is None else ap, "LDS": np.nan}
    if case["faithfulness"]:
        sets, log_probs, _ = read_removals(case)
        lds = linear_datamodeling_score(scores, sets.numpy(), log_probs.numpy())
        measured["LDS"] = np.nan if lds is None else lds
    return measured


def main(methods: Sequence[str], runs: Sequence[Path]) -> None:
    """Print a Markdown table."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    one, other = methods
    for case in read_cases(runs):
        scores = {name: scores_of(case, name) for name in methods}
        for name, values in {**scores, **combine(scores[one], scores[other])}.items():
            for metric, value in measure(case, values).items():
                rows[metric][name].append(value)
    for metric in METRICS:
        columns = {name: np.array(values) for name, values in rows[metric].items()}
        if not columns or np.isnan(columns[one]).all():
            continue
        better = max(methods, key=lambda name: float(np.nanmean(columns[name])))
        print(f"\n{metric}, {int((~np.isnan(columns[one])).sum())} rows\n")
        print(f"| scores | {metric} | minus {better} |\n|---|---|---|")
        for name, values in columns.items():
            difference = "" if name in methods else format_interval(values - columns[better], 3)
            print(f"| {name} | {format_interval(values, 3)} | {difference} |")


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1].count(",") != 1:
        sys.exit("usage: python bench/combinations.py METHOD,METHOD RUN ...")
    main(sys.argv[1].split(","), [Path(name) for name in sys.argv[2:]])
