"""Computes all numbers of a report from its runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attributor._errors import InputError
from attributor.eval.metrics import MAIN, RESAMPLES, SEED, CaseArrays, mean_intervals, measure_cases, summarize_arrays
from attributor.eval.report.runs import Run, shorten_method_name

__all__ = ["Part", "Report", "build_report", "main_value"]

VERSION = 1  # of the keys of `Report.to_json`


@dataclass(frozen=True)
class Part:
    """One run of a report.

    Attributes:
        name: unique in the report.
        run: as it was read.
        arrays: its cases as arrays.
        summary: see `attributor.eval.metrics.summary.summarize`.
        order: the methods, highest AP first.
        against: for each method, the one that it is compared with.
    """

    name: str
    run: Run
    arrays: CaseArrays
    summary: dict[str, Any]
    order: list[str]
    against: dict[str, str]

    def difference(self, method: str, other: str, metric: str) -> dict[str, Any] | None:
        """Return method minus other with its interval; None if they have no row in common."""
        for difference in self.summary["differences"]:
            if difference["metric"] == metric and {difference["method"], difference["other"]} == {method, other}:
                return dict(difference) if difference["method"] == method else _reverse(difference)
        return None


@dataclass(frozen=True)
class Report:
    """Runs side by side.

    Attributes:
        parts: one a run.
        baseline: the chosen baseline; None: the best of the other methods.
        across: differences of one method between two runs: later run minus the first, on the rows that both ranked.
        notes: about the comparison.
    """

    parts: list[Part]
    baseline: str | None
    across: list[dict[str, Any]]
    notes: list[str]

    @property
    def methods(self) -> list[str]:
        """Every method once, in the order of AP in the first run."""
        return list(dict.fromkeys(name for part in self.parts for name in part.order))

    def to_json(self) -> dict[str, Any]:
        """Return what `attributor eval report --json` prints, without NaN."""
        return {
            "version": VERSION,
            "baseline": self.baseline,
            "notes": self.notes,
            "runs": [
                {
                    "name": part.name,
                    "finished": part.run.finished,
                    "settings": part.run.settings,
                    "notes": part.run.notes,
                    "against": part.against,
                    "metrics": part.summary,
                }
                for part in self.parts
            ],
            "across": self.across,
        }


def build_report(
    runs: Sequence[Run],
    *,
    baseline: str | None = None,
    main: str = "sum",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Report:
    """Compute the metrics of every run from its cases, and compare the runs.

    Args:
        runs: one or more.
        baseline: a method that all others are compared with; None: each with the best of the others, by AP.
        main: the aggregation of token methods that tables and plots show first.
        resamples: see `summarize`.
        seed: seed of the resamples.

    Raises:
        InputError: no run, or a baseline that no run has.
    """
    if not runs:
        raise InputError("nothing to report: give the folder of a run")
    baseline_name = None if baseline is None else shorten_method_name(baseline)
    parts = []
    for name, run in zip(_name_runs(runs), runs, strict=True):
        arrays = measure_cases(run.cases, main)
        summary = summarize_arrays(arrays, main=main, resamples=resamples, seed=seed)
        order = sorted(arrays.methods, key=lambda method: -(main_value(summary, method) or -1.0))
        against = {}
        for method in order:
            others = [baseline_name] if baseline_name in order else [] if baseline_name else order
            rivals = [other for other in others if other != method]
            if rivals:
                against[method] = str(rivals[0])
        parts.append(Part(name, run, arrays, summary, order, against))
    known = sorted({method for part in parts for method in part.order})
    if baseline_name is not None and baseline_name not in known:
        raise InputError(f"no run has the baseline {baseline!r}; the methods are {', '.join(known) or 'none'}")
    across, notes = _compare_runs(parts, resamples, seed)
    return Report(parts, baseline_name, across, notes)


def main_value(summary: dict[str, Any], method: str, metric: str = "ap", stratum: str = "all") -> float | None:
    """Return the mean of a metric by sentence, main aggregation."""
    method_summary = summary["methods"][method]
    by = method_summary["sentence"].get(method_summary["main"], {}).get(stratum, {}).get(metric)
    return None if by is None else by["value"]


def _name_runs(runs: Sequence[Run]) -> list[str]:
    """Return the names of the folders; equal names get a number."""
    names: list[str] = []
    for run in runs:
        name, i = run.name, 2
        while name in names:
            name, i = f"{run.name} ({i})", i + 1
        names.append(name)
    return names


def _compare_runs(parts: Sequence[Part], resamples: int, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Compute each later run minus the first; return the differences and notes."""
    differences, notes = [], []
    for part in parts[1:]:
        first = parts[0]
        where = {name: i for i, name in enumerate(first.arrays.ids)}
        pairs = [(where[name], i) for i, name in enumerate(part.arrays.ids) if name in where]
        same = [(a, b) for a, b in pairs if first.arrays.gold[a] == part.arrays.gold[b]]
        common = [method for method in part.order if method in first.arrays.methods]
        if not same or not common:
            notes.append(f"{part.name} and {first.name} have no {'method' if same else 'row'} in common")
            continue
        if len(same) < len(pairs):
            notes.append(
                f"{len(pairs) - len(same)} rows of {part.name} have the id but not the gold pieces of {first.name}'s, "
                "and are left out of the differences"
            )
        here, there = (np.array(rows) for rows in zip(*[(b, a) for a, b in same], strict=True))
        labels, columns = [], []
        for metric in MAIN:
            mine, others = part.arrays.main(metric), first.arrays.main(metric)
            for method in common:
                i, j = list(part.arrays.methods).index(method), list(first.arrays.methods).index(method)
                labels.append((method, metric))
                columns.append(mine[here, i] - others[there, j])
        for (method, metric), interval in zip(
            labels, mean_intervals(np.stack(columns, axis=1), resamples, seed), strict=True
        ):
            if interval.n:
                names = {"run": part.name, "other": first.name, "method": method, "metric": metric}
                differences.append(names | interval.as_dict())
    return differences, notes


def _reverse(difference: dict[str, Any]) -> dict[str, Any]:
    """Return the difference with method and other swapped."""
    negated = {key: None if difference[key] is None else -difference[key] for key in ("value", "low", "high")}
    low, high = negated["high"], negated["low"]
    return difference | {
        "method": difference["other"],
        "other": difference["method"],
        **negated,
        "low": low,
        "high": high,
    }
