"""Attention times the norm of the projected values."""

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

__all__ = ["ValueNormAttention"]

NAME = "value-norm-attention"
SUMMARY = "attention of all heads times the norm of the projected values"
SOURCE = "https://arxiv.org/abs/2004.10102"
ORDER = 60


@dataclass(frozen=True)
class ValueNormAttention:
    """sum_l sum_h P[l, h, i, j] c[l, h, j], with c = ||W_O^h v_j^h||: a sink has much attention but small values."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def needs(self, model: Any) -> Needs:
        """Record all heads, and the norms of their projected values."""
        return require_every_head(model, values=True)

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        return sum_attention(reading, torch.ones(head_shape(reading.model), dtype=torch.float32), value_norms=True)
