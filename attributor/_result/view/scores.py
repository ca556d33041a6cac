"""Compute means and sums over ranges of rows and units, fast enough to follow a pointer over 100,000 x 512 scores."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from attributor._errors import FileFormatError, InputError
from attributor._result.view.top import Edges, LargestEdges
from attributor._result.view.units import Units, run_starts, segments_of, text_and_spans, token_units
from attributor._text import assign_tokens

if TYPE_CHECKING:
    from attributor._result.flow import Flow

__all__ = ["Scores"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ROWS = 16  # rows between two cumulative sums
TOKENS = 256  # tokens between two cumulative sums
CACHED = 200_000  # values per block for edges: they fit into a processor's cache


class Scores:
    """Means and sums of a flow's scores for the views; every number equals that of ``flow.by(...)`` in float32.

    Three arrays of sums are computed in one pass over the scores at their first use (0.1 s for 100,000 tokens x 512
    rows). The first sums all rows before every 16th, (o / 16, k) float64. The second sums all tokens before every
    256th, (o, k / 256) float64. The third sums runs of tokens of one sentence and document, (o, m) float32. Together
    they take `cache_bytes`: 0.2 times the scores' bytes with sentences of 20 tokens, at most 1.2 times. Threads may
    call concurrently.

    Args:
        flow: in memory or mapped; only its arrays are kept.
        name: what error messages call the flow.

    Attributes:
        units: the u units of each row.
    """

    def __init__(self, flow: Flow, name: str = "the flow") -> None:
        spans = text_and_spans(flow)[1]
        self._scores: Floats = flow.arrays.scores
        self._name = name
        self.units: Units = token_units(flow)
        self._bounds = self.units.bounds
        of = {
            "sentence": assign_tokens(spans, segments_of(flow.sentence_spans)),
            "document": assign_tokens(spans, flow.documents),
        }
        self._starts = run_starts(np.stack([of["sentence"], of["document"]], axis=1))
        self._run_of = {by: values[self._starts] for by, values in of.items()}
        self._counts = {"sentence": len(flow.sentence_spans), "document": len(flow.documents)}
        self._lock = Lock()
        self._sums: tuple[Doubles, Doubles, Floats] | None = None
        self._nonnegative = True
        self._least = self._largest = 0.0  # the smallest score, and the largest absolute score

    @property
    def count(self) -> int:
        """O, how many rows there are."""
        return len(self._scores)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cumulative sums once they are computed."""
        o, k = self._scores.shape
        runs = len(self._starts) if len(self._starts) < k else 0
        return int(8 * k * (-(-o // ROWS) + 1) + 8 * o * (k // TOKENS + 1) + 4 * o * runs)

    @property
    def has_negative(self) -> bool:
        """Whether any score is below 0 by more than noise, a millionth of the largest."""
        self._cumulative_sums()
        return self._least < -1e-6 * self._largest

    def check_finite(self) -> None:
        """Raise FileFormatError if scores are NaN or infinite, as they may be in a mapped file."""
        self._cumulative_sums()

    @property
    def base(self) -> Floats:
        """(o,) float32, each row's sum over the documents, or over a prompt without documents; shares refer to it."""
        runs = self._cumulative_sums()[2]
        if self._counts["document"]:
            runs = runs[:, self._run_of["document"] >= 0]
        sums: Floats = runs.sum(axis=1, dtype=np.float64).astype(np.float32)
        return sums

    @property
    def total(self) -> Floats:
        """(u,) float32, the mean over all rows."""
        return self.rows(0, len(self._scores))

    def rows(self, start: int, stop: int) -> Floats:
        """(u,) float32, the mean of rows start ... stop - 1.

        Raises:
            InputError: no such rows; FileFormatError: scores that are NaN or infinite.
        """
        o = len(self._scores)
        _check(start, stop, o, "rows of the answer")
        if stop - start <= ROWS:
            sums = self._add(np.zeros(self._scores.shape[1]), start, stop, 1)
        else:
            # from the cumulative sums nearest to each end, and the rows between; the last sum is after the last row
            marks = self._cumulative_sums()[0]
            low, high = round(start / ROWS), len(marks) - 1 if stop == o else round(stop / ROWS)
            low_row, high_row = low * ROWS, o if stop == o else high * ROWS
            sums = marks[high] - marks[low]
            self._add(sums, start, low_row, 1) if start < low_row else self._add(sums, low_row, start, -1)
            self._add(sums, high_row, stop, 1) if high_row < stop else self._add(sums, stop, high_row, -1)
            if self._nonnegative:
                np.maximum(sums, 0.0, out=sums)  # the difference may give -1e-17 for 0
        if len(self.units) < len(sums):
            sums = np.add.reduceat(sums, self.units.first)
        return self._check_finite((sums / (stop - start)).astype(np.float32))

    def sums(self, by: str, start: int, stop: int) -> tuple[Floats, float]:
        """The mean of rows start ... stop - 1, summed by sentence or document: (s,) or (d,) float32, and the rest.

        Args:
            by: "sentence" or "document".

        Raises:
            InputError: no such rows or pieces; FileFormatError: scores that are NaN or infinite.
        """
        _check(start, stop, len(self._scores), "rows of the answer")
        self._check_by(by, ("sentence", "document"))
        runs = self._cumulative_sums()[2][start:stop].sum(axis=0, dtype=np.float64) / (stop - start)
        sums = np.bincount(self._run_of[by] + 1, weights=runs, minlength=self._counts[by] + 1)
        return sums[1:].astype(np.float32), float(sums[0])

    def sum_over_prompt(self, start: int, stop: int) -> Floats:
        """(o,) float32, each row's sum over units start ... stop - 1.

        Raises:
            InputError: no such units; FileFormatError: scores that are NaN or infinite.
        """
        _check(start, stop, len(self.units), "pieces of the prompt")
        return self._token_sums(int(self._bounds[start]), int(self._bounds[stop])).astype(np.float32)

    def edges(
        self, by: str, start: int, stop: int, limit: int, unit_start: int = 0, unit_stop: int | None = None
    ) -> Edges:
        """The `limit` largest connections of rows start ... stop - 1 and pieces, largest first.

        Args:
            by: "sentence" or "document", with the index -1 for tokens outside all of them; or "token", the units.
            start, stop: rows.
            limit: how many at most.
            unit_start, unit_stop: count only these units; a piece that is partly among them counts in part.

        Raises:
            InputError: no such rows, units or pieces; FileFormatError: scores that are NaN or infinite.
        """
        _check(start, stop, len(self._scores), "rows of the answer")
        unit_stop = len(self.units) if unit_stop is None else unit_stop
        _check(unit_start, unit_stop, len(self.units), "pieces of the prompt")
        self._check_by(by, ("document", "sentence", "token"))
        if limit < 0:
            raise InputError(f"limit must be at least 0, got {limit}")
        self._cumulative_sums()  # checks the scores too
        top = LargestEdges(limit)
        if by != "token":
            at_once = max(1, CACHED // (self._counts[by] + 1))
            for row in range(start, stop, at_once):
                top.offer(self._piece_sums(by, row, min(row + at_once, stop), unit_start, unit_stop))
            return top.edges(start, self._counts[by] + 1, -1)
        width = unit_stop - unit_start
        low, high = int(self._bounds[unit_start]), int(self._bounds[unit_stop])
        inner = self.units.first[unit_start:unit_stop] - low
        known = self._token_sums(low, high) if self._nonnegative else None
        at_once = max(1, CACHED // width)
        for row in range(start, stop, at_once):
            rows = slice(row, min(row + at_once, stop))
            block = self._scores[rows, low:high]
            if width < high - low:
                block = np.add.reduceat(block, inner, axis=1)
            top.offer(block, None if known is None else float(known[rows].sum()))
        return top.edges(start, width, unit_start)

    def _piece_sums(self, by: str, start: int, stop: int, unit_start: int, unit_stop: int) -> Floats:
        """(stop - start, 1 + pieces), each row's sum over these units by piece; column 0: outside all pieces."""
        low, high = int(self._bounds[unit_start]), int(self._bounds[unit_stop])
        # runs of tokens that are completely in the range, and the parts of runs at its ends
        left = int(np.searchsorted(self._starts, low, side="left"))
        right = int(np.searchsorted(np.append(self._starts[1:], self._scores.shape[1]), high, side="right"))
        target = self._run_of[by]
        out = np.zeros((stop - start, self._counts[by] + 1))
        ends = []
        if left > right:  # all within one run
            ends.append((left - 1, low, high))
        else:
            first_token = int(self._starts[left]) if left < len(self._starts) else self._scores.shape[1]
            last_token = int(self._starts[right]) if right < len(self._starts) else self._scores.shape[1]
            ends += [(left - 1, low, first_token)] if low < first_token else []
            ends += [(right, last_token, high)] if last_token < high else []
            if left < right:
                _add_runs(out, self._cumulative_sums()[2][start:stop, left:right], target[left:right] + 1)
        for run, a, b in ends:
            out[:, target[run] + 1] += self._scores[start:stop, a:b].sum(axis=1, dtype=np.float64)
        return out.astype(np.float32)

    def _token_sums(self, low: int, high: int) -> Doubles:
        """(o,) sums over tokens low ... high - 1."""
        marks = self._cumulative_sums()[1]
        a, b = -(-low // TOKENS), high // TOKENS
        if a >= b:
            within: Doubles = self._scores[:, low:high].sum(axis=1, dtype=np.float64)
            return within
        sums: Doubles = marks[:, b] - marks[:, a]
        sums += self._scores[:, low : a * TOKENS].sum(axis=1, dtype=np.float64)
        sums += self._scores[:, b * TOKENS : high].sum(axis=1, dtype=np.float64)
        return np.maximum(sums, 0.0) if self._nonnegative else sums

    def _add(self, sums: Doubles, start: int, stop: int, sign: int) -> Doubles:
        for row in self._scores[start:stop]:
            (np.add if sign > 0 else np.subtract)(sums, row, out=sums)
        return sums

    def _cumulative_sums(self) -> tuple[Doubles, Doubles, Floats]:
        with self._lock:
            if self._sums is None:
                self._sums = self._compute_cumulative_sums()
            return self._sums

    def _compute_cumulative_sums(self) -> tuple[Doubles, Doubles, Floats]:
        o, k = self._scores.shape
        before_rows = np.zeros((-(-o // ROWS) + 1, k))
        before_tokens = np.zeros((o, k // TOKENS + 1))
        each = len(self._starts) == k
        runs = self._scores if each else np.empty((o, len(self._starts)), dtype=np.float32)
        sums, wide, block_starts = np.zeros(k), np.empty(k), np.arange(0, k // TOKENS * TOKENS, TOKENS)
        least = most = 0.0
        for i, row in enumerate(self._scores):
            np.copyto(wide, row)
            sums += wide
            if not each:
                runs[i] = np.add.reduceat(wide, self._starts)
            if len(block_starts):
                np.cumsum(np.add.reduceat(wide[: len(block_starts) * TOKENS], block_starts), out=before_tokens[i, 1:])
            least, most = min(least, float(row.min())), max(most, float(row.max()))
            if (i + 1) % ROWS == 0 or i + 1 == o:
                before_rows[-(-(i + 1) // ROWS)] = sums
        self._check_finite(sums)  # NaN or infinity in any row persists in the sum of all rows
        self._nonnegative, self._least, self._largest = least >= 0.0, least, max(most, -least)
        return before_rows, before_tokens, runs

    def _check_finite(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        if not np.isfinite(values).all():
            raise FileFormatError(f"{self._name} has scores that are NaN or infinite; the run that made it went wrong")
        return values

    def _check_by(self, by: str, known: tuple[str, ...]) -> None:
        if by not in known:
            raise InputError(f"by must be one of {', '.join(known)}, got {by[:60]!r}")


def _add_runs(out: Doubles, runs: Floats, target: Ints) -> None:
    """Add (r, m) sums of runs to the columns of `out` that `target` names."""
    starts = run_starts(target[:, None])
    merged = np.add.reduceat(runs, starts, axis=1, dtype=np.float64) if len(starts) < len(target) else runs
    target = target[starts]
    outside = target == 0
    out[:, 0] += merged[:, outside].sum(axis=1, dtype=np.float64)
    inside, merged = target[~outside], merged[:, ~outside]
    if len(np.unique(inside)) == len(inside):
        out[:, inside] += merged
    else:  # a piece with tokens that are not adjacent
        np.add.at(out.T, inside, merged.T)


def _check(start: int, stop: int, count: int, what: str) -> None:
    if not 0 <= start < stop <= count:
        raise InputError(f"there are {count:,} {what}; {start} to {stop} is no range of them: 0 <= start < stop")
