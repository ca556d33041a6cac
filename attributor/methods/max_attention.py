"""The strongest attention of any head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._attention_sums import require_every_head
from attributor.methods._method import Needs
from attributor.methods._model import head_shape

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["MaxAttention"]

NAME = "max-attention"
SUMMARY = "the strongest attention of any head"
ORDER = 40


@dataclass(frozen=True)
class MaxAttention:
    """max over l, h of P[l, h, i, j] for each answer row i and key j, summed over the rows."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = ""
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def needs(self, model: Any) -> Needs:
        """Record all heads."""
        return require_every_head(model)

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens. Each head is one step of the kernel; (a, k) numbers are held."""
        L, H = head_shape(reading.model)
        strongest = torch.zeros(reading.answer.numel(), len(reading.prompt.ids), dtype=torch.float32)
        for layer in range(L):
            for head in torch.eye(H, dtype=torch.float32):
                torch.maximum(strongest, reading.attention(layer, head), out=strongest)
        return strongest.sum(0, dtype=torch.float64)
