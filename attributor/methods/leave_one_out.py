"""Leave-one-out: how much less likely the answer becomes without one segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["LeaveOneOut"]

NAME = "leave-one-out"
SUMMARY = "fall of the answer's log-probability without each segment; one pass a segment"
SOURCE = "https://arxiv.org/abs/1612.08220"
ORDER = 90


@dataclass(frozen=True)
class LeaveOneOut:
    """log p(answer | all) - log p(answer | all but s), by the run's ablation convention: S forward passes."""

    name: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = True
    in_nats: ClassVar[bool] = True

    def needs(self, model: Any) -> Needs:
        """Record nothing; log p of the answer comes from the shared forward pass."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): in nats."""
        S = len(reading.segments)
        return reading.log_probs.sum() - reading.ablate(~torch.eye(S, dtype=torch.bool))
