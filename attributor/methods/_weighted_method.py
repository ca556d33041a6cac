"""Base class of the methods that read attention through head weights, which it resolves once per model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor

from attributor._heads import Weights, resolve
from attributor._record import HeadWeights
from attributor.methods._method import Needs

__all__ = ["WeightedMethod"]


@dataclass(frozen=True)
class WeightedMethod:
    """A method that uses the heads of `weights`: a preset, a file, an (L, H) tensor or a `Weights`.

    `needs(model)` resolves the weights, which may take a while: it reads a file or calibrates a preset. Later calls use
    the result.

    Raises:
        InputError: no such weights.
    """

    weights: Any = "mean"
    name: str = field(default="", compare=False)
    _weights_by_model: WeakKeyDictionary[Any, HeadWeights] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )
    kind: ClassVar[str]
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Reject unusable weights before any model runs."""
        weights = Weights.of(self.weights)
        if not self.name:
            shown = weights.name if isinstance(self.weights, (Tensor, Weights, HeadWeights)) else str(self.weights)
            object.__setattr__(self, "name", f"{self.kind}:{shown}")

    def needs(self, model: Any) -> Needs:
        """Return the heads with a weight above 0."""
        weights = self._weights_by_model[model] = resolve(self.weights, model)
        return Needs(weights.heads > 0, weights.value_norms)

    def weights_for(self, model: Any) -> HeadWeights:
        """Return the weights as numbers for this model."""
        if model not in self._weights_by_model:
            self.needs(model)
        return self._weights_by_model[model]

    through = weights_for  # the former name
