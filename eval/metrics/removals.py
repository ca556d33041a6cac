"""Measure how well document scores predict what the answer loses without documents; eval/README.md defines it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor.eval.metrics.evidence import linear_datamodeling_score
from attributor.eval.metrics.intervals import mean_intervals

__all__ = [
    "MODEL",
    "NEEDED",
    "SCORED",
    "CaseRemovals",
    "RemovalArrays",
    "is_too_weak",
    "measure_removals",
    "summarize_removals",
]

Floats = npt.NDArray[np.float64]

NEEDED = math.log(2)  # nats: without the document the answer has half its probability, or less
# measures of the model, and of each method
MODEL = ("planted", "pairs", "distractors", "evidence", "documents", "counts", "zero", "says", "em")
SCORED = ("first", "rank", "error")
JUDGED, FORM = ", ", ": "  # separators in group names: "written, right", "paraphrase: code names"
BEST = {"first": 1, "rank": 1, "error": -1}  # 1: the highest is the best; -1: the lowest


@dataclass(frozen=True)
class CaseRemovals:
    """What the answer of one case loses without documents.

    Attributes:
        sets: the sets of documents that were removed.
        drops: (len(sets),) nats: log p of the answer with all documents, minus that without the set.
        planted: the planted documents.
        evidence: the documents with the evidence.
        count: number of all documents.
        without_documents: nats that the answer loses without any document.
    """

    sets: list[list[int]]
    drops: Floats
    planted: frozenset[int]
    evidence: frozenset[int]
    count: int
    without_documents: float

    @classmethod
    def of(cls, case: Mapping[str, Any]) -> "CaseRemovals | None":
        """Read the removals of a record; None if nothing was removed."""
        removals = case.get("removals")
        if not removals:
            return None
        full = float(removals["full"])
        return cls(
            sets=[list(removed) for removed in removals["sets"]],
            drops=full - np.array(removals["log_probs"], np.float64),
            planted=frozenset(removals["planted"]),
            evidence=frozenset(case.get("gold_documents") or ()),
            count=len(case.get("documents") or ()),
            without_documents=full - float(removals["without_documents"]),
        )

    @property
    def singles(self) -> dict[int, float]:
        """{document: drop} of the documents that were removed alone."""
        pairs = zip(self.sets, self.drops, strict=True)
        return {removed[0]: float(drop) for removed, drop in pairs if len(removed) == 1}

    @property
    def costliest(self) -> int | None:
        """The document whose removal costs most; None if no removal costs NEEDED or more."""
        singles = self.singles
        document = max(singles, key=lambda d: singles[d], default=None)
        return document if document is not None and singles[document] >= NEEDED else None

    def describe_model(self) -> dict[str, float]:
        """Compute the measures of MODEL that follow from the drops; NaN without a value."""
        singles = self.singles
        pairs = [drop for removed, drop in zip(self.sets, self.drops, strict=True) if len(removed) == 2]
        evidence = [
            drop for removed, drop in zip(self.sets, self.drops, strict=True) if frozenset(removed) == self.evidence
        ]
        return {
            "planted": _mean([drop for d, drop in singles.items() if d in self.planted]),
            "pairs": _mean(pairs),
            "distractors": _mean([drop for d, drop in singles.items() if d not in self.planted]),
            "evidence": _mean(evidence),
            "documents": self.without_documents,
            "counts": float(self.costliest is not None),
            "zero": _mean([abs(drop) for drop in singles.values()]),
        }

    def first(self, scores: Floats) -> float:
        """Return 1 if the costliest document has the highest score of all, 1 / t if t documents share it, else 0."""
        if self.costliest is None:
            return np.nan
        highest = scores == scores.max()
        return float(highest[self.costliest] / highest.sum())

    def rank(self, scores: Floats) -> float:
        """Return Spearman's correlation of the sums of scores over the removed sets with the drops."""
        masks = np.zeros((len(self.sets), self.count))
        for row, removed in enumerate(self.sets):
            masks[row, removed] = 1
        value = linear_datamodeling_score(scores, masks, self.drops) if len(self.sets) > 1 else None
        return np.nan if value is None else value

    def error(self, scores: Floats) -> float:
        """Return the mean distance in nats between scores and drops of the documents that were removed alone."""
        return _mean([abs(scores[d] - drop) for d, drop in self.singles.items()])


@dataclass
class RemovalArrays:
    """The removal measures of n cases; NaN if a case has no value.

    Attributes:
        groups: the groups of each case: its kind, with right or wrong if the model wrote the answer; and its kind with
            its form, if it has a form. () if nothing was removed.
        model: (n,) for each name of MODEL.
        scored: (n, methods) for each name of SCORED.
    """

    groups: list[tuple[str, ...]]
    model: dict[str, Floats]
    scored: dict[str, Floats]

    @property
    def names(self) -> list[str]:
        """The groups in the order of their first cases; forms come after kinds, right answers before wrong ones."""
        groups = list(dict.fromkeys(group for case in self.groups for group in case))
        kinds = list(dict.fromkeys(map(_kind_of, groups)))

        def place(group: str) -> tuple[bool, int, str, int]:
            return FORM in group, kinds.index(_kind_of(group)), group.partition(JUDGED)[2], groups.index(group)

        return sorted(groups, key=place)


