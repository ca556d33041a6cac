"""`Tape`: the recorded query, key and log-sum-exp of one layer, from which any attention weight can be rebuilt."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from attributor._errors import RecordingError
from attributor._record.arena import Arena
from attributor._record.mask import Mask
from attributor._record.offload import Offload, OffloadedTensor

__all__ = ["KeptTensor", "Layer", "Span", "Tape"]

POSITION_DIM = {"query": 1, "lse": 1, "first": 0, "key": 1, "log_value": 1}  # in the tensor of one sequence
Field = Literal["query", "lse", "first", "key", "log_value"]


@dataclass(frozen=True)
class Span:
    """Positions [start, stop) of one sequence of a recorded batch, counted in the cache, padding included."""

    sequence: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """N, how many positions there are."""
        return self.stop - self.start

    @property
    def positions(self) -> range:
        """Each position."""
        return range(self.start, self.stop)


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


class KeptTensor:
    """A tensor stored by reference if that wastes no memory, else by copy; later in-place changes are detected.

    With an arena a large tensor is copied there, and its old allocation is freed. With an offload it moves to main
    memory until it is needed.
    """

    def __init__(self, tensor: Tensor, arena: Arena | None = None, offload: Offload | None = None) -> None:
        self.nbytes = tensor.numel() * tensor.element_size()
        self.version: int | None = None  # set for a tensor that other code can change
        self.offloaded: OffloadedTensor | None = None
        if offload is not None:
            self.offloaded, self.tensor = offload.move(tensor), tensor.new_empty(0)
            return
        copy = arena.copy(tensor) if arena is not None else None
        if copy is None:
            wasteful = tensor.untyped_storage().nbytes() > 2 * self.nbytes
            copy = tensor.clone() if wasteful or tensor.is_inference() else tensor
            self.nbytes = copy.untyped_storage().nbytes()
            self.version = None if copy.is_inference() else copy._version
        self.tensor = copy

    def fetch(self) -> None:
        """Start to copy it back to its device."""
        if self.offloaded is not None:
            self.offloaded.fetch()

    def get(self) -> Tensor:
        """The tensor, on its device.

        Raises:
            RecordingError: it was changed in place since it was recorded.
        """
        if self.offloaded is not None:
            return self.offloaded.get()
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
    groups: int  # query heads per KV head
    scale: float
    softcap: float | None
    arena: Arena
    length: int = 0
    query: list[tuple[int, KeptTensor]] = field(default_factory=list)  # (B, H, Q, D)
    lse: list[tuple[int, KeptTensor]] = field(default_factory=list)  # (B, H, Q)
    first: list[tuple[int, KeptTensor]] = field(default_factory=list)  # (B, Q)
    key: list[tuple[int, KeptTensor]] = field(default_factory=list)  # (B, G, K, D)
    log_value: list[tuple[int, KeptTensor]] = field(default_factory=list)  # (B, H, K)

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
        offload: Offload | None = None,
    ) -> None:
        """Append one call: query (B, H_all, Q, D), key (B, G_all, K, D) with all keys that the layer received.

        With `offload` its query moves to main memory, and so does its key, unless a cache holds it anyway.
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
        self.query.append((start, KeptTensor(query if every else query[:, chosen], self.arena, offload)))
        self.lse.append((start, KeptTensor(lse if every else lse[:, chosen], self.arena)))
        self.first.append((start, KeptTensor(mask.first)))
        if log_value is not None:
            self.log_value.append((start, KeptTensor(log_value)))
        kv = list(self.kv_heads)
        stop = start + Q
        moves = offload if start == 0 else None  # later keys are in a cache anyway
        if len(kv) == key.shape[1] and mask.keys_from == 0 and key.shape[2] == stop:
            self.key = [(0, KeptTensor(key, None, moves))]  # this one tensor holds all keys so far
        else:
            new = key[:, :, start - mask.keys_from : stop - mask.keys_from]
            # a copy, so that the old tensors of a growing cache are freed
            self.key.append((start, KeptTensor(new[:, kv] if len(kv) < key.shape[1] else new.clone(), None, moves)))
        self.length = stop

    def holds_keys(self, key: Tensor, mask: Mask) -> Tensor:
        """0-dim bool, whether a cache returns the keys (B, G_all, K, D) that were recorded.

        Two positions are compared: the last one, whose keys in an upper layer depend on all earlier tokens, and an
        earlier one. A quantised cache has rounded the latter.
        """
        length = min(self.length, mask.start)
        equal = torch.ones((), dtype=torch.bool, device=key.device)
        for position in {length - 1, length * 2654435761 % max(1, length - 1)}:
            if not mask.keys_from <= position < length:
                continue
            begins = [begin for begin, _ in self.key]
            begin, part = self.key[bisect_right(begins, position) - 1]
            if part.offloaded is None:
                handed = key[:, list(self.kv_heads), position - mask.keys_from]
                equal = equal & (part.get()[:, :, position - begin] == handed).all()
        return equal

    def truncate(self, length: int) -> None:
        """Drop positions from `length` on: the cache was cropped (assisted generation, an edited turn)."""
        if length >= self.length:
            return
        self.query = _truncate_parts(self.query, length, 2)
        self.lse = _truncate_parts(self.lse, length, 2)
        self.first = _truncate_parts(self.first, length, 1)
        self.key = _truncate_parts(self.key, length, 2)
        self.log_value = _truncate_parts(self.log_value, length, 2)
        self.length = length

    def gather(
        self, name: Field, sequence: int, positions: Sequence[int], heads: Sequence[int] | None = None
    ) -> Tensor:
        """One recorded tensor of one sequence at some positions, joined over the calls that recorded it.

        There is no copy if one call recorded all positions, they are consecutive, and `heads` is None.

        Args:
            name: query (H, P, D), lse (H, P), first (P,), key (G, P, D) or log_value (H, P).
            sequence: which sequence of the recorded batch.
            positions: P positions in the cache, ascending, at least one of them recorded.
            heads: entries of the first dimension, as indices among the recorded heads; None: all.
        """
        parts, dim = getattr(self, name), POSITION_DIM[name]
        begins = [begin for begin, _ in parts]
        index = None if heads is None else list(heads)
        gathered = []
        for number in range(max(0, bisect_right(begins, positions[0]) - 1), len(parts)):
            begin, part = parts[number]
            end = begins[number + 1] if number + 1 < len(parts) else self.length
            low, high = bisect_left(positions, begin), bisect_left(positions, end)
            if low == high:
                if low == len(positions):
                    break
                continue
            tensor = part.get()[sequence]
            first, last = positions[low] - begin, positions[high - 1] - begin
            if last - first + 1 == high - low:
                tensor = tensor.narrow(dim, first, high - low)
            else:
                places = torch.tensor([place - begin for place in positions[low:high]], device=tensor.device)
                tensor = tensor.index_select(dim, places)
            gathered.append(tensor if index is None else tensor[index])
        return gathered[0] if len(gathered) == 1 else torch.cat(gathered, dim)

    def layer(self, span: Span, heads: Sequence[int] | None = None) -> Layer:
        """The layer at the positions of `span`, with all recorded heads or some of them."""
        picked = None if heads is None or tuple(heads) == self.heads else [self.heads.index(head) for head in heads]
        where = {head: index for index, head in enumerate(self.kv_heads)}
        sequence, positions = span.sequence, span.positions
        first = self.gather("first", sequence, positions)
        return Layer(
            query=self.gather("query", sequence, positions, picked),
            key=self.gather("key", sequence, positions),
            kv_index=torch.tensor([where[head // self.groups] for head in heads or self.heads], device=first.device),
            lse=self.gather("lse", sequence, positions, picked),
            first=first - span.start,
            log_value=self.gather("log_value", sequence, positions, picked) if self.log_value else None,
            scale=self.scale,
            softcap=self.softcap,
        )

    def fetch(self) -> None:
        """Start to copy back the tensors in main memory."""
        for _, part in (*self.query, *self.key):
            part.fetch()

    def nbytes(self) -> int:
        """Bytes that the tape keeps alive."""
        lists = (self.query, self.lse, self.first, self.key, self.log_value)
        return sum(part.nbytes for parts in lists for _, part in parts)


def _truncate_parts(parts: list[tuple[int, KeptTensor]], length: int, dim: int) -> list[tuple[int, KeptTensor]]:
    shorter = []
    for start, part in parts:
        tensor = part.get()
        if start + tensor.shape[dim] <= length:
            shorter.append((start, part))
        elif start < length:
            shorter.append((start, KeptTensor(tensor.narrow(dim, 0, length - start))))
    return shorter
