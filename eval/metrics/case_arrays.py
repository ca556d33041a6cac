"""The cases of a run as arrays, cases x methods: the input of summaries, intervals and plots."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor.eval.metrics.evidence import LEVELS, METRICS, Ranking, precision_recall
from attributor.eval.metrics.removals import RemovalArrays, measure_removals

__all__ = [
    "BINS",
    "DROPS",
    "CaseArrays",
    "Column",
    "are_indices",
    "are_scores",
    "main_aggregation",
    "measure_cases",
    "own_answer_is_right",
]

Floats = npt.NDArray[np.float64]

DROPS = (1, 3, 5)
BINS = (1, 2, 3, 4, 5, 10, 20)  # the last rank of each bar of the histogram; one more bar for higher ranks
COUNTS = ("cases", "done", "skipped", "failed", "no_gold", "all_gold", "unusable")
UNITS = (("sentence", "scores", "segments", "gold"), ("document", "documents", "documents", "gold_documents"))


@dataclass(frozen=True)
class Column:
    """What a column of numbers stands for: the ranked unit, the method, and its aggregation."""

    unit: str  # "sentence" or "document"
    method: str
    aggregation: str


@dataclass
class CaseArrays:
    """The done cases of a run, n of them; NaN where a case has no value.

    Attributes:
        ids: of the cases.
        gold: the gold pieces of the cases; two runs are compared on cases where they are equal.
        kind, level: of the cases; "" if unknown.
        em, says, f1, verified: (n,), of the model's own answer; `verified` by the optional verifier.
        methods: the main aggregation of each method, by name.
        columns: the columns of `values`.
        values: by metric, (n, columns).
        curve: (n, methods, len(LEVELS)), precision at levels of recall, by sentence, main aggregation.
        first: (n, methods, len(BINS) + 1), probability of each rank of the first gold sentence, main aggregation.
        seconds, total, multiple, passes: (n, methods): own seconds; own seconds plus the shared read; this sum over the
            seconds of one plain forward pass; extra passes.
        drops: (n, methods, len(DROPS)), lds: (n, methods).
        reads: for each method, whether it uses the shared read.
        peak_bytes: the largest of all cases.
        ablations: (convention, masks, seed) of the faithfulness numbers, each once.
        counts: cases, done, skipped, failed, and cases that metrics leave out: no_gold, all_gold, unusable.
        removals: results of removing documents; None if no case has them.
    """

    ids: list[str]
    gold: list[tuple[int, ...]]
    kind: list[str]
    level: list[str]
    em: Floats
    says: Floats
    f1: Floats
    verified: Floats
    methods: dict[str, str]
    columns: list[Column]
    values: dict[str, Floats]
    curve: Floats
    first: Floats
    seconds: Floats
    total: Floats
    multiple: Floats
    passes: Floats
    drops: Floats
    lds: Floats
    reads: dict[str, bool] = field(default_factory=dict)
    peak_bytes: int | None = None
    ablations: list[tuple[str, int, int]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    removals: RemovalArrays | None = None

    def column(self, method: str, unit: str = "sentence", aggregation: str | None = None) -> int | None:
        """Return the index of a column, by default that of the main aggregation; None if there is no such column."""
        column = Column(unit, method, self.methods[method] if aggregation is None else aggregation)
        return self.columns.index(column) if column in self.columns else None

    def main(self, metric: str) -> Floats:
        """(n, methods): a metric by sentence, in the main aggregation of each method."""
        values = np.full((len(self.ids), len(self.methods)), np.nan)
        for i, method in enumerate(self.methods):
            if (column := self.column(method)) is not None:
                values[:, i] = self.values[metric][:, column]
        return values


def main_aggregation(available: Iterable[str], preferred: str = "sum") -> str:
    """Return the aggregation that represents a method: `preferred`, else "segment", else the first."""
    names = list(available)
    return preferred if preferred in names else "segment" if "segment" in names or not names else names[0]


def measure_cases(cases: Sequence[Mapping[str, Any]], main: str = "sum") -> CaseArrays:
    """Compute every metric of every case.

    Args:
        cases: records of a run (docs/eval.md); those that are not done are only counted.
        main: the aggregation of token methods that tables and plots show first.
    """
    done = [case for case in cases if case.get("status") == "done"]
    aggregations: dict[str, dict[str, None]] = {}
    for case in done:
        for name, record in (case.get("methods") or {}).items():
            aggregations.setdefault(name, {}).update(dict.fromkeys(record.get("scores") or {}))
    methods = {name: main_aggregation(there, main) for name, there in aggregations.items()}
    columns = [Column(unit, name, how) for unit, *_ in UNITS for name, there in aggregations.items() for how in there]
    n, m = len(done), len(methods)

    def make_nan(*shape: int) -> Floats:
        return np.full((n, *shape), np.nan)

    arrays = CaseArrays(
        ids=[str(case.get("id")) for case in done],
        gold=[tuple(sorted(case.get("gold") or ())) for case in done],
        kind=[str(case.get("kind") or "") for case in done],
        level=[str(case.get("level") or "") for case in done],
        em=np.array([_number(case.get("em")) for case in done], np.float64),
        says=np.array([_number(own_answer_is_right(case)) for case in done], np.float64),
        f1=np.array([_number(case.get("f1")) for case in done], np.float64),
        verified=np.array([_number(case.get("verified")) for case in done], np.float64),
        methods=methods,
        columns=columns,
        values={metric: make_nan(len(columns)) for metric in METRICS},
        curve=make_nan(m, len(LEVELS)),
        first=make_nan(m, len(BINS) + 1),
        seconds=make_nan(m),
        total=make_nan(m),
        multiple=make_nan(m),
        passes=make_nan(m),
        drops=make_nan(m, len(DROPS)),
        lds=make_nan(m),
        removals=measure_removals(done, methods),
    )
    arrays.counts["cases"] = len(cases)
    for case in cases:
        if (status := case.get("status")) in ("done", "skipped", "failed"):
            arrays.counts[str(status)] += 1
    place = {column: i for i, column in enumerate(columns)}
    for index, case in enumerate(done):
        _fill_metrics(arrays, index, case, place)
        _fill_costs(arrays, index, case)
        _fill_ablations(arrays, index, case)
    return arrays


def own_answer_is_right(case: Mapping[str, Any]) -> float | None:
    """Return whether the model's own answer contains the expected one; without that record, whether it equals it."""
    contained = case.get("says")
    return case.get("em") if contained is None else contained


