"""Metrics of how well scores find the gold pieces of one prompt; eval/README.md has the formulas.

Letters: M methods (or aggregations) that scored the same case, S pieces (sentences or documents), G of them gold.
Every value is an expectation over all orders of the pieces with tied scores, so it does not depend on the order in
which the pieces are listed. For AUROC, which is linear in the ranks, this equals giving ties their average rank.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._errors import InputError

__all__ = [
    "CUTS",
    "LEVELS",
    "MAIN",
    "METRICS",
    "Ranking",
    "auroc",
    "average_precision",
    "first_rank",
    "full_support",
    "linear_datamodeling_score",
    "measure",
    "measure_case",
    "precision",
    "precision_recall",
    "recall",
    "reciprocal_rank",
]

Floats = npt.NDArray[np.float64]

CUTS = (1, 3, 5, 10)  # k of the metrics at k
LEVELS = np.linspace(0, 1, 41)  # levels of recall at which the precision-recall curve is evaluated
LEVELS.setflags(write=False)


@dataclass(frozen=True)
class Ranking:
    """The pieces of one case from the highest score to the lowest, under M methods.

    Attributes:
        chance: (M, S), the expected number of gold pieces, 0 to 1, at each rank.
        before: (M, S), the number of pieces before the rank's tie.
        tied: (M, S), the number of pieces in the rank's tie; 1 if nothing is tied.
        gold_before: (M, S), the number of gold pieces before the rank's tie.
        gold_tied: (M, S), the number of gold pieces in the rank's tie.
        gold: G.
    """

    chance: Floats
    before: Floats
    tied: Floats
    gold_before: Floats
    gold_tied: Floats
    gold: int

    @classmethod
    def of(cls, scores: Any, gold: Sequence[int]) -> "Ranking":
        """Rank the pieces.

        Args:
            scores: (M, S) or (S,), finite; higher means more important.
            gold: the indices of the gold pieces, each once: 0 < G < S.

        Raises:
            InputError: another shape, a score that is NaN or infinite, an index out of range or given twice, no gold
                piece, or gold pieces only.
        """
        values = np.atleast_2d(np.asarray(scores, np.float64))
        if values.ndim != 2 or not values.size:
            raise InputError(f"scores must be (M, S) or (S,) with S > 0, got {np.shape(scores)}")
        if not np.isfinite(values).all():
            raise InputError(f"scores must be finite; {int((~np.isfinite(values)).sum())} of {values.size} are not")
        M, S = values.shape
        picked = _check_gold(gold, S)
        if not 0 < len(picked) < S:
            raise InputError(f"needs a gold piece and one that is not, got {len(picked)} gold of {S}")
        marked = np.zeros(S)
        marked[picked] = 1

        order = np.argsort(-values, axis=1, kind="stable")
        ordered = np.take_along_axis(values, order, axis=1)
        rank = np.arange(S)
        begins = np.ones((M, S), bool)
        begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        ends = np.ones((M, S), bool)
        ends[:, :-1] = begins[:, 1:]
        start = np.maximum.accumulate(np.where(begins, rank, 0), axis=1)
        stop = np.minimum.accumulate(np.where(ends, rank + 1, S)[:, ::-1], axis=1)[:, ::-1]
        count = np.zeros((M, S + 1))
        np.cumsum(marked[order], axis=1, out=count[:, 1:])
        gold_before = np.take_along_axis(count, start, axis=1)
        gold_tied = np.take_along_axis(count, stop, axis=1) - gold_before
        tied = (stop - start).astype(np.float64)
        return cls(gold_tied / tied, start.astype(np.float64), tied, gold_before, gold_tied, len(picked))

    @property
    def pieces(self) -> int:
        """S."""
        return int(self.chance.shape[1])

    @cached_property
    def ranks(self) -> Floats:
        """(S,): 1, 2, ... S."""
        return np.arange(1, self.pieces + 1, dtype=np.float64)

    @cached_property
    def gold_found(self) -> Floats:
        """(M, S): the expected number of gold pieces up to each rank."""
        return np.cumsum(self.chance, axis=1)

    @cached_property
    def first(self) -> Floats:
        """(M, S): the probability that the first gold piece has each rank; rows sum to 1."""
        # In a tie of t pieces, r of them gold: after i pieces that are not gold, the next is gold with r / (t - i).
        left = self.tied - (self.ranks - 1 - self.before)
        hazard = np.minimum(self.gold_tied / left, 1)
        survive = np.cumprod(1 - hazard, axis=1)
        return np.asarray(hazard * np.concatenate([np.ones((len(hazard), 1)), survive[:, :-1]], axis=1))

    @cached_property
    def last(self) -> Floats:
        """(M, S): the probability that the last gold piece has each rank; rows sum to 1."""
        hazard = np.minimum(self.gold_tied / (self.ranks - self.before), 1)  # the same, from the end
        survive = np.cumprod((1 - hazard)[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(hazard * np.concatenate([survive[:, 1:], np.ones((len(hazard), 1))], axis=1))


def _check_gold(gold: Sequence[int], S: int) -> npt.NDArray[np.int64]:
    indices = np.asarray(list(gold))
    if indices.size and (indices.ndim != 1 or indices.dtype.kind not in "iu"):
        raise InputError(f"gold must be indices of pieces, got {gold!r}")
    picked = indices.astype(np.int64)
    if picked.size and not (picked.min() >= 0 and picked.max() < S and len(np.unique(picked)) == len(picked)):
        raise InputError(f"gold must be different indices from 0 to {S - 1}, got {sorted(picked.tolist())}")
    return picked


def average_precision(ranking: Ranking) -> Floats:
    """AP: the mean over the gold pieces of the precision at their rank; (M,), 0 to 1."""
    # A gold piece at place i of its tie: of the r - 1 other gold pieces, the share i / (t - 1) is before it.
    place = ranking.ranks - 1 - ranking.before
    companions = place * (ranking.gold_tied - 1) / np.maximum(ranking.tied - 1, 1)
    precision_there = (ranking.gold_before + 1 + companions) / ranking.ranks
    return np.asarray((ranking.chance * precision_there).sum(axis=1) / ranking.gold)


def auroc(ranking: Ranking) -> Floats:
    """AUROC: the probability that a gold piece ranks before one that is not gold, ties count half; (M,), 0 to 1."""
    G, S = ranking.gold, ranking.pieces
    average_rank = ranking.before + (ranking.tied + 1) / 2
    total = (ranking.chance * average_rank).sum(axis=1)
    return np.asarray(1 - (total - G * (G + 1) / 2) / (G * (S - G)))


def precision(ranking: Ranking, k: int) -> Floats:
    """Precision@k: gold pieces among the first k, over k, also if there are fewer than k pieces; (M,), 0 to 1."""
    return np.asarray(ranking.gold_found[:, min(k, ranking.pieces) - 1] / k)


def recall(ranking: Ranking, k: int) -> Floats:
    """Recall@k: gold pieces among the first k, over G; (M,), 0 to 1."""
    return np.asarray(ranking.gold_found[:, min(k, ranking.pieces) - 1] / ranking.gold)


def full_support(ranking: Ranking, k: int) -> Floats:
    """Full-support@k: 1 if all gold pieces are among the first k; (M,), 0 to 1."""
    return np.asarray(ranking.last[:, :k].sum(axis=1))


def reciprocal_rank(ranking: Ranking) -> Floats:
    """1 / rank of the first gold piece, whose mean over cases is MRR; (M,), 0 to 1."""
    return np.asarray((ranking.first / ranking.ranks).sum(axis=1))


def first_rank(ranking: Ranking) -> Floats:
    """The rank of the first gold piece, from 1; (M,)."""
    return np.asarray((ranking.first * ranking.ranks).sum(axis=1))


def precision_recall(ranking: Ranking) -> Floats:
    """The interpolated precision-recall curve, (M, len(LEVELS)): the best precision at this recall or a higher one."""
    precisions = ranking.gold_found / ranking.ranks
    best = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    reached = ranking.gold_found / ranking.gold
    # The first rank that reaches a recall. 1e-9 allows for rounding: a sum of chances may be just below its integer.
    places = np.stack([np.searchsorted(row, LEVELS - 1e-9) for row in reached])
    return np.asarray(np.take_along_axis(best, np.minimum(places, ranking.pieces - 1), axis=1))


def _cut_at(metric: Callable[[Ranking, int], Floats], k: int) -> Callable[[Ranking], Floats]:
    return lambda ranking: metric(ranking, k)


METRICS: Mapping[str, Callable[[Ranking], Floats]] = MappingProxyType(
    {
        "ap": average_precision,
        "auroc": auroc,
        "first_is_gold": _cut_at(precision, 1),
        "r_precision": lambda ranking: precision(ranking, ranking.gold),
        "mrr": reciprocal_rank,
        "first_rank": first_rank,
        **{f"precision@{k}": _cut_at(precision, k) for k in CUTS[1:]},
        **{f"recall@{k}": _cut_at(recall, k) for k in CUTS},
        **{f"full_support@{k}": _cut_at(full_support, k) for k in CUTS},
    }
)
MAIN = ("ap", "auroc", "first_is_gold", "r_precision", "full_support@5", "mrr")  # the metrics of a table


def measure(scores: Any, gold: Sequence[int], names: Sequence[str] = tuple(METRICS)) -> dict[str, Floats]:
    """Compute several metrics of one case under M methods at once.

    Args:
        scores: (M, S) or (S,), finite.
        gold: indices of the gold pieces, 0 < G < S.
        names: keys of METRICS.

    Returns:
        (M,) for each name.

    Raises:
        InputError: see `Ranking.of`.
    """
    ranking = Ranking.of(scores, gold)
    return {name: METRICS[name](ranking) for name in names}


def measure_case(scores: Any, gold: Sequence[int]) -> dict[str, float | None]:
    """Compute every metric of one case under one method; all are None without a gold piece or with gold pieces only.

    Raises:
        InputError: as `Ranking.of`, except for the number of gold pieces.
    """
    S = np.size(scores)
    if len(_check_gold(gold, S)) in (0, S):
        return dict.fromkeys(METRICS)
    return {name: float(value[0]) for name, value in measure(scores, gold).items()}


def linear_datamodeling_score(scores: Any, masks: Any, effects: Any) -> float | None:
    """LDS of one case: how well sums of scores predict the measured effects (Park et al. 2023, TRAK).

    Args:
        scores: (S,), finite.
        masks: (M, S) of 0 and 1: which pieces each of M ablated prompts kept.
        effects: (M,), finite: the value measured with each mask, such as the answer's log-probability.

    Returns:
        The Spearman correlation of ``masks @ scores`` with `effects`, ties by average rank, -1 to 1. It is 0 if the
        prediction is the same for every mask, and None if all effects are equal.

    Raises:
        InputError: the shapes do not fit, there are fewer than two masks, or a number is not finite.
    """
    values, masks, measured = (np.asarray(x, np.float64) for x in (scores, masks, effects))
    if values.ndim != 1 or masks.ndim != 2 or masks.shape != (measured.size, values.size) or measured.ndim != 1:
        raise InputError(
            f"LDS takes scores (S,), masks (M, S) and effects (M,), got {values.shape}, {masks.shape}, {measured.shape}"
        )
    if len(measured) < 2 or not (np.isfinite(values).all() and np.isfinite(measured).all()):
        raise InputError(f"LDS needs two masks or more and finite numbers, got {len(measured)} masks")
    predicted = masks @ values
    # Sums of the same scores in another order differ in the last bits. Rounding removes this difference.
    scale = np.abs(values).sum()
    predicted = np.round(predicted / scale, 12) if scale > 0 else predicted
    a, b = (_average_ranks(x) - (len(measured) + 1) / 2 for x in (predicted, measured))
    if not b.any():
        return None
    return float(a @ b / np.sqrt((a @ a) * (b @ b))) if a.any() else 0.0


def _average_ranks(values: Floats) -> Floats:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which])
