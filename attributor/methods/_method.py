"""The interface of an attribution method: its name, what must be recorded for it, and its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Fitted", "InNats", "Method", "Needs"]


@dataclass(frozen=True)
class Needs:
    """What a method needs from the recorded forward pass, which all methods of a run share.

    Attributes:
        heads: (L, H) bool, the heads that must be recorded; None for a method that reads no attention.
        values: whether the norms of their projected values must be recorded too.
    """

    heads: Tensor | None = None
    values: bool = False


class Method(Protocol):
    """An attribution method. Implementations are frozen dataclasses, one file each.

    Attributes:
        source: the paper or page that the method comes from, or "" for a plain baseline.
        by: "token" for (k,) scores of the prompt's tokens, "segment" for (S,) scores of its segments.
        reads: whether it uses the shared forward pass: its attention, or the answer's log-probability.
    """

    source: ClassVar[str]
    by: ClassVar[str]
    reads: ClassVar[bool]

    @property
    def name(self) -> str:
        """Its name in results, such as "flow:retrieval"."""

    def needs(self, model: Any) -> Needs:
        """Return what must be recorded. It is called once, before the first case, so slow preparation belongs here."""

    def __call__(self, reading: Reading) -> Tensor:
        """Return scores, higher for what the answer took more from: (k,) or (S,) float on the CPU, as `by` says."""


@runtime_checkable
class Fitted(Protocol):
    """A method whose scores are fitted to prompts without some segments."""

    def design(self, reading: Reading) -> Tensor:
        """(M, S) bool, the sets of kept segments that it is fitted to; a measurement must use other sets."""


@runtime_checkable
class InNats(Protocol):
    """A method whose scores are nats: how much log p(answer) would fall without a segment.

    Attributes:
        in_nats: True; only its presence is checked.
    """

    in_nats: ClassVar[bool]
