"""Sum the scores of tokens over the segments that they belong to."""

import numpy as np
import numpy.typing as npt

__all__ = ["sum_tokens", "token_runs"]

ROWS_AT_ONCE = 64  # answer rows that are converted to float64 at a time


def token_runs(assigned: npt.NDArray[np.int64], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First token and segment of each run of tokens with one segment; `count` stands for no segment."""
    starts = np.flatnonzero(np.r_[True, assigned[1:] != assigned[:-1]]).astype(np.int64)
    targets = assigned[starts]
    return starts, np.where(targets < 0, count, targets)


def sum_tokens(values: npt.NDArray[np.float32], assigned: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
    """(o, count + 1) sums in float64; the last column sums tokens outside all segments."""
    starts, targets = token_runs(assigned, count)
    out = np.zeros((len(values), count + 1))
    repeated = len(np.unique(targets)) < len(targets)
    for row in range(0, len(values), ROWS_AT_ONCE):
        block = slice(row, row + ROWS_AT_ONCE)
        runs = np.add.reduceat(values[block].astype(np.float64), starts, axis=1)
        if repeated:
            np.add.at(out[block].T, targets, runs.T)
        else:
            out[block, targets] = runs
    return out
