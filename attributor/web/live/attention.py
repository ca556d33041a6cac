"""Computes rows of a recorded layer's attention exactly, in blocks of keys; every view is computed from them.

    ln P[h, i, j] = logit_h[i, j] - lse[h, i],    logit as in flow_step, for first[i] <= j <= i and nothing else

A recording of a generated answer holds one small tensor for each written token. `Recording.layer` joins them, which
copies all of them. Here only the requested queries are gathered.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attributor._errors import InputError, RecordingError
from attributor._record import RecordedAttention, Tape

__all__ = ["HIDDEN", "MOST_ROWS", "Check", "Queries", "RecordingReader", "choose_rows", "no_check"]

HIDDEN = -1e30  # ln P of a key that is not attended to: its exponential is 0, and 0 * HIDDEN is 0, not NaN as with -inf
MOST_ROWS = 64
Check = Callable[[], None]  # called between two pieces of work; raises if the work was cancelled
ELEMENTS = 1 << 20  # of a block, for all heads of a KV head: 4 MB; in smaller blocks threads mostly wait for each other


def no_check() -> None:
    """The `Check` of work that cannot be cancelled."""


def choose_rows(start: int, stop: int, most: int = MOST_ROWS) -> list[int]:
    """At most `most` whole numbers of start..stop-1, evenly spread, with the first and the last.

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
        first: (R,) int64, the first position that each query attends to.
        key: (G, N, D) as recorded.
        kv: H numbers, the KV head of the G that each head reads.
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
        """The range [low, high) of keys that the queries attend to."""
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
        """Ln P of heads that share a KV head: (len(group), R, high - low); HIDDEN for keys that are not attended to."""
        key = self.key[self.kv[group[0]], low:high].to(self.query.dtype)
        log_shares = self._finish(group, self._queries(group) @ key.T)
        first, last = int(self.first.max()), int(self.positions[0])
        if low < first or high - 1 > last:
            position = torch.arange(low, high, device=key.device)
            hidden = (position < self.first[:, None]) | (position > self.positions[:, None])
            log_shares.masked_fill_(hidden, HIDDEN)
        return log_shares

    def log_attention_at(self, group: Sequence[int], keys: Tensor) -> Tensor:
        """As `log_attention`, for the keys at positions (K,): (len(group), R, K)."""
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
    """Reads one sequence of a recording, a few queries at a time.

    Attributes:
        length: N, the positions that the model read.
        shape: (L, H) of the model.
        layers: the recorded layers.

    Raises:
        RecordingError, UnsupportedModelError, NumericsError: as `Recording.layer`.
    """

    def __init__(self, recording: RecordedAttention, row: int = 0) -> None:
        recording.check()
        self._tapes, self._span = recording.tapes, recording.span(row)
        self.length, self.shape = self._span.length, recording.weights.shape
        self.layers = list(self._tapes)  # in the order in which they ran

    def heads(self, layer: int) -> tuple[int, ...]:
        """The recorded heads of a layer; empty for a layer that was not recorded."""
        return self._tapes[layer].heads if layer in self._tapes else ()

    @torch.no_grad()
    def queries(self, layer: int, positions: Sequence[int] | Tensor, heads: Sequence[int] | None = None) -> Queries:
        """The attention of one layer for queries at ascending positions, of all recorded heads or of some.

        Raises:
            InputError: positions outside of the sequence, or not ascending.
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
