"""Keep the largest connections of answer rows and prompt pieces, a block of rows at a time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Edges", "LargestEdges"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
STEP = 32  # the sample for a lower bound of the largest values has every 32nd value


@dataclass(frozen=True)
class Edges:
    """E connections of rows and pieces, largest first; equal ones in the order of rows and pieces.

    Attributes:
        rows, pieces: (e,) int32.
        mass: (e,) float32.
        total: the mass of all connections that were offered; values <= 0 do not count.
    """

    rows: npt.NDArray[np.int32]
    pieces: npt.NDArray[np.int32]
    mass: Floats
    total: float


class LargestEdges:
    """Keeps the `limit` largest of the offered values."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._mass: Floats = np.empty(0, dtype=np.float32)
        self._at: Ints = np.empty(0, dtype=np.int64)
        self._offered = 0
        self._floor = np.float32(0.0)
        self._total = 0.0

    def offer(self, block: Floats, total: float | None = None) -> None:
        """Offer a block of rows x pieces; all blocks have the same width. `total`: its mass, if known."""
        flat = np.ascontiguousarray(block).reshape(-1)
        if total is None:
            total = float(np.maximum(flat, np.float32(0.0)).sum(dtype=np.float64))
        self._total += total
        candidates = np.flatnonzero(flat > self._guess_floor(flat))
        if self._limit and len(candidates):
            self._mass = np.concatenate([self._mass, flat[candidates]])
            self._at = np.concatenate([self._at, candidates + self._offered])
            if len(self._mass) > self._limit:
                self._prune()
        self._offered += flat.size

    def edges(self, first_row: int, width: int, first_piece: int) -> Edges:
        """The largest connections; the first offered value belongs to `first_row` and `first_piece`."""
        order = np.argsort(-self._mass, kind="stable")
        rows, pieces = np.divmod(self._at[order], width)
        return Edges(
            (rows + first_row).astype(np.int32), (pieces + first_piece).astype(np.int32), self._mass[order], self._total
        )

    def _guess_floor(self, flat: Floats) -> np.float32:
        """A value that at least `limit` of these exceed, so that the rest need not be sorted; else the floor."""
        if len(self._mass) >= self._limit or flat.size < 64 * STEP:
            return self._floor
        sample = flat[::STEP]
        place = max(len(sample) - 2 * (self._limit // STEP + 16), 0)
        guess = np.partition(sample, place)[place]
        return guess if guess > self._floor and np.count_nonzero(flat > guess) >= self._limit else self._floor

    def _prune(self) -> None:
        """Keep the `limit` largest; of values equal to the smallest kept one, the first."""
        place = len(self._mass) - self._limit
        self._floor = np.partition(self._mass, place)[place]
        keep = self._mass > self._floor
        equal = np.flatnonzero(self._mass == self._floor)
        keep[equal[: self._limit - int(keep.sum())]] = True
        self._mass, self._at = self._mass[keep], self._at[keep]
