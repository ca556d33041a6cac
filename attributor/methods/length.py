"""Length: longer segments score higher; a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Length"]

NAME = "length"
SUMMARY = "the segment's number of tokens"
ORDER = 120


@dataclass(frozen=True)
class Length:
    """The number of tokens of the segment."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = ""
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def needs(self, model: Any) -> Needs:
        """Record nothing."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): counts."""
        of = reading.segment_of
        return torch.bincount(of[of >= 0], minlength=len(reading.segments)).double()
