"""Attention flow: attention rollout for the answer's rows alone, through the heads that the weights choose."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from attributor._resolve import resolve
from attributor._weights import Weights
from attributor.methods._method import Needs
from attributor.methods._reading import Reading

__all__ = ["Flow"]


@dataclass(frozen=True)
class Flow:
    """`attributor.flow` with any weights: a preset, a file, a tensor or a `Weights`."""

    weights: Any = "mean"
    source: ClassVar[str] = "https://arxiv.org/abs/2005.00928"
    by: ClassVar[str] = "token"

    @property
    def name(self) -> str:
        """Flow, and through which weights."""
        return f"flow:{Weights.of(self.weights).name if isinstance(self.weights, Weights) else self.weights}"

    def needs(self, model: Any) -> Needs:
        """The heads with weight."""
        found = resolve(self.weights, model)
        assert isinstance(found.heads, Tensor)
        return Needs(found.heads > 0, found.value_norms)

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): summed over the answer's tokens."""
        return reading.flow(resolve(self.weights, reading.model)).sum(0, dtype=torch.float64).float()
