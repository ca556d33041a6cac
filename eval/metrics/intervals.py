"""Bootstrap intervals over cases: the 2.5th and 97.5th percentile of means over cases drawn with replacement.

The intervals are percentile intervals, not BCa. For bounded metrics and tens of cases the two differ by less than the
noise of their width. The percentile intervals of many columns take one matrix product.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attributor._errors import InputError

__all__ = ["RESAMPLES", "SEED", "Interval", "mean_intervals", "median_interval"]

RESAMPLES, SEED = 10_000, 0
LEVEL = 95  # percent
CHUNK = 2_000_000  # cases drawn at a time, which bounds the memory

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean (or median) over n cases with its 95% interval; low and high are None if n < 2, value is None if n = 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return a dict for JSON, rounded: a bootstrap is less precise than six decimals."""
        return {"value": _short(self.value), "low": _short(self.low), "high": _short(self.high), "n": self.n}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6) if abs(value) >= 1e-3 else float(f"{value:.3g}")


def mean_intervals(values: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> list[Interval]:
    """Compute the mean of every column with its interval.

    Columns with the same cases share the draws. A column of differences of two values of the same case therefore gives
    a paired interval.

    Args:
        values: (n, C); NaN if a case has no value in a column.
        resamples: how often n cases are drawn.
        seed: seed of the draws; the same seed and cases give the same interval.

    Raises:
        InputError: not a matrix, or resamples < 1.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or resamples < 1:
        raise InputError(f"needs a matrix (n, C) and resamples >= 1, got {table.shape} and {resamples}")
    intervals = [Interval(None, None, None, 0)] * table.shape[1]
    there = ~np.isnan(table)
    patterns: dict[bytes, list[int]] = {}
    for column in range(table.shape[1]):
        patterns.setdefault(np.packbits(there[:, column]).tobytes(), []).append(column)
    for columns in patterns.values():
        rows = there[:, columns[0]]
        if n := int(rows.sum()):
            for column, interval in zip(
                columns, _column_intervals(table[rows][:, columns], n, resamples, seed), strict=True
            ):
                intervals[column] = interval
    return intervals


def _column_intervals(values: Floats, n: int, resamples: int, seed: int) -> Iterator[Interval]:
    """Intervals of columns (n, C) without NaN."""
    means = values.mean(axis=0)
    if n < 2:
        yield from (Interval(float(mean), None, None, n) for mean in means)
        return
    drawn = np.concatenate([counts @ values for counts in _counts(n, resamples, seed)]) / n
    low, high = np.percentile(drawn.T, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], axis=1)
    for column, mean in enumerate(means):
        yield Interval(float(mean), float(low[column]), float(high[column]), n)


def _counts(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each of n cases is drawn, (some, n) at a time."""
    generator = np.random.default_rng(seed)
    most = max(CHUNK // n, 1)
    for done in range(0, resamples, most):
        some = min(most, resamples - done)
        drawn = generator.integers(0, n, (some, n), dtype=np.int32) + np.arange(some)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n).astype(np.float64)


def median_interval(values: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Compute the median of (n,) numbers with its interval; used for times, where outliers should not count."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    n = len(known)
    if n == 0:
        return Interval(None, None, None, 0)
    if n == 1:
        return Interval(float(known[0]), None, None, 1)
    most = max(CHUNK // n, 1)
    generator = np.random.default_rng(seed)
    medians = [
        np.median(known[generator.integers(0, n, (min(most, resamples - done), n))], axis=1)
        for done in range(0, resamples, most)
    ]
    low, high = np.percentile(np.concatenate(medians), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Interval(float(np.median(known)), float(low), float(high), n)
