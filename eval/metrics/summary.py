"""Summarizes a run: means over cases with intervals, by stratum, paired differences, faithfulness and costs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor.eval.metrics.case_arrays import (
    DROPS,
    CaseArrays,
    are_indices,
    are_scores,
    main_aggregation,
    measure_cases,
    own_answer_is_right,
)
from attributor.eval.metrics.evidence import MAIN, METRICS, measure
from attributor.eval.metrics.intervals import RESAMPLES, SEED, mean_intervals, median_interval
from attributor.eval.metrics.removals import summarize_removals

__all__ = ["SECONDARY", "VERSION", "RunningMetrics", "split_strata", "summarize", "summarize_arrays"]

VERSION = 1  # of the keys
SECONDARY = 1_000  # most resamples for the secondary intervals
MOST_STRATA = 12  # most kinds, and most levels: the most frequent ones
LEVELS = ("easy", "medium", "hard")  # in this order; others come after them

Floats = npt.NDArray[np.float64]


def summarize(
    cases: Sequence[Mapping[str, Any]], *, main: str = "sum", resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Any]:
    """Compute all metrics of a run, ready for JSON (no NaN); eval/README.md describes the keys.

    Args:
        cases: records of a run, in any order; two records of the same id count as two cases.
        main: the aggregation of token methods that differences, curves and tables use.
        resamples: resamples of the primary intervals; the others use at most SECONDARY.
        seed: seed of the resamples.
    """
    return summarize_arrays(measure_cases(cases, main), main=main, resamples=resamples, seed=seed)


def summarize_arrays(
    arrays: CaseArrays, *, main: str = "sum", resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Any]:
    """Do the same as `summarize`, for cases whose metrics are already computed."""
    groups = split_strata(arrays)
    fewer = min(resamples, SECONDARY)
    methods: dict[str, Any] = {
        name: {"main": how, "best": how, "sentence": {}, "document": {}} for name, how in arrays.methods.items()
    }
    for stratum, members in groups.items():
        for unit in ("sentence", "document"):
            primary = stratum == "all" and unit == "sentence"
            shown = METRICS if stratum == "all" else MAIN
            if primary:
                _fill_intervals(methods, arrays, unit, stratum, members, MAIN, resamples, seed)
            others = [metric for metric in shown if not (primary and metric in MAIN)]
            _fill_intervals(methods, arrays, unit, stratum, members, others, fewer, seed)
    costs, faithful = _summarize_costs(arrays, fewer, seed), _summarize_faithfulness(arrays, resamples, seed)
    for name, method in methods.items():
        method["best"] = _best_aggregation(method)
        method["costs"], method["faithfulness"] = costs[name], faithful.get(name)
    removals = None
    if arrays.removals is not None:
        removals = summarize_removals(arrays.removals, list(arrays.methods), resamples, seed)
    own = mean_intervals(np.stack([arrays.em, arrays.says, arrays.f1, arrays.verified], axis=1), fewer, seed)
    return {
        "version": VERSION,
        "counts": dict(arrays.counts),
        "settings": {
            "main": main,
            "interval": "95% percentile bootstrap over rows",
            "resamples": resamples,
            "secondary_resamples": fewer,
            "seed": seed,
        },
        "strata": {name: int(members.sum()) for name, members in groups.items()},
        "answers": {
            name: interval.as_dict() for name, interval in zip(("em", "says", "f1", "verified"), own, strict=True)
        },
        "methods": methods,
        "differences": _summarize_differences(arrays, methods, resamples, seed),
        "ablations": [dict(zip(("convention", "masks", "seed"), how, strict=True)) for how in arrays.ablations],
        "removals": removals,
        "peak_bytes": arrays.peak_bytes,
    }


def _fill_intervals(
    methods: dict[str, Any],
    arrays: CaseArrays,
    unit: str,
    stratum: str,
    members: npt.NDArray[np.bool_],
    metrics: Sequence[str],
    resamples: int,
    seed: int,
) -> None:
    """Fill in the intervals of some metrics: all columns at once, because drawing takes most of the time."""
    places = [i for i, column in enumerate(arrays.columns) if column.unit == unit]
    if not places or not metrics:
        return
    table = np.concatenate([arrays.values[metric][members][:, places] for metric in metrics], axis=1)
    intervals = iter(mean_intervals(table, resamples, seed))
    for metric in metrics:
        for i in places:
            column = arrays.columns[i]
            by = methods[column.method][unit].setdefault(column.aggregation, {})
            by.setdefault(stratum, {})[metric] = next(intervals).as_dict()


def split_strata(arrays: CaseArrays) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the cases of each stratum, (n,) bool: all, by kind, by level, and by right or wrong own answer."""
    groups = {"all": np.ones(len(arrays.ids), bool)}
    kinds, levels = Counter(filter(None, sorted(arrays.kind))), Counter(filter(None, sorted(arrays.level)))
    for name, _ in kinds.most_common(MOST_STRATA):
        groups[f"kind:{name}"] = np.array([kind == name for kind in arrays.kind], bool)
    for name in sorted(dict(levels.most_common(MOST_STRATA)), key=lambda name: (*map(name.__ne__, LEVELS), name)):
        groups[f"level:{name}"] = np.array([level == name for level in arrays.level], bool)
    if not np.isnan(arrays.says).all():
        groups |= {"answer:right": arrays.says == 1, "answer:wrong": arrays.says == 0}
    return groups


