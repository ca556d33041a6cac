"""Attention to the fourth power, without the sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._attention_sums import require_every_head, sum_attention
from attributor.methods._method import Needs
from attributor.methods._model import head_shape

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["SharpenedAttention"]

NAME = "sharpened-attention"
SUMMARY = "attention of all heads to the fourth power, without the first position"
ORDER = 70

POWER = 4


@dataclass(frozen=True)
class SharpenedAttention:
    """sum_l sum_h P[l, h]^4 without the first position: heads with concentrated attention count more."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = ""
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def needs(self, model: Any) -> Needs:
        """Record all heads."""
        return require_every_head(model)

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        return sum_attention(
            reading, torch.ones(head_shape(reading.model), dtype=torch.float32), power=POWER, sink="drop"
        )
