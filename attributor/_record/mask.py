"""Reduce an attention mask to the first key that each query sees; refuse masks that this cannot express.

Causal attention, sliding windows, chunks and padding are all such intervals. A mask function or a mask tensor is read
element by element, in blocks. Any other mask is refused, so that nothing is silently left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from attributor._errors import UnsupportedModelError

__all__ = ["Mask", "MaskPattern", "causal", "classify_mask", "from_function", "from_tensor"]

BLOCK = 1 << 22  # elements of the mask read at once: bounds the working set to a few dozen MB


class MaskTouchedError(UnsupportedModelError, AttributeError):
    """Also an AttributeError, so that hasattr() returns False."""


@dataclass(frozen=True)
class Mask:
    """The mask of one forward call, in cache positions; transformers passes it on like a 4-D tensor.

    Attributes:
        start: the position of the call's first query.
        keys_from: the position of the first key that the layer receives (> 0 if a cache has dropped keys).
        first: (B, Q) int64, the first position that each query sees; -1 for padding.
        keys: how many keys the layer receives, if that is known.
        plain: the mask is causal without padding: `first` is all zeros and need not be read.
        refusal: why it cannot be recorded. It is raised only by a layer that uses the mask.
        reader: the gradient pass that the call belongs to. The layers run again in the backward pass, in any thread,
            and use the reader's attention. None: the call belongs to a recording.
    """

    start: int
    keys_from: int
    first: Tensor
    keys: int | None = None
    plain: bool = False
    refusal: str = ""
    reader: Any = None

    ndim = 4  # transformers passes a prepared mask on unless it is two-dimensional

    def check(self, name: str) -> None:
        """Raise UnsupportedModelError if the layer `name` attends with a mask that cannot be recorded."""
        if self.refusal:
            raise UnsupportedModelError(f"{name}: {self.refusal}")

    def as_bias(self, keys: int, dtype: torch.dtype) -> Tensor:
        """(B, 1, Q, keys), 0 where a key is seen and the dtype's minimum elsewhere, for attention functions."""
        key = torch.arange(self.keys_from, self.keys_from + keys, device=self.first.device)
        query = torch.arange(self.start, self.start + self.first.shape[1], device=self.first.device)
        seen = (key >= self.first[..., None]) & (key <= query[:, None])
        bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return bias.masked_fill(~seen, torch.finfo(dtype).min)[:, None]

    def contiguous(self) -> "Mask":
        """Return the mask itself; generate() calls this on every mask that it prepares."""
        return self

    def __getattr__(self, name: str) -> Any:
        """Refuse: a model that uses its mask as a tensor computes something that is not recorded."""
        raise MaskTouchedError(f"the model looks at its attention mask itself (.{name}), so it cannot be recorded")

    def __getitem__(self, index: Any) -> Any:
        """As __getattr__."""
        raise MaskTouchedError("the model cuts its attention mask itself, so it cannot be recorded")


@dataclass(frozen=True)
class MaskPattern:
    """The kind of mask of a whole sequence: causal, with at most one of a window and chunks.

    Attributes:
        window: positions that a query sees, its own included; None for all earlier ones.
        chunks: the bounds (start, stop) of blocks that do not see each other; one block if there are no chunks.
    """

    window: int | None
    chunks: tuple[tuple[int, int], ...]


def causal(batch: int, length: int, start: int, keys_from: int, keys: int, device: torch.device | str) -> Mask:
    """Every query sees all keys from position 0 to its own."""
    return Mask(start, keys_from, torch.zeros(batch, length, dtype=torch.int64, device=device), keys, plain=True)


def from_function(
    function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    padding: Tensor | None,  # (B, K') bool, by position
    *,
    batch: int,
    length: int,
    start: int,
    keys_from: int,
    keys: int,
    device: torch.device | str,
) -> Mask:
    """Read the mask function of (batch, head, query, key) positions that transformers composes for a layer type.

    A mask that cannot be recorded has its `refusal` set.
    """
    rows = torch.arange(batch, device=device)[:, None, None, None]
    head = torch.zeros(1, 1, 1, 1, dtype=torch.int64, device=device)
    # a static cache has room for keys that are not yet written; no query can see past the last one
    key = torch.arange(keys_from, min(keys_from + keys, start + length), device=device)
    real = None
    if padding is not None:
        room = max(0, start + length - padding.shape[1])
        real = torch.nn.functional.pad(padding.to(device=device, dtype=torch.bool), (0, room))

    def is_allowed(low: int, high: int) -> Tensor:
        query = torch.arange(start + low, start + high, device=device)
        seen = function(rows, head, query[None, None, :, None], key[None, None, None, :])
        seen = seen.expand(batch, 1, high - low, key.numel())[:, 0]
        return seen if real is None else seen & real[:, None, key]

    alive = None if real is None else real[:, start : start + length]
    try:
        first = _read_intervals(is_allowed, alive, batch=batch, length=length, start=start, key=key)
    except UnsupportedModelError as error:
        first = torch.zeros(batch, length, dtype=torch.int64, device=device)
        return Mask(start, keys_from, first, keys, refusal=str(error))
    return Mask(start, keys_from, first, keys)


