"""The segments of a prompt as token spans, and the first row that counts for each token."""

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._errors import InputError
from attributor._text import Segment, assign_tokens

__all__ = ["SegmentTokens"]


class SegmentTokens:
    """Which segment each token of a prompt lies in.

    Attributes:
        owners: (k,) int64, the segment of each prompt token, -1 for tokens outside all segments.
        count: S.
        spans: (S, 2) int64, the first token of each segment and the one after its last; both 0 for a segment without
            tokens.
    """

    def __init__(self, owners: Tensor, count: int) -> None:
        """The tokens of a segment may have gaps between them; its span covers them."""
        self.owners = owners
        self.count = count
        self.spans = torch.zeros(count, 2, dtype=torch.int64)
        places = (owners >= 0).nonzero()[:, 0]
        self.spans[:, 0] = len(owners)
        self.spans[:, 0].scatter_reduce_(0, owners[places], places, "amin")
        self.spans[:, 1].scatter_reduce_(0, owners[places], places + 1, "amax")
        self.spans[self.spans[:, 1] == 0] = 0

    @classmethod
    def of_text(cls, offsets: Tensor, segments: Sequence[Segment]) -> "SegmentTokens":
        """Segments of a text whose tokens have these character `offsets`, (k, 2) int64."""
        return cls(torch.from_numpy(assign_tokens(offsets.numpy(), tuple(segments))), len(segments))

    @classmethod
    def of_spans(cls, spans: Any, k: int) -> "SegmentTokens":
        """(start, stop) tokens of a prompt of k tokens.

        Raises:
            InputError: not pairs of whole numbers; a span that is empty, out of range or overlaps another.
        """
        try:
            pairs = [(_whole_number(start), _whole_number(stop)) for start, stop in spans]
        except (TypeError, ValueError):
            raise InputError(
                "segments must be (start, stop) tokens of the prompt, or Segments with tokenizer=, got "
                f"{shorten_value(spans)}"
            ) from None
        for index, (start, stop) in enumerate(pairs):
            if not 0 <= start < stop <= k:
                raise InputError(
                    f"segment {index} is tokens {start} to {stop}; it must hold a token and lie in the prompt, 0 to {k}"
                )
        order = sorted(range(len(pairs)), key=lambda i: pairs[i])
        for i, j in pairwise(order):
            if pairs[i][1] > pairs[j][0]:
                raise InputError(
                    f"segments {min(i, j)} and {max(i, j)} overlap (tokens {pairs[i]} and {pairs[j]}); give spans "
                    "that do not"
                )
        owners = torch.full((k,), -1, dtype=torch.int64)
        for index, (start, stop) in enumerate(pairs):
            owners[start:stop] = index
        return cls(owners, len(pairs))

    @property
    def last(self) -> int:
        """The token after the last one of all segments; 0 without any."""
        return int(self.spans[:, 1].max()) if self.count else 0

    def find_stops(self, length: int) -> Tensor:
        """(length,) int64: the end of each token's segment; the next position for a token outside all segments."""
        stops = torch.arange(1, length + 1)
        inside = (self.owners >= 0).nonzero()[:, 0]
        stops[inside] = self.spans[self.owners[inside], 1]
        return stops

    def sum(self, tokens: Tensor) -> Tensor:
        """(S,) float64: sums over the tokens (k,) of each segment."""
        sums = torch.zeros(self.count + 1, dtype=torch.float64)
        return sums.index_add_(0, self.owners.where(self.owners >= 0, self.count), tokens.double())[: self.count]


def _whole_number(value: Any) -> int:
    """An integer, also of numpy or of a tensor.

    Raises:
        TypeError: something else.
    """
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)
