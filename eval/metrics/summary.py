"""A run in numbers: means over rows with intervals, by stratum, paired differences, faithfulness and costs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor.eval.metrics.case_arrays import (
    DROPS,
    Scored,
    are_indices,
    main_aggregation,
    says,
    score_cases,
    usable,
)
from attributor.eval.metrics.evidence import MAIN, METRICS, measure
from attributor.eval.metrics.intervals import RESAMPLES, SEED, mean_intervals, median_interval

__all__ = ["SECONDARY", "VERSION", "Running", "strata", "summarize", "summary_of"]

VERSION = 1  # of the keys
SECONDARY = 1_000  # resamples at most, for all but the main metrics by sentence over all rows
MOST_STRATA = 12  # of kinds, and of levels: the most frequent ones
LEVELS = ("easy", "medium", "hard")  # in this order, and others behind them

Floats = npt.NDArray[np.float64]


def summarize(
    cases: Sequence[Mapping[str, Any]], *, main: str = "sum", resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Any]:
    """Everything that a run says, ready for JSON (no NaN); README.md describes the keys.

    Args:
        cases: records of a run, in any order; a later record does not replace an earlier one of the same id here.
        main: the aggregation of token methods that differences, curves and tables use.
        resamples: of the main metrics' intervals; the others take at most SECONDARY.
        seed: of the resamples.
    """
    return summary_of(score_cases(cases, main), main=main, resamples=resamples, seed=seed)


def summary_of(scored: Scored, *, main: str = "sum", resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """`summarize` for cases whose metrics are computed already."""
    groups = strata(scored)
    fewer = min(resamples, SECONDARY)
    methods: dict[str, Any] = {
        name: {"main": how, "best": how, "sentence": {}, "document": {}} for name, how in scored.methods.items()
    }
    for stratum, rows in groups.items():
        for unit in ("sentence", "document"):
            primary = stratum == "all" and unit == "sentence"
            shown = METRICS if stratum == "all" else MAIN
            if primary:
                _fill(methods, scored, unit, stratum, rows, MAIN, resamples, seed)
            others = [metric for metric in shown if not (primary and metric in MAIN)]
            _fill(methods, scored, unit, stratum, rows, others, fewer, seed)
    costs, faithful = _costs(scored, fewer, seed), _faithfulness(scored, resamples, seed)
    for name, found_method in methods.items():
        found_method["best"] = _best(found_method)
        found_method["costs"], found_method["faithfulness"] = costs[name], faithful.get(name)
    own = mean_intervals(np.stack([scored.em, scored.says, scored.f1, scored.verified], axis=1), fewer, seed)
    return {
        "version": VERSION,
        "counts": dict(scored.counts),
        "settings": {
            "main": main,
            "interval": "95% percentile bootstrap over rows",
            "resamples": resamples,
            "secondary_resamples": fewer,
            "seed": seed,
        },
        "strata": {name: int(rows.sum()) for name, rows in groups.items()},
        "answers": {
            name: interval.as_dict() for name, interval in zip(("em", "says", "f1", "verified"), own, strict=True)
        },
        "methods": methods,
        "differences": _differences(scored, methods, resamples, seed),
        "ablations": [dict(zip(("convention", "masks", "seed"), how, strict=True)) for how in scored.ablations],
        "peak_bytes": scored.peak_bytes,
    }


def _fill(
    methods: dict[str, Any],
    scored: Scored,
    unit: str,
    stratum: str,
    rows: npt.NDArray[np.bool_],
    metrics: Sequence[str],
    resamples: int,
    seed: int,
) -> None:
    """Put the intervals of some metrics where they belong: all columns at once, because drawing takes the time."""
    wanted = [i for i, column in enumerate(scored.columns) if column.unit == unit]
    if not wanted or not metrics:
        return
    table = np.concatenate([scored.values[metric][rows][:, wanted] for metric in metrics], axis=1)
    found = iter(mean_intervals(table, resamples, seed))
    for metric in metrics:
        for i in wanted:
            column = scored.columns[i]
            by = methods[column.method][unit].setdefault(column.aggregation, {})
            by.setdefault(stratum, {})[metric] = next(found).as_dict()


def strata(scored: Scored) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows by name, (n,) each: all, by kind, by level, and by whether the model's own answer held the expected one."""
    found = {"all": np.ones(len(scored.ids), bool)}
    kinds, levels = Counter(filter(None, sorted(scored.kind))), Counter(filter(None, sorted(scored.level)))
    for name, _ in kinds.most_common(MOST_STRATA):
        found[f"kind:{name}"] = np.array([kind == name for kind in scored.kind], bool)
    for name in sorted(dict(levels.most_common(MOST_STRATA)), key=lambda name: (*map(name.__ne__, LEVELS), name)):
        found[f"level:{name}"] = np.array([level == name for level in scored.level], bool)
    if not np.isnan(scored.says).all():
        found |= {"answer:right": scored.says == 1, "answer:wrong": scored.says == 0}
    return found


