"""`FlowView`: a flow with the facts about its case that the views show."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

from attributor._result.flow_arrays import Floats
from attributor._result.view.scores import Scores

if TYPE_CHECKING:
    from attributor._result.flow import Flow

__all__ = ["FlowView"]


@dataclass(frozen=True, eq=False, repr=False)
class FlowView:
    """A flow with the facts about its case that the views show.

    Attributes:
        flow: in memory, or mapped from its file.
        gold, gold_documents: sentences and documents that people marked as evidence; None without such marks.
        question, expected: the question and the expected answer, if known.
        title: of the page; None: the answer's beginning.
        name: what error messages call the flow.
    """

    flow: Flow
    _: KW_ONLY
    gold: tuple[int, ...] | None = None
    gold_documents: tuple[int, ...] | None = None
    question: str | None = None
    expected: str | None = None
    title: str | None = None
    name: str = "the flow"
    _lock: Any = field(default_factory=RLock, init=False)

    @property
    def scores(self) -> Scores:
        """The sums that the views show; every call, in any thread, returns the same object."""
        with self._lock:
            made: Scores | None = vars(self).get("_scores")
            if made is None:
                made = vars(self)["_scores"] = Scores(self.flow, self.name)
            return made

    @cached_property
    def on_answer(self) -> Floats | None:
        """(o,) float32, the share on earlier answer tokens; None if rows do not add up to 1."""
        return self.flow.arrays.on_answer