def _best_aggregation(method: Mapping[str, Any]) -> str:
    """Return the aggregation with the highest AP; it is chosen on the same cases, so its AP is too high."""
    by = method["sentence"]
    known = {how: by[how]["all"]["ap"]["value"] for how in by if by[how]["all"]["ap"]["value"] is not None}
    return max(known, key=lambda how: (known[how], how == method["main"])) if known else str(method["main"])


def _summarize_costs(arrays: CaseArrays, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    names = list(arrays.methods)
    intervals = mean_intervals(np.concatenate([arrays.seconds, arrays.total, arrays.passes], axis=1), resamples, seed)
    own, total, passes = (intervals[k * len(names) : (k + 1) * len(names)] for k in range(3))
    return {
        name: {
            "reads": arrays.reads.get(name, False),
            "seconds": own[i].as_dict(),
            "seconds_with_read": total[i].as_dict(),
            "forwards": median_interval(arrays.multiple[:, i], resamples, seed).as_dict(),
            "passes": passes[i].as_dict(),
        }
        for i, name in enumerate(names)
    }


def _summarize_faithfulness(arrays: CaseArrays, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Summarize faithfulness by method, for methods with values."""
    names, keys = list(arrays.methods), [*(f"drop@{k}" for k in DROPS), "lds"]
    table = np.concatenate([arrays.drops, arrays.lds[:, :, None]], axis=2).reshape(
        len(arrays.ids), len(names) * len(keys)
    )
    intervals = iter(mean_intervals(table, resamples, seed))
    measured = {name: {key: next(intervals) for key in keys} for name in names}
    return {
        name: {key: interval.as_dict() for key, interval in by.items()}
        for name, by in measured.items()
        if any(interval.n for interval in by.values())
    }


def _summarize_differences(
    arrays: CaseArrays, methods: Mapping[str, Any], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Compute method minus other on the cases of both, main aggregation; the method with the higher AP comes first."""

    def quality(i: int) -> float:
        value = methods[names[i]]["sentence"].get(arrays.methods[names[i]], {}).get("all", {}).get("ap", {})
        return -1.0 if value.get("value") is None else float(value["value"])

    names = list(arrays.methods)
    order = sorted(range(len(names)), key=quality, reverse=True)
    pairs = list(combinations(order, 2))
    if not pairs or not arrays.ids:
        return []
    tables = {metric: arrays.main(metric) for metric in MAIN}
    tables |= {f"drop@{k}": arrays.drops[:, :, j] for j, k in enumerate(DROPS)} | {"lds": arrays.lds}
    labels, columns = [], []
    for metric, table in tables.items():
        for a, b in pairs:
            labels.append((names[a], names[b], metric))
            columns.append(table[:, a] - table[:, b])
    intervals = mean_intervals(np.stack(columns, axis=1), resamples, seed)
    return [
        {"method": a, "other": b, "metric": metric, **interval.as_dict()}
        for (a, b, metric), interval in zip(labels, intervals, strict=True)
        if interval.n
    ]


class RunningMetrics:
    """Metrics so far, for a progress display: mean AP of each method over the added cases.

    Attributes:
        counts: cases by status.
    """

    def __init__(self, main: str = "sum") -> None:
        """Start without cases; `main` as in `summarize`."""
        self._main = main
        self._sums: dict[str, list[float]] = {}
        self._right: list[float] = []
        self.counts = {"done": 0, "skipped": 0, "failed": 0}

    def add(self, case: Mapping[str, Any]) -> None:
        """Add one record; a record that cannot be ranked is counted, but changes no mean."""
        status = str(case.get("status"))
        self.counts[status] = self.counts.get(status, 0) + 1
        if status != "done":
            return
        if (right := own_answer_is_right(case)) is not None:
            self._right.append(float(right))
        S, gold = len(case.get("segments") or ()), list(case.get("gold") or ())
        if not (0 < len(gold) < S and are_indices(gold, S)):
            return
        for name, record in (case.get("methods") or {}).items():
            scores = record.get("scores") or {}
            case_scores = scores.get(main_aggregation(scores, self._main), ())
            total = self._sums.setdefault(name, [0.0, 0.0])
            if not are_scores(case_scores, S):
                continue
            total[0] += float(measure(case_scores, gold, ("ap",))["ap"][0])
            total[1] += 1

    @property
    def average_precision(self) -> dict[str, float]:
        """Mean AP by method, for the methods that have a case."""
        return {name: total / n for name, (total, n) in self._sums.items() if n}

    @property
    def right(self) -> float | None:
        """The share of the model's own answers that are right; None without any."""
        return float(np.mean(self._right)) if self._right else None