def _best(method: Mapping[str, Any]) -> str:
    """The aggregation with the highest AP; chosen on these very rows, so its number flatters."""
    by = method["sentence"]
    known = {how: by[how]["all"]["ap"]["value"] for how in by if by[how]["all"]["ap"]["value"] is not None}
    return max(known, key=lambda how: (known[how], how == method["main"])) if known else str(method["main"])


def _costs(scored: Scored, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    names = list(scored.methods)
    found = mean_intervals(np.concatenate([scored.seconds, scored.total, scored.passes], axis=1), resamples, seed)
    own, total, passes = (found[k * len(names) : (k + 1) * len(names)] for k in range(3))
    return {
        name: {
            "reads": scored.reads.get(name, False),
            "seconds": own[i].as_dict(),
            "seconds_with_read": total[i].as_dict(),
            "forwards": median_interval(scored.multiple[:, i], resamples, seed).as_dict(),
            "passes": passes[i].as_dict(),
        }
        for i, name in enumerate(names)
    }


def _faithfulness(scored: Scored, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """By method, for those that were measured."""
    names, keys = list(scored.methods), [*(f"drop@{k}" for k in DROPS), "lds"]
    table = np.concatenate([scored.drops, scored.lds[:, :, None]], axis=2).reshape(
        len(scored.ids), len(names) * len(keys)
    )
    found = iter(mean_intervals(table, resamples, seed))
    measured = {name: {key: next(found) for key in keys} for name in names}
    return {
        name: {key: interval.as_dict() for key, interval in by.items()}
        for name, by in measured.items()
        if any(interval.n for interval in by.values())
    }


def _differences(scored: Scored, methods: Mapping[str, Any], resamples: int, seed: int) -> list[dict[str, Any]]:
    """Method minus other on the rows that both have, main aggregation; the one with the higher AP comes first."""

    def quality(i: int) -> float:
        value = methods[names[i]]["sentence"].get(scored.methods[names[i]], {}).get("all", {}).get("ap", {})
        return -1.0 if value.get("value") is None else float(value["value"])

    names = list(scored.methods)
    order = sorted(range(len(names)), key=quality, reverse=True)
    pairs = list(combinations(order, 2))
    if not pairs or not scored.ids:
        return []
    tables = {metric: scored.main(metric) for metric in MAIN}
    tables |= {f"drop@{k}": scored.drops[:, :, j] for j, k in enumerate(DROPS)} | {"lds": scored.lds}
    labels, columns = [], []
    for metric, table in tables.items():
        for a, b in pairs:
            labels.append((names[a], names[b], metric))
            columns.append(table[:, a] - table[:, b])
    found = mean_intervals(np.stack(columns, axis=1), resamples, seed)
    return [
        {"method": a, "other": b, "metric": metric, **interval.as_dict()}
        for (a, b, metric), interval in zip(labels, found, strict=True)
        if interval.n
    ]


class Running:
    """Metrics so far, for a progress display: mean AP of each method over the cases that were added.

    Attributes:
        counts: cases by status.
    """

    def __init__(self, main: str = "sum") -> None:
        """Begin with nothing; `main` as in `summarize`."""
        self._main = main
        self._sums: dict[str, list[float]] = {}
        self._right: list[float] = []
        self.counts = {"done": 0, "skipped": 0, "failed": 0}

    def add(self, case: Mapping[str, Any]) -> None:
        """Take in one record; one that cannot be ranked counts, and changes no mean."""
        status = str(case.get("status"))
        self.counts[status] = self.counts.get(status, 0) + 1
        if status != "done":
            return
        if (right := says(case)) is not None:
            self._right.append(float(right))
        S, gold = len(case.get("segments") or ()), list(case.get("gold") or ())
        if not (0 < len(gold) < S and are_indices(gold, S)):
            return
        for name, record in (case.get("methods") or {}).items():
            scores = record.get("scores") or {}
            row = scores.get(main_aggregation(scores, self._main), ())
            total = self._sums.setdefault(name, [0.0, 0.0])
            if not usable(row, S):
                continue
            total[0] += float(measure(row, gold, ("ap",))["ap"][0])
            total[1] += 1

    @property
    def average_precision(self) -> dict[str, float]:
        """Mean AP by method, for the methods that have a row."""
        return {name: total / n for name, (total, n) in self._sums.items() if n}

    @property
    def right(self) -> float | None:
        """The share of the model's own answers that were right, where there are any."""
        return float(np.mean(self._right)) if self._right else None
