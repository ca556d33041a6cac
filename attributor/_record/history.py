"""The ids and padding that a recorded model read in each call, and where its answer began."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attributor._errors import RecordingError, UnsupportedModelError
from attributor._record.mask import Mask

__all__ = ["GenerateCall", "History", "ReadIds"]


@dataclass(frozen=True)
class GenerateCall:
    """One call of generate().

    Attributes:
        prompt_length: positions of its input, padding included; None: those of its first forward pass.
        end_ids: ids that end the answer.
        pad_id: the id that pads shorter answers of a batch.
    """

    prompt_length: int | None
    end_ids: tuple[int, ...]
    pad_id: int | None


@dataclass(frozen=True, eq=False)
class ReadIds:
    """The ids that one forward pass read.

    Attributes:
        ids: (B, Q) int64.
        replaced: (B, Q) bool, where the model got another embedding than that of the id; None: nowhere.
        varying: (B, Q) bool, where the embedding gave an id another vector than at another position; None: nowhere.
    """

    ids: Tensor
    replaced: Tensor | None
    varying: Tensor | None


class History:
    """The forward calls of one sequence, or of one batch of them, in cache positions.

    Attributes:
        calls: (start, tokens) of every forward call whose positions are still in the cache.
        generate_call: the last call of generate(); None if the model was called without it.
        written: (B, n) int64, the ids that this call returned, prompt included. None before it ends, if it returned no
            ids, and after the model has read more.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.generate_call: GenerateCall | None = None
        self.written: Tensor | None = None
        self._first: list[tuple[int, Tensor]] = []  # (start, (B, Q)): -1 for padding
        self._ids: list[tuple[int, Tensor]] = []  # (start, (B, Q))
        self._replaced: list[tuple[int, Tensor]] = []  # (start, (B, Q)), of the calls that have such positions
        self._varying: list[tuple[int, Tensor]] = []  # (start, (B, Q)), of the calls that have such positions

    @property
    def length(self) -> int:
        """Positions read so far."""
        return sum(self.calls[-1]) if self.calls else 0

    @property
    def batch(self) -> int:
        """Sequences read at once."""
        return self._first[0][1].shape[0]

    def add(self, mask: Mask, read: ReadIds | None) -> None:
        """Begin a forward pass; positions from its start on are dropped first, because the cache was cropped.

        Args:
            mask: of the pass.
            read: its ids; None if they are unknown.
        """
        start, count = mask.start, mask.first.shape[1]
        self.written = None
        if start < self.length:
            self.calls = [(s, min(n, start - s)) for s, n in self.calls if s < start]
            self._first = [(s, first[:, : start - s]) for s, first in self._first if s < start]
            self._ids = [(s, known[:, : start - s]) for s, known in self._ids if s < start]
            self._replaced = [(s, other[:, : start - s]) for s, other in self._replaced if s < start]
            self._varying = [(s, other[:, : start - s]) for s, other in self._varying if s < start]
        self.calls.append((start, count))
        self._first.append((start, mask.first))
        if read is not None and read.ids.shape[1] == count:
            self._ids.append((start, read.ids))
            if read.replaced is not None:
                self._replaced.append((start, read.replaced))
            if read.varying is not None:
                self._varying.append((start, read.varying))

    def real_bounds(self, sequence: int) -> tuple[int, int]:
        """The bounds of the unpadded part of one sequence."""
        index = (torch.cat([first[sequence] for _, first in self._first]) >= 0).nonzero()
        if not index.numel():
            raise RecordingError(f"sequence {sequence} of the batch is all padding")
        low, high = int(index[0]), int(index[-1]) + 1
        if high - low != index.numel():
            raise UnsupportedModelError(f"sequence {sequence} has padding between its tokens; pad on one side only")
        return low, high

    def tokens(self, sequence: int) -> Tensor | None:
        """(N,) the ids that were read; None if the model was given embeddings."""
        if sum(ids.shape[1] for _, ids in self._ids) != self.length:
            return None
        return torch.cat([ids[sequence].to("cpu") for _, ids in self._ids])

    def find_replaced(self, sequence: int) -> Tensor:
        """(N,) bool on the CPU, the positions at which the model got another embedding than that of the id."""
        return self._mark(self._replaced, sequence)

    def find_varying(self, sequence: int) -> Tensor:
        """(N,) bool on the CPU, the positions at which the embedding gave an id another vector than elsewhere."""
        return self._mark(self._varying, sequence)

    def _mark(self, calls: list[tuple[int, Tensor]], sequence: int) -> Tensor:
        positions = torch.zeros(self.length, dtype=torch.bool, device="cpu")
        for start, marked in calls:
            positions[start : start + marked.shape[1]] = marked[sequence].to("cpu")
        return positions