def _number(value: Any) -> float:
    """Return the value as a float; NaN if it is not a finite number."""
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else np.nan


def _fill_metrics(arrays: CaseArrays, index: int, case: Mapping[str, Any], place: Mapping[Column, int]) -> None:
    """Fill in the metrics of one case."""
    fine = True
    for unit, key, pieces, gold_key in UNITS:
        S, gold = len(case.get(pieces) or ()), list(case.get(gold_key) or ())
        if not are_indices(gold, S):
            fine = False
            continue
        if len(gold) in (0, S):
            arrays.counts["all_gold" if gold else "no_gold"] += unit == "sentence"
            continue
        scores_of = {
            Column(unit, name, how): scores
            for name, record in (case.get("methods") or {}).items()
            for how, scores in (record.get(key) or {}).items()
        }
        rankable = {column: scores for column, scores in scores_of.items() if column in place and are_scores(scores, S)}
        fine &= len(rankable) == len(scores_of)
        if not rankable:
            continue
        ranking = Ranking.of(np.array(list(rankable.values()), np.float64), gold)
        where = [place[column] for column in rankable]
        for metric, compute in METRICS.items():
            arrays.values[metric][index, where] = compute(ranking)
        if unit == "sentence":
            _fill_curves(arrays, index, list(rankable), ranking)
    arrays.counts["unusable"] += not fine


def are_indices(gold: Sequence[Any], S: int) -> bool:
    """Return whether these are different indices of S pieces."""
    return len(set(gold)) == len(gold) and all(isinstance(g, int) and 0 <= g < S for g in gold)


def are_scores(scores: Any, S: int) -> bool:
    """Return whether these are S finite numbers."""
    if not isinstance(scores, list) or len(scores) != S:
        return False
    try:
        return bool(np.isfinite(np.array(scores, np.float64)).all())
    except (TypeError, ValueError):
        return False


def _fill_curves(arrays: CaseArrays, index: int, columns: Sequence[Column], ranking: Ranking) -> None:
    """Fill in the curve and the rank of the first gold sentence of one case."""
    names = list(arrays.methods)
    mine = [i for i, column in enumerate(columns) if arrays.methods[column.method] == column.aggregation]
    where = [names.index(columns[i].method) for i in mine]
    arrays.curve[index, where] = precision_recall(ranking)[mine]
    edges = np.searchsorted(BINS, np.arange(1, ranking.pieces + 1))
    first = np.zeros((len(mine), len(BINS) + 1))
    np.add.at(first.T, edges, ranking.first[mine].T)
    arrays.first[index, where] = first


def _fill_costs(arrays: CaseArrays, index: int, case: Mapping[str, Any]) -> None:
    """Fill in the costs of the methods for one case."""
    read, plain = _number(case.get("seconds_read")), _number(case.get("seconds_plain"))
    peak = case.get("peak_bytes")
    if isinstance(peak, (int, float)):
        arrays.peak_bytes = max(arrays.peak_bytes or 0, int(peak))
    for i, name in enumerate(arrays.methods):
        record = (case.get("methods") or {}).get(name)
        if record is None:
            continue
        reads = bool(record.get("reads"))
        arrays.reads[name] = arrays.reads.get(name, False) or reads
        own = _number(record.get("seconds"))
        arrays.seconds[index, i] = own
        arrays.total[index, i] = own + read if reads else own
        arrays.multiple[index, i] = arrays.total[index, i] / plain if plain > 0 else np.nan
        arrays.passes[index, i] = _number(record.get("passes"))


def _fill_ablations(arrays: CaseArrays, index: int, case: Mapping[str, Any]) -> None:
    """Fill in the faithfulness numbers of one case."""
    measured = case.get("faithfulness")
    if not measured:
        return
    how = (str(measured.get("convention")), int(measured.get("masks") or 0), int(measured.get("seed") or 0))
    if how not in arrays.ablations:
        arrays.ablations.append(how)
    for i, name in enumerate(arrays.methods):
        drops = (measured.get("drops") or {}).get(name) or {}
        arrays.drops[index, i] = [_number(drops.get(str(k))) for k in DROPS]
        arrays.lds[index, i] = _number((measured.get("lds") or {}).get(name))
