"""Attention flow: attention rollout for the answer's rows alone, through the heads that the weights select."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._weighted_method import WeightedMethod

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Flow", "FlowMethod"]

NAME = "flow"
SUMMARY = "attention composed over the layers; flow:WEIGHTS with a preset or a file, default mean"
SOURCE = "https://arxiv.org/abs/2005.00928"
ARGUMENT = "weights"
ORDER = 10


@dataclass(frozen=True)
class FlowMethod(WeightedMethod):
    """`attributor.flow` with any weights, R_0 = I_answer X_L: attention composed over the layers."""

    weights: Any = "mean"
    kind: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        return reading.flow(self.weights_for(reading.model)).sum(0, dtype=torch.float64)


Flow = FlowMethod  # the former name; `attributor.Flow` is another class, the result
