"""Position: later segments score higher; a baseline for attention that favours near tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Position"]

NAME = "position"
SUMMARY = "where the segment stands, later scoring higher"
ORDER = 130


@dataclass(frozen=True)
class Position:
    """Where the segment begins, 0 at the start of the prompt's text and 1 at its end: later scores higher."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = ""
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def needs(self, model: Any) -> Needs:
        """Record nothing."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): 0 to 1."""
        starts = torch.tensor([segment.start for segment in reading.segments], dtype=torch.float64)
        return starts / max(1, len(reading.prompt.text))
