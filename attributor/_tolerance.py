"""Which tiles of queries a sweep may leave out, so that no row of it loses more than it may.

Rows of attention sum to 1, so leaving query tile t out of one layer costs row o exactly

    sum_(i in t) R[o, i] sum_h w_h / (1 + sum_h w_h)

of its mass, which is known before anything is computed. Later layers neither grow nor shrink it (their rows sum to 1
too), so costs add up over the sweep, and their sum is the L1 distance to the row of the full sweep. Where a sink takes
a share of the attention, rows sum to less: costs and distance are then at most that.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from attributor._checks import check_number
from attributor._errors import InputError
from attributor._mask import Band
from attributor._weights import Weights

__all__ = ["TILE", "Budget", "check_tolerance"]

TILE = 128  # queries: what a kernel on a GPU skips at once; the CPU's has blocks of 96, of which it skips either end


def check_tolerance(tolerance: Any, weights: Weights) -> float:
    """The tolerance as a number, once it is known that it can be kept.

    Raises:
        InputError: no number from 0 up to 1, or weights whose attention does not sum to 1.
    """
    number = check_number("tolerance", tolerance)
    if not 0 <= number < 1:
        raise InputError(
            f"tolerance is the share of each row that may be skipped, 0 or more and less than 1, got {number:g}"
        )
    if number and not weights.stochastic:
        raise InputError(
            f"tolerance={number:g} needs attention whose rows sum to 1, or nobody knows what a skipped tile would have "
            f"held: weights {weights.name!r} have power={weights.power:g}, value_norms={weights.value_norms}; use "
            "tolerance=0, or weights with power=1 and value_norms=False"
        )
    return number


class Budget:
    """What each row of one sweep may still lose, and what it has lost.

    The n-th layer of a sweep over L, the model's last layer being the first, may spend n / (n + ... + L) of what is
    left: mass gathers in few tiles towards the model's first layers, where the same budget therefore buys more.
    docs/tolerance.md compares other rules.

    Attributes:
        tolerance: the share of each row that may be skipped.
        lost: (O,) float, what was skipped of each row so far; an upper bound where a sink takes a share.
    """

    def __init__(self, tolerance: float, weights: Weights) -> None:
        assert isinstance(weights.heads, Tensor)
        self.tolerance = tolerance
        self._layers = int((weights.heads > 0).any(1).sum())
        self._done = 0
        self.lost = self._skipped = self._wanted = torch.zeros(1, device="cpu")

    @property
    def skipped(self) -> float:
        """The share of the sweep's work that was left out, counted in (head, query tile, key tile)."""
        wanted = float(self._wanted)
        return float(self._skipped) / wanted if wanted else 0.0

    def begin(self, rows: Tensor) -> None:
        """See that the rows of a sweep, (O, N), are such that a sum over them is what they could lose.

        Raises:
            InputError: a negative entry, or a row that does not sum to 1.
        """
        if bool((rows < 0).any()) or bool(((rows.double().sum(1) - 1).abs() > 1e-4).any()):
            raise InputError("tolerance needs rows without negative entries that sum to 1; use tolerance=0")
        self.lost = torch.zeros_like(rows[:, 0])

    def trim(self, rows: Tensor, share: float, shape: Band, heads: int) -> Tensor:
        """The rows that one layer's attention is to be multiplied by: R, (O, N), with zeros for what it may skip.

        No number leaves the device: what is skipped is chosen by a sort and a running sum of the tiles' costs.

        Args:
            rows: R, >= 0; the residual keeps all of it.
            share: sum_h w_h / (1 + sum_h w_h) of the layer.
            shape: what its queries see; tiles begin where chunks do, as in the kernels.
            heads: how many heads the layer has, for `skipped`.
        """
        self._done += 1
        portion = self._done / sum(range(self._done, self._layers + 1))
        tiles = [_sums(rows[:, low:high]) for low, high in shape.chunks]  # [O, T] of each chunk
        seen = torch.cat([torch.arange(1, tile.shape[1] + 1, device=rows.device) for tile in tiles])
        if shape.window is not None:
            seen = seen.clamp(max=-(-shape.window // TILE) + 1)
        cost = torch.cat(tiles, 1) * share  # [O, T]
        worst = cost.amax(0)
        order = (worst / seen).argsort(stable=True)  # what saves most for what it costs comes first
        lost = self.lost.to(rows)
        allowed = (self.tolerance - lost).clamp(min=0) * portion
        affordable = (cost[:, order].cumsum(1) <= allowed[:, None]).all(0)
        dropped = torch.zeros_like(affordable)
        dropped[order] = affordable

        self.lost = lost + (cost * dropped).sum(1)
        work = heads * seen * (worst > 0).to(rows)  # a tile without mass is skipped in any case
        self._wanted = self._wanted.to(rows.device) + work.sum()
        self._skipped = self._skipped.to(rows.device) + (work * dropped).sum()
        parts = torch.split(dropped, [tile.shape[1] for tile in tiles])
        bounds = zip(parts, shape.chunks, strict=True)
        hidden = [part.repeat_interleave(TILE)[: high - low] for part, (low, high) in bounds]
        return rows.masked_fill(torch.cat(hidden), 0)


def _sums(rows: Tensor) -> Tensor:
    """(O, N) -> (O, T), the sum over each tile."""
    return pad(rows, (0, -rows.shape[1] % TILE)).view(rows.shape[0], -1, TILE).sum(2)
