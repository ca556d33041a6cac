"""Removal gradient: what the answer's log-probability would lose without each segment, from one backward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor._effects import EffectsTask, SegmentTokens, case_seed, draw_antithetic_masks, effects_of, gradient_of
from attributor._errors import InputError
from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor._effects import KeyEffects
    from attributor.methods._reading import Reading

__all__ = ["RemovalGradient"]

NAME = "removal-gradient"
SUMMARY = "gradient of log p(answer) with respect to a gate on each key; :suffix for later rows alone, :M adds removals"
ARGUMENT = "variant"
ORDER = 85


@dataclass(frozen=True)
class RemovalGradient:
    """The effects of `attributor.effects` (docs/effects.md): one forward and one backward pass.

    Attributes:
        variant: "all", the default: every row counts; "suffix": only the rows after the last segment; a whole number M:
            all rows, and M real removals, prompts that the model reads without some segments.
        name: "removal-gradient", followed by the variant if it is not the default.
    """

    variant: str = "all"
    name: str = field(default="", compare=False)
    source: ClassVar[str] = ""
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False
    in_nats: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the variant."""
        if self.variant not in ("all", "suffix") and not (self.variant.isdecimal() and int(self.variant) >= 1):
            raise InputError(
                f"removal-gradient takes 'all', 'suffix' or a number of removals >= 1 after its colon, "
                f"got {self.variant!r}"
            )
        if not self.name:
            object.__setattr__(self, "name", NAME if self.variant == "all" else f"{NAME}:{self.variant}")

    @property
    def removals(self) -> int:
        """M, the number of real removals."""
        return int(self.variant) if self.variant.isdecimal() else 0

    def needs(self, model: Any) -> Needs:
        """Record nothing; the method runs a forward pass of its own, with gradients."""
        return Needs()

    def design(self, reading: Reading) -> Tensor:
        """(M, S) bool: the sets that are read for this prompt; measurements must not use them."""
        if not self.removals or not reading.segments:
            return torch.zeros(0, len(reading.segments), dtype=torch.bool)
        return draw_antithetic_masks(case_seed(0, reading.ids), self.removals, len(reading.segments))

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): nats that the answer would lose without each segment. Variants with the same rows share one pass."""
        if not reading.segments:
            return torch.zeros(0, dtype=torch.float64)
        segments = SegmentTokens(reading.segment_of, len(reading.segments))
        rows = "suffix" if self.variant == "suffix" else "all"
        task = EffectsTask(reading.ids, len(reading.prompt.ids), segments, rows=rows)

        def compute() -> KeyEffects:
            reading.passes += 1
            return gradient_of(reading.model, task)

        gradient = reading.once((NAME, rows), compute)
        return effects_of(reading.model, task, ablations=self.removals, ablate=reading.ablate, gradient=gradient).scores
