"""Random scores: chance, measured on the same rows as everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from attributor._effects import case_seed
from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Random"]

NAME = "random"
SUMMARY = "chance; random:SEED for other numbers"
ARGUMENT = "seed"
ORDER = 140


@dataclass(frozen=True)
class Random:
    """Uniform numbers from a hash of the seed and the prompt's ids, so a prompt always gets the same numbers.

    Attributes:
        seed: another seed gives other numbers.
        name: "random", followed by the seed if it is not 0.
    """

    seed: int = 0
    name: str = field(default="", compare=False)
    source: ClassVar[str] = ""
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Name it after its seed."""
        if not self.name:
            object.__setattr__(self, "name", f"random:{self.seed}" if self.seed else "random")

    def needs(self, model: Any) -> Needs:
        """Record nothing."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): 0 to 1."""
        generator = np.random.default_rng(case_seed(self.seed, reading.prompt.ids))
        return torch.from_numpy(generator.random(len(reading.segments)))
