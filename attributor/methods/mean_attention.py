"""Attention averaged over all layers and heads."""

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

__all__ = ["MeanAttention"]

NAME = "mean-attention"
SUMMARY = "attention averaged over all layers and heads"
SOURCE = "https://arxiv.org/abs/1906.04341"
ORDER = 30


@dataclass(frozen=True)
class MeanAttention:
    """1/(L H) sum_l sum_h P[l, h], summed over the answer's rows."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def needs(self, model: Any) -> Needs:
        """Record all heads."""
        return require_every_head(model)

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        L, H = head_shape(reading.model)
        return sum_attention(reading, torch.full((L, H), 1 / (L * H), dtype=torch.float32))