def from_tensor(mask: Tensor, *, length: int, keys: int) -> Mask:
    """Read a 4-D mask that the caller passed to the model: True, or 0 in a float mask, means that a key is seen."""
    if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[2] != length or mask.shape[3] < keys:
        raise UnsupportedModelError(
            f"attention masks must be (B, 1, {length}, {keys}), the same for all heads; got {tuple(mask.shape)}"
        )
    if mask.dtype == torch.bool:
        seen = mask[:, 0, :, :keys]
    else:
        low = mask[:, 0, :, :keys] <= torch.finfo(mask.dtype).min / 2
        if not bool((low | (mask[:, 0, :, :keys] == 0)).all()):
            raise UnsupportedModelError(
                "an attention mask with values between 0 and minus infinity is a bias, not a mask"
            )
        seen = ~low
    start = keys - length
    key = torch.arange(keys, device=mask.device)
    first = _read_intervals(
        lambda low, high: seen[:, low:high],
        seen[:, torch.arange(length), torch.arange(start, keys)],  # a query that does not see itself is padding
        batch=mask.shape[0],
        length=length,
        start=start,
        key=key,
    )
    return Mask(start, 0, first, keys)


def _read_intervals(
    is_allowed: Callable[[int, int], Tensor],
    alive: Tensor | None,  # (B, Q) bool
    *,
    batch: int,
    length: int,
    start: int,
    key: Tensor,  # (K,) positions
) -> Tensor:  # (B, Q)
    first = torch.empty(batch, length, dtype=torch.int64, device=key.device)
    step = max(1, BLOCK // max(1, batch * key.numel()))
    for low in range(0, length, step):
        high = min(low + step, length)
        seen = is_allowed(low, high)  # [B, BQ, K]
        query = torch.arange(start + low, start + high, device=key.device)
        begin = key[seen.to(torch.uint8).argmax(-1)]  # [B, BQ] the first key that is seen
        interval = (key >= begin[..., None]) & (key <= query[:, None])
        wrong = (seen != interval).any(-1)
        padded = torch.zeros_like(wrong) if alive is None else ~alive[:, low:high]
        if bool((wrong & ~padded).any()):
            position = int((wrong & ~padded).nonzero()[0, 1]) + start + low
            raise UnsupportedModelError(
                f"the attention mask of position {position} is not one unbroken run of keys that ends at its own "
                "position; causal, window, chunk, packing and padding masks can be recorded, bidirectional and custom "
                "ones cannot"
            )
        first[:, low:high] = begin.masked_fill(padded, -1)
    return first


def classify_mask(first: Tensor, start: int = 0) -> MaskPattern:
    """Classify the intervals [first[i], start + i] of one sequence.

    Args:
        first: (Q,) int64, the first position that each query sees.
        start: the position of the first query; earlier chunks than its own are not part of the pattern.

    Raises:
        UnsupportedModelError: they are neither causal, nor a window, nor chunks.
    """
    stop = start + first.numel()
    position = torch.arange(start, stop, device=first.device)
    if bool((first == 0).all()):
        return MaskPattern(None, ((0, stop),))
    window = int((position - first).max()) + 1
    if bool((first == (position - window + 1).clamp(min=0)).all()):
        return MaskPattern(window, ((0, stop),))
    starts = torch.unique(first)
    if bool((first == starts[torch.searchsorted(starts, position, right=True) - 1]).all()):
        bounds = [*starts.tolist(), stop]
        return MaskPattern(None, tuple(pairwise(bounds)))
    raise UnsupportedModelError("the attention mask is neither causal, nor a sliding window, nor chunks")
