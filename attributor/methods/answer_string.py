"""Answer string: whether a segment contains the answer, word for word; a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor._text import split_words
from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["AnswerString"]

NAME = "answer-string"
SUMMARY = "1 if the segment contains the answer word for word, else 0"
ORDER = 104

ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class AnswerString:
    """1 if the segment contains the answer's words one after another, else 0.

    The words are those of `split_words` without a, an and the. An answer without such words, for example "The", is in
    no segment.
    """

    name: ClassVar[str] = NAME
    source: ClassVar[str] = ""
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def needs(self, model: Any) -> Needs:
        """Record nothing."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): 0 or 1."""
        answer = _join_words(reading.answer_text)
        holds = [bool(answer.strip()) and answer in _join_words(segment.text) for segment in reading.segments]
        return torch.tensor(holds, dtype=torch.float64)


def _join_words(text: str) -> str:
    """Join the words, each with a space on both sides, so that only whole words are found."""
    return f" {' '.join(word for word in split_words(text) if word not in ARTICLES)} "
