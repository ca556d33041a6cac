"""What flow and straight attention share: the weights that they read attention through, resolved once for a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor

from attributor._heads import Weights, resolve
from attributor._record import HeadWeights
from attributor.methods._method import Needs

__all__ = ["Weighted"]


@dataclass(frozen=True)
class Weighted:
    """A method that goes by the heads of `weights`: a preset, a file, an (L, H) tensor or a `Weights`.

    `needs(model)` resolves the weights, which may take a while (a file to read, a preset to find out); calls use what
    it found.

    Raises:
        InputError: no such weights.
    """

    weights: Any = "mean"
    name: str = field(default="", compare=False)
    _found: WeakKeyDictionary[Any, HeadWeights] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )
    kind: ClassVar[str]
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Weights that nothing can be made of are told before any model runs."""
        given = Weights.of(self.weights)
        if not self.name:
            shown = given.name if isinstance(self.weights, (Tensor, Weights, HeadWeights)) else str(self.weights)
            object.__setattr__(self, "name", f"{self.kind}:{shown}")

    def needs(self, model: Any) -> Needs:
        """The heads with weight."""
        found = self._found[model] = resolve(self.weights, model)
        return Needs(found.heads > 0, found.value_norms)

    def through(self, model: Any) -> HeadWeights:
        """The weights as numbers for this model."""
        if model not in self._found:
            self.needs(model)
        return self._found[model]
