"""The notes for users about the answer and the question, each written in one place."""

from dataclasses import dataclass

from torch import Tensor

from attributor._record import HeadWeights

__all__ = ["Hints", "cut_off_note", "fit_answer", "question_notes"]


@dataclass(frozen=True)
class Hints:
    """The parts of notes that name an interface's own options.

    Attributes:
        question: why the question's place is unknown.
        longer: how to allow a longer answer.
    """

    question: str = "the prompt does not say where it stands"
    longer: str = "max_new_tokens=N allows more"


def question_notes(weights: HeadWeights, question: Tensor | None, reason: str, advice: str = "") -> list[str]:
    """The note if weights use the question but its tokens are unknown; else [].

    Args:
        weights: of the model.
        question: (Q,) int64, the prompt's tokens of the question.
        reason: why they are unknown.
        advice: added at the end.
    """
    if not weights.question or question is not None:
        return []
    return [
        f"these weights begin {weights.question:.0%} of each row on the question, and {reason}; here all of it begins "
        f"at the answer{advice}"
    ]


def fit_answer(prompt_length: int, count: int, limit: int | None, reason: str) -> tuple[int, list[str]]:
    """How many tokens an answer may have after a prompt, and a note if that is fewer than `count`.

    Args:
        prompt_length: k, tokens of the prompt.
        count: tokens that are allowed without the limit.
        limit: tokens of prompt and answer together; None: no limit. One token is always allowed: the last token of an
            answer is never read.
        reason: names the limit, at the beginning of the note.
    """
    if limit is None or prompt_length + count <= limit:
        return count, []
    count = max(limit - prompt_length, 1)
    return count, [f"{reason}, so the answer was kept to {_tokens(count)}"]


def cut_off_note(count: int, advice: str = "") -> str:
    """The note on an answer that did not end within `count` tokens."""
    return f"the answer was cut off after {_tokens(count)}{advice and f'; {advice}'}"


def _tokens(count: int) -> str:
    return f"{count:,} token{'s' * (count != 1)}"
