"""Head weights of one model as numbers, which the recorder, the sweep and the methods use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from attributor._checks import check_flag, check_number, shorten_value
from attributor._errors import InputError

__all__ = ["HeadWeights", "Transform"]


@dataclass(frozen=True)
class Transform:
    """How one layer's attention changes before its heads are added: P^power, times c of the key, with or without sink.

    Attributes:
        power: the exponent of every attention weight.
        value_norms: multiply the attention on key j by c_h[j] = ||W_O^h v_j^h||.
        sink: "keep", or "drop": attention to the first position is left out.

    Raises:
        InputError: a field that is out of its range.
    """

    power: float = 1.0
    value_norms: bool = False
    sink: str = "keep"

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "power", check_number("power", self.power, positive=True))
        check_flag("value_norms", self.value_norms)
        if not isinstance(self.sink, str) or self.sink not in ("keep", "drop"):
            raise InputError(f"sink must be 'keep' or 'drop', got {shorten_value(self.sink)}")


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """A `Weights` resolved for a model of L layers with H heads; `attributor._heads.resolution.resolve` makes it.

    Attributes:
        heads: (L, H) float32 on the CPU, finite and >= 0, at least one > 0.
        power: as in `Weights`.
        value_norms: as in `Weights`.
        sink: as in `Weights`.
        question: as in `Weights`.
        name: the rule that it was made from, "custom" for a tensor.
        note: where the weights come from, one line.
        source: the model in which the heads were found; "" if they were not found in a model.
        meta: other facts in the weights file, for people to read.
    """

    heads: Tensor
    power: float = 1.0
    value_norms: bool = False
    sink: str = "keep"
    question: float = 0.0
    name: str = "custom"
    note: str = ""
    source: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(L, H)."""
        L, H = self.heads.shape
        return L, H

    @property
    def count(self) -> int:
        """How many heads have a weight > 0."""
        return int((self.heads > 0).sum())

    @property
    def growth(self) -> float:
        """The factor of `normalize=False`: prod_l (1 + sum_h w[l, h])."""
        return float((1 + self.heads.double().sum(1)).prod())

    @property
    def stochastic(self) -> bool:
        """Whether rows of the weighted attention sum to 1, apart from a sink's share. Then missing mass is known."""
        return self.power == 1 and not self.value_norms

    @property
    def transform(self) -> Transform:
        """How attention is changed before heads are added."""
        return Transform(self.power, self.value_norms, self.sink)

    def chosen_heads(self, layer: int) -> list[int]:
        """The heads of a layer with a weight > 0, ascending."""
        heads: list[int] = self.heads[layer].nonzero()[:, 0].tolist()
        return heads

    def __repr__(self) -> str:
        """The rule and the number of chosen heads."""
        L, H = self.shape
        return f"HeadWeights({self.name!r}, {self.count} of {L} x {H} heads)"
