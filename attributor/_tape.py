"""What is kept of one layer's attention: enough to rebuild any of its weights, and no more."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attributor._arena import Arena
from attributor._errors import RecordingError
from attributor._mask import Mask
from attributor._park import Park, Parked

__all__ = ["Layer", "Tape"]


@dataclass(frozen=True)
class Layer:
    """One layer of one sequence, ready for flow_step.

    Attributes:
        query: (H, N, D), the chosen heads, after rotary embedding.
        key: (G, N, D), the KV heads that the chosen heads read.
        kv_index: (H,) int64, the KV head of each chosen head.
        lse: (H, N) natural logarithm of the softmax's denominator, the sink's share included.
        first: (N,) int64, the first position that each query sees.
        log_value: (H, N) log of the norm of each key's projected value, or None.
    """

    query: Tensor
    key: Tensor
    kv_index: Tensor
    lse: Tensor
    first: Tensor
    log_value: Tensor | None
    scale: float
    softcap: float | None


class Held:
    """A tensor kept by reference where that wastes no memory, by copy otherwise; notices a later change in place.

    With an arena a large tensor is copied there, and the allocation that it came in is free again; with a park it moves
    out of its device until it is asked for.
    """

    def __init__(self, tensor: Tensor, arena: Arena | None = None, park: Park | None = None) -> None:
        self.nbytes = tensor.numel() * tensor.element_size()
        self.version: int | None = None  # of a tensor that somebody else can change
        self.parked: Parked | None = None
        if park is not None:
            self.parked, self.tensor = park.move(tensor), tensor.new_empty(0)
            return
        copy = arena.copy(tensor) if arena is not None else None
        if copy is None:
            wasteful = tensor.untyped_storage().nbytes() > 2 * self.nbytes
            copy = tensor.clone() if wasteful or tensor.is_inference() else tensor
            self.nbytes = copy.untyped_storage().nbytes()
            self.version = None if copy.is_inference() else copy._version
        self.tensor = copy

    def fetch(self) -> None:
        """It will be asked for soon."""
        if self.parked is not None:
            self.parked.fetch()

    def get(self) -> Tensor:
        if self.parked is not None:
            return self.parked.get()
        if self.version is not None and self.tensor._version != self.version:
            raise RecordingError(
                "a recorded tensor was changed in place after it was recorded (a static cache that was used again?); "
                "call recording.flow() before reusing the cache"
            )
        return self.tensor


@dataclass
class Tape:
    """The recorded calls of one layer, in order of position. All positions are cache positions of the padded batch."""

    heads: tuple[int, ...]  # the chosen query heads
    groups: int  # query heads a KV head
    scale: float
    softcap: float | None
    arena: Arena
    length: int = 0
    query: list[tuple[int, Held]] = field(default_factory=list)  # (B, H, Q, D)
    lse: list[tuple[int, Held]] = field(default_factory=list)  # (B, H, Q)
    first: list[tuple[int, Held]] = field(default_factory=list)  # (B, Q)
    key: list[tuple[int, Held]] = field(default_factory=list)  # (B, G, K, D)
    log_value: list[tuple[int, Held]] = field(default_factory=list)  # (B, H, K)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """The KV heads that the chosen heads read, in order."""
        return tuple(sorted({head // self.groups for head in self.heads}))

    def add(
        self,
        query: Tensor,
        key: Tensor,
        lse: Tensor,
        log_value: Tensor | None,
        mask: Mask,
        park: Park | None = None,
    ) -> None:
        """Append one call: query (B, H_all, Q, D), key (B, G_all, K, D) with all keys that the layer was handed.

        With `park` its query moves out of its device, and so does its key where no cache holds it anyway.
        """
        Q, start = query.shape[2], mask.start
        self.truncate(start)
        if start != self.length:
            raise RecordingError(
                f"{start} positions were read into the cache before recording began, of which {self.length} are known; "
                "start the recording before the first token is read"
            )
        chosen = list(self.heads)
        every = len(chosen) == query.shape[1]
        self.query.append((start, Held(query if every else query[:, chosen], self.arena, park)))
        self.lse.append((start, Held(lse if every else lse[:, chosen], self.arena)))
        self.first.append((start, Held(mask.first)))
        if log_value is not None:
            self.log_value.append((start, Held(log_value)))
        kv = list(self.kv_heads)
        stop = start + Q
        if len(kv) == key.shape[1] and mask.keys_from == 0 and key.shape[2] == stop:
            self.key = [
                (0, Held(key, None, park if start == 0 else None))
            ]  # every key so far: this one tensor holds them all
        else:
            new = key[:, :, start - mask.keys_from : stop - mask.keys_from]
            # a copy, so that a growing cache's old tensors are let go
            self.key.append(
                (start, Held(new[:, kv] if len(kv) < key.shape[1] else new.clone(), None, park if start == 0 else None))
            )
        self.length = stop

    def truncate(self, length: int) -> None:
        """Forget positions from `length` on: the cache was cropped (assisted generation, an edited turn)."""
        if length >= self.length:
            return
        self.query = _cut(self.query, length, 2)
        self.lse = _cut(self.lse, length, 2)
        self.first = _cut(self.first, length, 1)
        self.key = _cut(self.key, length, 2)
        self.log_value = _cut(self.log_value, length, 2)
        self.length = length

    def layer(self, row: int, start: int, stop: int, heads: Sequence[int] | None = None) -> Layer:
        """The real positions [start, stop) of sequence `row`; of all recorded heads, or of some of them."""
        picked = None if heads is None or tuple(heads) == self.heads else [self.heads.index(head) for head in heads]
        where = {head: index for index, head in enumerate(self.kv_heads)}
        first = _slice(self.first, row, start, stop, 0)

        def pick(tensor: Tensor) -> Tensor:
            return tensor if picked is None else tensor[picked]

        return Layer(
            query=pick(_slice(self.query, row, start, stop, 1)),
            key=_slice(self.key, row, start, stop, 1),
            kv_index=pick(torch.tensor([where[head // self.groups] for head in self.heads], device=first.device)),
            lse=pick(_slice(self.lse, row, start, stop, 1)),
            first=first - start,
            log_value=pick(_slice(self.log_value, row, start, stop, 1)) if self.log_value else None,
            scale=self.scale,
            softcap=self.softcap,
        )

    def fetch(self) -> None:
        """The layer will be asked for soon: what moved out starts to come back."""
        for _, held in (*self.query, *self.key):
            held.fetch()

    def nbytes(self) -> int:
        """Bytes that the tape keeps alive."""
        lists = (self.query, self.lse, self.first, self.key, self.log_value)
        return sum(held.nbytes for parts in lists for _, held in parts)


def _cut(parts: list[tuple[int, Held]], length: int, dim: int) -> list[tuple[int, Held]]:
    kept = []
    for start, held in parts:
        tensor = held.get()
        if start + tensor.shape[dim] <= length:
            kept.append((start, held))
        elif start < length:
            kept.append((start, Held(tensor.narrow(dim, 0, length - start))))
    return kept


def _slice(parts: list[tuple[int, Held]], row: int, start: int, stop: int, dim: int) -> Tensor:
    """Positions [start, stop) of one sequence, without a copy where one call recorded them all."""
    found = []
    for begin, held in parts:
        tensor = held.get()[row]
        low, high = max(start, begin), min(stop, begin + tensor.shape[dim])
        if low < high:
            found.append(tensor.narrow(dim, low - begin, high - low))
    return found[0] if len(found) == 1 else torch.cat(found, dim)
