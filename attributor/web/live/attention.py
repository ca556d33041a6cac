"""Computes rows of a recorded layer's attention exactly, a block of keys at a time; every view is computed from it.

    ln P[h, i, j] = logit_h[i, j] - lse[h, i],    logit as in flow_step, for first[i] <= j <= i and nothing else

A recording of a generated answer holds one small tensor a written token. `Recording.layer` joins them all, which costs
a copy of everything; here only the asked queries are gathered.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attributor._errors import InputError, RecordingError
from attributor._record import RecordedAttention, Tape

__all__ = ["HIDDEN", "MOST_ROWS", "Check", "Queries", "RecordingReader", "choose_rows", "no_check"]

HIDDEN = -1e30  # ln P of a key not attended to: its exponential is 0, and 0 times it is 0, as with -inf it is not
MOST_ROWS = 64
Check = Callable[[], None]  # called between two pieces of work; raises where they are not wanted any more
ELEMENTS = 1 << 20  # of a block, for all heads of a KV head: 4 MB; in smaller ones threads mostly wait for each other


def no_check() -> None:
    """The `Check` of work that cannot be cancelled."""


def choose_rows(start: int, stop: int, most: int = MOST_ROWS) -> list[int]:
    """At most `most` whole numbers of start..stop-1, first and last among them, evenly spread.

    Raises:
        InputError: the range is empty.
    """
    if not 0 <= start < stop:
        raise InputError(f"a range of rows needs 0 <= start < stop, got {start} and {stop}")
    count = stop - start
    if count <= most:
        return list(range(start, stop))
    return [start + round(i * (count - 1) / (most - 1)) for i in range(most)] if most > 1 else [start]


@dataclass(frozen=True)
class Queries:
    """One layer's attention of R queries, not yet computed.

    Attributes:
        heads: the H query heads, counted in the model.
        positions: (R,) int64, ascending, of the real sequence.
        query: (H, R, D) in the dtype to compute in, times `scale`.
        lse: (H, R) the same dtype.
        first: (R,) int64, the first position that each attends to.
        key: (G, N, D) as recorded.
        kv: H numbers, which of the G KV heads each head reads.
        softcap: of the logits, or None.
    """

    heads: tuple[int, ...]
    positions: Tensor
    query: Tensor
    lse: Tensor
    first: Tensor
    key: Tensor
    kv: tuple[int, ...]
    softcap: float | None

    @property
    def seen(self) -> tuple[int, int]:
        """The keys [low, high) outside of which no query attends to anything."""
        return int(self.first.min()), int(self.positions[-1]) + 1

    def groups(self) -> Iterator[list[int]]:
        """The heads, as indices, that share a KV head."""
        for kv in sorted(set(self.kv)):
            yield [index for index, other in enumerate(self.kv) if other == kv]

    def blocks(self, heads: int, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The keys low..high-1 in blocks that keep the working set of `heads` heads small."""
        step = max(256, ELEMENTS // (heads * len(self.positions)))
        for start in range(low, high, step):
            yield start, min(start + step, high)

    def log_attention(self, group: Sequence[int], low: int, high: int) -> Tensor:
        """Ln P of heads that share a KV head: (len(group), R, high - low); HIDDEN where a query does not look."""
        key = self.key[self.kv[group[0]], low:high].to(self.query.dtype)
        log_shares = self._finish(group, self._queries(group) @ key.T)
        first, last = int(self.first.max()), int(self.positions[0])
        if low < first or high - 1 > last:
            position = torch.arange(low, high, device=key.device)
            hidden = (position < self.first[:, None]) | (position > self.positions[:, None])
            log_shares.masked_fill_(hidden, HIDDEN)
        return log_shares

    def log_attention_at(self, group: Sequence[int], keys: Tensor) -> Tensor:
        """As `logs`, for the keys at some positions (K,): (len(group), R, K)."""
        key = self.key[self.kv[group[0]]].index_select(0, keys).to(self.query.dtype)
        log_shares = self._finish(group, self._queries(group) @ key.T)
        return log_shares.masked_fill_((keys < self.first[:, None]) | (keys > self.positions[:, None]), HIDDEN)

    def _queries(self, group: Sequence[int]) -> Tensor:
        picked = self.query if len(group) == len(self.heads) else self.query[list(group)]
        return picked.reshape(-1, self.query.shape[-1])

    def _finish(self, group: Sequence[int], logits: Tensor) -> Tensor:
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        shaped = logits.view(len(group), len(self.positions), -1)
        lse = self.lse if len(group) == len(self.heads) else self.lse[list(group)]
        return shaped.sub_(lse[..., None])


class RecordingReader:
    """One sequence of a recording, read a few queries at a time.

    Attributes:
        length: N, the positions that were read.
        shape: (L, H) of the model.
        layers: those that were recorded.

    Raises:
        RecordingError, UnsupportedModelError, NumericsError: as `Recording.layer`.
    """

    def __init__(self, recording: RecordedAttention, row: int = 0) -> None:
        recording.check()
        self._tapes, self._span = recording.tapes, recording.span(row)
        self.length, self.shape = self._span.length, recording.weights.shape
        self.layers = list(self._tapes)  # in the order in which they ran

    def heads(self, layer: int) -> tuple[int, ...]:
        """The heads of a layer that were recorded; none where the layer was not."""
        return self._tapes[layer].heads if layer in self._tapes else ()

    @torch.no_grad()
    def queries(self, layer: int, positions: Sequence[int] | Tensor, heads: Sequence[int] | None = None) -> Queries:
        """The attention of one layer for queries at ascending positions; of all recorded heads, or of some.

        Raises:
            InputError: positions that are not of the sequence, or not ascending.
            RecordingError: the layer, or one of the heads, was not recorded.
        """
        tape = self._tape(layer, heads)
        ascending = torch.as_tensor(positions, dtype=torch.int64)
        numbers = ascending.tolist()
        if not numbers or numbers[0] < 0 or numbers[-1] >= self.length or sorted(set(numbers)) != numbers:
            raise InputError(f"positions must ascend within 0 to {self.length - 1}, got {numbers[:8]}")
        picked = None if heads is None or tuple(heads) == tape.heads else [tape.heads.index(head) for head in heads]
        row, start = self._span.sequence, self._span.start
        places = [position + start for position in numbers]
        query, lse = tape.gather("query", row, places, picked), tape.gather("lse", row, places, picked)
        dtype = torch.promote_types(torch.promote_types(query.dtype, lse.dtype), torch.float32)
        where = {head: index for index, head in enumerate(tape.kv_heads)}
        chosen = tape.heads if heads is None else tuple(heads)
        return Queries(
            heads=chosen,
            positions=ascending.to(query.device),
            query=query.to(dtype) * tape.scale,
            lse=lse.to(dtype),
            first=(tape.gather("first", row, places) - start).clamp(min=0).to(query.device),
            key=tape.gather("key", row, self._span.positions),
            kv=tuple(where[head // tape.groups] for head in chosen),
            softcap=tape.softcap,
        )

    def first(self, layer: int, start: int, stop: int) -> Tensor:
        """(stop - start,) int64 on the CPU, the first position that each of these queries attends to.

        Raises:
            RecordingError: the layer was not recorded.
        """
        row, begin = self._span.sequence, self._span.start
        first = self._tape(layer, None).gather("first", row, range(start + begin, stop + begin))
        return (first - begin).clamp(min=0).cpu()

    def log_value(self, layer: int, heads: Sequence[int]) -> Tensor:
        """(H, N) log of the norm of each key's projected value.

        Raises:
            RecordingError: value norms were not recorded.
        """
        tape = self._tape(layer, heads)
        if not tape.log_value:
            raise RecordingError("value norms were not recorded; give record() weights with value_norms=True")
        picked = [tape.heads.index(head) for head in heads]
        return tape.gather("log_value", self._span.sequence, self._span.positions, picked)

    def _tape(self, layer: int, heads: Sequence[int] | None) -> Tape:
        if layer not in self._tapes:
            raise RecordingError(f"layer {layer} was not recorded; there are {self.layers}, those with chosen heads")
        tape = self._tapes[layer]
        missing = sorted(set(heads or ()) - set(tape.heads))
        if missing:
            raise RecordingError(f"heads {missing} of layer {layer} were not recorded; there are {list(tape.heads)}")
        return tape