def measure_removals(cases: Sequence[Mapping[str, Any]], methods: Mapping[str, str]) -> RemovalArrays | None:
    """Measure the removals of n done cases; None if no case has any.

    Args:
        cases: records of a run.
        methods: the aggregation of document scores that is used, by method.
    """
    measured = [CaseRemovals.of(case) for case in cases]
    if not any(measured):
        return None
    n = len(cases)
    arrays = RemovalArrays(
        groups=[_groups(case) if removals else () for case, removals in zip(cases, measured, strict=True)],
        model={name: np.full(n, np.nan) for name in MODEL},
        scored={name: np.full((n, len(methods)), np.nan) for name in SCORED},
    )
    for index, (case, removals) in enumerate(zip(cases, measured, strict=True)):
        if removals is None:
            continue
        for name, value in removals.describe_model().items():
            arrays.model[name][index] = value
        for name in ("says", "em"):
            if isinstance(case.get(name), (int, float)):
                arrays.model[name][index] = case[name]
        for column, (name, how) in enumerate(methods.items()):
            record = (case.get("methods") or {}).get(name) or {}
            scores = np.array((record.get("documents") or {}).get(how) or (), np.float64)
            if scores.shape != (removals.count,) or not np.isfinite(scores).all():
                continue
            arrays.scored["first"][index, column] = removals.first(scores)
            arrays.scored["rank"][index, column] = removals.rank(scores)
            if record.get("nats"):
                arrays.scored["error"][index, column] = removals.error(scores)
    return arrays


def is_too_weak(kind: str, evidence: float | None, documents: float | None) -> bool:
    """Return whether a model is too weak for a kind, by means over the rows of the kind.

    Args:
        kind: kind of the rows.
        evidence: nats that the answer loses without all of its evidence.
        documents: nats that it loses without any document.

    Returns:
        For memory, True if the answer loses NEEDED or more without documents: the model does not know the fact. For
        written, True if it loses less than NEEDED: what the model writes does not come from the documents. For other
        kinds, True if it loses less than NEEDED without the evidence: it does not rest on the evidence. False if the
        mean is unknown.
    """
    if kind == "memory":
        return documents is not None and documents >= NEEDED
    loss = documents if kind == "written" else evidence
    return loss is not None and loss < NEEDED


def summarize_removals(arrays: RemovalArrays, methods: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Compute the key "removals" of a summary, ready for JSON; eval/README.md describes it."""
    kinds: dict[str, Any] = {}
    scored: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for group in arrays.names:
        members = np.array([group in names for names in arrays.groups])
        table = np.stack([arrays.model[name][members] for name in MODEL], axis=1)
        model = dict(zip(MODEL, mean_intervals(table, resamples, seed), strict=True))
        weak = is_too_weak(_kind_of(group), model["evidence"].value, model["documents"].value)
        kinds[group] = {
            "kind": _kind_of(group),
            "rows": int(members.sum()),
            **{name: interval.as_dict() for name, interval in model.items()},
            "weak": weak,
        }
        for name in methods:
            scored[name][group] = {}
        for measure in SCORED:
            values = arrays.scored[measure][members]
            for name, interval in zip(methods, _compare_with_best(values, BEST[measure], resamples, seed), strict=True):
                scored[name][group][measure] = interval
    return {"needed": round(NEEDED, 6), "kinds": kinds, "methods": scored}


def _compare_with_best(values: Floats, sign: int, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Compute each method's mean over rows with its interval, and "behind": how much better the best method is.

    The best method has the highest mean, or the lowest if sign is -1. "behind" is a paired difference; for the best
    method it is 0.
    """
    intervals = mean_intervals(values, resamples, seed)
    means = [-np.inf if interval.value is None else sign * interval.value for interval in intervals]
    best = int(np.argmax(means)) if means else 0
    behind = mean_intervals(sign * (values[:, [best]] - values), resamples, seed) if means else []
    return [
        interval.as_dict() | {"behind": difference.as_dict()}
        for interval, difference in zip(intervals, behind, strict=True)
    ]


def _groups(case: Mapping[str, Any]) -> tuple[str, ...]:
    kind, form = str(case.get("kind") or "other"), case.get("level")
    if kind == "written" and case.get("says") is not None:
        return (f"{kind}{JUDGED}{'right' if case['says'] else 'wrong'}",)
    return (kind, f"{kind}{FORM}{form}") if form else (kind,)


def _kind_of(group: str) -> str:
    return group.partition(FORM)[0].partition(JUDGED)[0]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan
