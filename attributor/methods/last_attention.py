"""Attention of the last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._attention_sums import sum_attention
from attributor.methods._method import Needs
from attributor.methods._model import head_shape

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["LastAttention"]

NAME = "last-attention"
SUMMARY = "attention of the last layer, averaged over its heads"
SOURCE = "https://arxiv.org/abs/1906.04341"
ORDER = 50


@dataclass(frozen=True)
class LastAttention:
    """1/H sum_h P[L-1, h], summed over the answer's rows: what most plots of attention show."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def needs(self, model: Any) -> Needs:
        """Record the heads of the last layer."""
        heads = torch.zeros(head_shape(model), dtype=torch.bool)
        heads[-1] = True
        return Needs(heads)

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        weights = torch.zeros(head_shape(reading.model), dtype=torch.float32)
        weights[-1] = 1 / weights.shape[1]
        return sum_attention(reading, weights)
