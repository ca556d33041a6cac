"""Computes tiles of one head's attention matrix at any zoom, without a whole row block in memory.

Level 0 has a cell for each pair of tokens. Level z has a cell for 2^z x 2^z pairs, with their largest value and their
mean. A tile is 256 x 256 cells. The mean is over the pairs with key <= query, so that cells on the diagonal are not too
dark.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._flow import Recording
from attributor.web.live.attention import Check, Queries, RecordingReader, no_check

__all__ = ["SIZE", "AttentionTile", "TileCache", "compute_tile", "count_levels"]

SIZE = 256
WORK = 3e10  # multiplications for one tile: about a second on two cores
EXPONENTIAL = 40  # multiplications that take as long as the exponential of one attention weight
ROWS, KEYS = 256, 1024  # a block
CACHE = 64 << 20

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AttentionTile:
    """One tile, in 255 steps of the square root: value = scale * (step / 255)^2.

    Attributes:
        max: (256, 256) the largest value of each cell.
        mean: (256, 256) the mean of each cell.
        scale: the largest value of `max` and of `mean`.
        every: one of `every` queries was computed; 1 for all. Above 1 `max` is a lower bound and `mean` an estimate.
    """

    max: Bytes
    mean: Bytes
    scale: tuple[float, float]
    every: int


class TileCache:
    """The tiles that were requested last, in the form of the response, up to a limit of bytes; thread-safe."""

    def __init__(self, limit: int = CACHE) -> None:
        """`limit`: bytes that the cached tiles may take together."""
        self.limit = limit
        self.used = 0
        self._tiles: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """The tile with this key, or None."""
        with self._lock:
            if key not in self._tiles:
                return None
            self._tiles.move_to_end(key)
            return self._tiles[key]

    def put(self, key: Hashable, data: bytes) -> None:
        """Store a tile and drop the least recently used ones to make room. A tile above the limit is not stored."""
        if len(data) > self.limit:
            return
        with self._lock:
            self.used += len(data) - len(self._tiles.pop(key, b""))
            self._tiles[key] = data
            while self.used > self.limit:
                _, dropped = self._tiles.popitem(last=False)
                self.used -= len(dropped)


def count_levels(tokens: int) -> int:
    """The number of levels of a matrix of `tokens` x `tokens`; the last level is a single tile."""
    return max(0, (max(1, tokens) - 1).bit_length() - SIZE.bit_length() + 1) + 1


@torch.no_grad()
def compute_tile(
    recording: Recording,
    layer: int,
    head: int,
    level: int,
    row: int,
    col: int,
    *,
    length: int | None = None,
    work: float = WORK,
    check: Check = no_check,
) -> AttentionTile:
    """Compute one tile of one head's attention.

    Args:
        recording: with N positions.
        layer: counted from 0.
        head: of the model.
        level: 0 for one cell for each pair.
        row: the tile's index along the queries.
        col: the tile's index along the keys.
        length: use only the first `length` positions; None: all N.
        work: the multiplications of a tile above which queries are left out.
        check: called between blocks; an exception that it raises ends the work.

    Raises:
        InputError: a level or a tile that the matrix does not have.
        RecordingError: the head was not recorded.
    """
    reader = RecordingReader(recording)
    N = reader.length if length is None else min(length, reader.length)
    if not 0 <= level < count_levels(N):
        raise InputError(f"a matrix of {N} tokens has levels 0 to {count_levels(N) - 1}, got {level}")
    span = SIZE << level  # tokens of a tile
    tiles = -(-N // span)
    if not (0 <= row < tiles and 0 <= col < tiles):
        raise InputError(f"level {level} has tiles 0 to {tiles - 1} both ways, got row {row} and col {col}")
    top, left = row * span, col * span
    bottom, right = min(top + span, N), min(left + span, N)
    largest = torch.zeros(SIZE, SIZE)
    sums = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    # one query gives the head size before anything is gathered
    D = reader.queries(layer, [bottom - 1], [head]).query.shape[-1]
    pairs = _count_pairs(reader.first(layer, top, bottom).numpy(), top, left, right)
    every = _choose_every(level, pairs * (D + EXPONENTIAL), work)
    for begin in range(top, bottom, ROWS * every):
        # the last of each `every` queries, which attends to most keys; at the end, the last query of the sequence
        end = min(begin + ROWS * every, bottom)
        positions = torch.arange(begin + every - 1, end + every - 1, every).clamp(max=bottom - 1)
        queries = reader.queries(layer, positions, [head])
        low, high = queries.seen
        for start in range(left, min(right, high), KEYS):
            stop = min(start + KEYS, right)
            if stop <= low:
                continue
            check()
            _pool_block(queries, start, stop, (top, left, level, every), largest, sums)
    counts = _count_cells(top, bottom, left, right, level, every)
    mean = torch.where(counts > 0, sums / counts.clamp(min=1), 0.0).float()
    scale = float(largest.max()), float(mean.max())
    return AttentionTile(_quantize(largest, scale[0]), _quantize(mean, scale[1]), scale, every)


def _choose_every(level: int, work: float, allowed: float) -> int:
    """The step between computed queries: a power of 2, at most the queries of a cell, so that every cell has one."""
    every = 1
    while every < 1 << level and work / every > allowed:
        every *= 2
    return every


def _count_pairs(first: npt.NDArray[np.int64], top: int, left: int, right: int) -> int:
    """How many pairs of a rectangle have attention: query top + r attends to keys from first[r] to itself."""
    queries = np.arange(top, top + len(first), dtype=np.int64)
    return int(np.clip(np.minimum(queries + 1, right) - np.maximum(first, left), 0, None).sum())


def _pool_block(
    queries: Queries, start: int, stop: int, where: tuple[int, int, int, int], largest: Tensor, sums: Tensor
) -> None:
    """Add one block to the cells of a tile: R queries, `every` apart, and keys start..stop-1."""
    top, left, level, every = where
    cell = max(1, (1 << level) // every)  # computed queries of a cell
    weight = queries.log_attention([0], start, stop)[0].exp().cpu()
    R = weight.shape[0]
    down, along = min(cell, ROWS), min(1 << level, KEYS)
    weight = torch.nn.functional.pad(weight, (0, -(stop - start) % along, 0, -R % down))
    blocks = weight.view(weight.shape[0] // down, down, -1)
    rows, cols = blocks.shape[0], weight.shape[1] // along
    first_row = (int(queries.positions[0]) - top) >> level
    first_col = (start - left) >> level
    cells = (slice(first_row, first_row + rows), slice(first_col, first_col + cols))
    highest = blocks.amax(1).view(rows, cols, along).amax(2)
    largest[cells] = torch.maximum(largest[cells], highest)
    sums[cells] += blocks.sum(1).view(rows, cols, along).sum(2)


def _count_cells(top: int, bottom: int, left: int, right: int, level: int, every: int) -> Tensor:
    """(256, 256) the number of computed pairs with key <= query in each cell."""
    counts = np.zeros((SIZE, SIZE), dtype=np.int64)
    edges = left + (np.arange(SIZE + 1, dtype=np.int64) << level)
    for begin, end in _cells(top, bottom, level):
        queries = np.minimum(np.arange(begin + every - 1, end + every - 1, every), bottom - 1)
        reach = np.clip(np.minimum(queries + 1, right)[:, None], edges[0], edges)  # keys <= query below each edge
        counts[(begin - top) >> level] = np.diff(reach, axis=1).sum(0)
    return torch.from_numpy(counts)


def _cells(top: int, bottom: int, level: int) -> Iterator[tuple[int, int]]:
    for begin in range(top, bottom, 1 << level):
        yield begin, min(begin + (1 << level), bottom)


def _quantize(values: Tensor, scale: float) -> Bytes:
    if scale <= 0:
        return np.zeros((SIZE, SIZE), dtype=np.uint8)
    steps: Bytes = (values / scale).sqrt().mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
    return steps
