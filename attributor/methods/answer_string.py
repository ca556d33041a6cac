"""The answer's string: whether a segment holds the answer, word for word; a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor._text import normalise_answer
from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["AnswerString"]

NAME = "answer-string"
SUMMARY = "1 where the segment holds the answer word for word, else 0"
ORDER = 104


@dataclass(frozen=True)
class AnswerString:
    """1 where the segment holds the answer as whole words, else 0; both normalised as exact match does.

    An answer that is empty when normalised, such as "The", occurs nowhere.
    """

    name: ClassVar[str] = NAME
    source: ClassVar[str] = ""
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def needs(self, model: Any) -> Needs:
        """Nothing recorded."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): 0 or 1."""
        answer = normalise_answer(reading.answer_text)
        holds = [bool(answer) and f" {answer} " in f" {normalise_answer(s.text)} " for s in reading.segments]
        return torch.tensor(holds, dtype=torch.float64)
