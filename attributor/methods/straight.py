"""Straight attention of selected heads: attention of the answer's positions, without composition over the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from attributor.methods._attention_sums import sum_attention
from attributor.methods._weighted_method import WeightedMethod

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Straight"]

NAME = "straight"
SUMMARY = "attention of the heads that weights choose, not composed; straight:WEIGHTS, default retrieval"
SOURCE = "https://arxiv.org/abs/2404.15574"
ARGUMENT = "weights"
ORDER = 20


@dataclass(frozen=True)
class Straight(WeightedMethod):
    """sum_l sum_h w[l, h] P[l, h]^power c[l, h], summed over the rows that the flow starts with.

    Question share, power, value norms and sink are those of the weights. The flow through the same heads differs from
    this only by the composition over layers.
    """

    weights: Any = "retrieval"
    kind: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        w = self.weights_for(reading.model)
        return sum_attention(
            reading, w.heads, question=w.question, power=w.power, value_norms=w.value_norms, sink=w.sink
        )
