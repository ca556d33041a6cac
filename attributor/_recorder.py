"""One model's attention on one batch of sequences, put down layer by layer while the model reads."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attributor._attention import attention
from attributor._errors import RecordingError, UnsupportedModelError
from attributor._mask import Mask
from attributor._projection import gram
from attributor._tape import Tape

__all__ = ["Recorder"]


class Recorder:
    """What one model's attention did to one batch of sequences, position by position.

    Attributes:
        weights: (L, H) float32, the head weights; heads with weight 0 leave no trace.
        tapes: by layer, only layers with a chosen head.
        ids: (start, (B, Q)) token ids of every forward call, in cache positions.
        calls: how many tokens each forward call read, with its start.
    """

    def __init__(self, weights: Tensor, *, values: bool, progress: Callable[[str, int, int], None] | None) -> None:
        self.weights = weights
        self.values = values
        self.chosen = [row.nonzero()[:, 0].tolist() for row in weights]  # by layer
        self.progress = progress
        self.tapes: dict[int, Tape] = {}
        self.ids: list[tuple[int, Tensor]] = []
        self.calls: list[tuple[int, int]] = []
        self.masks: dict[int, Tensor] = {}  # first position seen, of the calls so far: which positions are real
        self.seen: set[int] = set()
        self.cropped = False  # whether positions were read, dropped and read again (assisted generation)
        self._grams: dict[int, Tensor] = {}
        self._pending: Tensor | None = None

    @property
    def length(self) -> int:
        """Positions read so far."""
        return sum(self.calls[-1]) if self.calls else 0

    def real(self, row: int) -> tuple[int, int]:
        """The bounds of the unpadded part of one sequence."""
        alive = torch.cat([first[row, : self._end(start) - start] for start, first in sorted(self.masks.items())]) >= 0
        index = alive.nonzero()
        if not index.numel():
            raise RecordingError(f"sequence {row} of the batch is all padding")
        low, high = int(index[0]), int(index[-1]) + 1
        if high - low != index.numel():
            raise UnsupportedModelError(f"sequence {row} has padding between its tokens; pad on one side only")
        return low, high

    def _end(self, start: int) -> int:
        later = [other for other in self.masks if other > start]
        return min(later) if later else self.length

    def tokens(self, row: int) -> Tensor | None:
        """(N,) the ids that were read, or None where the model was given embeddings."""
        known = 0
        parts = []
        for start, ids in self.ids:
            if start != known:
                return None
            parts.append(ids[row].to("cpu"))
            known += ids.shape[1]
        return torch.cat(parts) if known == self.length and parts else None

    def missing(self) -> list[int]:
        """Layers whose attention did not pass through the recorder."""
        return [layer for layer in range(self.weights.shape[0]) if layer not in self.seen]

    def begin(self, mask: Mask) -> None:
        """A forward call reaches its first layer: note what it reads; a call at position 0 starts a new sequence."""
        start, count = mask.start, mask.first.shape[1]
        if start == 0:
            self.tapes.clear()
            self.masks.clear()
            self.seen.clear()
            self.calls.clear()
            self.ids.clear()
            self.cropped = False
        self.cropped = self.cropped or start < self.length
        self.calls = [call for call in self.calls if call[0] < start] + [(start, count)]
        self.masks = {other: first for other, first in self.masks.items() if other < start} | {start: mask.first}
        self.ids = [(other, ids[:, : start - other]) for other, ids in self.ids if other < start]
        if self._pending is not None and self._pending.shape[1] == count:
            self.ids.append((start, self._pending))
        self._pending = None

    def embed(self, ids: Tensor) -> None:
        """The embedding is asked for token ids: they belong to the forward call that is under way."""
        self._pending = ids.detach()

    def layer(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask,
        *,
        scale: float,
        softcap: float | None,
        sink: Tensor | None,
    ) -> Tensor:
        """Compute one layer's attention output (B, H, Q, Dv) and keep what the flow needs of it."""
        index = int(module.layer_idx)  # type: ignore[arg-type]
        (L, H), heads = self.weights.shape, query.shape[1]
        if index >= L or heads != H:
            raise UnsupportedModelError(
                f"layer {index} has {heads} heads; the configuration promises {L} layers of {H} heads each"
            )
        if not self.calls or self.calls[-1] != (mask.start, query.shape[2]) or index == min(self.seen, default=-1):
            self.begin(mask)
        self.seen.add(index)
        output, lse = attention(query, key, value, mask, scale=scale, softcap=softcap, sink=sink)
        chosen = self.chosen[index]
        if chosen:
            tape = self.tapes.get(index)
            if tape is None:
                tape = self.tapes[index] = Tape(tuple(chosen), heads // key.shape[1], scale, softcap)
            norms = self._log_norms(module, index, chosen, value, mask) if self.values else None
            tape.add(query.detach(), key.detach(), lse.detach(), norms, mask)
        if self.progress is not None:
            self.progress("prompt", len(self.seen), L)
        return output

    def _log_norms(self, module: nn.Module, index: int, chosen: list[int], value: Tensor, mask: Mask) -> Tensor:
        """(B, h, Q) log ||W_O^h v_j^h|| of the new keys."""
        if index not in self._grams:
            self._grams[index] = gram(module, self.weights.shape[1], chosen)
        matrix = self._grams[index]
        groups = self.weights.shape[1] // value.shape[1]
        low = mask.start - mask.keys_from
        new = value[:, [h // groups for h in chosen], low : low + mask.first.shape[1]].to(matrix.dtype)
        if new.shape[-1] != matrix.shape[-1]:
            raise UnsupportedModelError(
                f"{type(module).__name__} has values of size {new.shape[-1]} but projects {matrix.shape[-1]} a head"
            )
        return torch.einsum("bhqd,hde,bhqe->bhq", new, matrix, new).clamp(min=0).log() / 2
