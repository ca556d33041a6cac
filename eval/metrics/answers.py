"""Exact match and F1 of a written answer, as in HotPotQA's official evaluation (Yang et al. 2018)."""

from collections import Counter
from collections.abc import Sequence

from attributor._text import normalise_answer

__all__ = ["contains_expected", "exact_match", "f1"]

CLOSED = frozenset({"yes", "no", "noanswer"})  # these are right or wrong, never partly right


def exact_match(answer: str, expected: str, aliases: Sequence[str] = ()) -> int:
    """Return 1 if the normalised answer is the expected one or one of its aliases, else 0."""
    return int(normalise_answer(answer) in {normalise_answer(text) for text in (expected, *aliases)})


def contains_expected(answer: str, expected: str, aliases: Sequence[str] = ()) -> int:
    """Return 1 if the normalised answer contains the expected one, or an alias, as whole words, else 0.

    This is for models that answer in sentences and never reach an exact match. Yes and no must come first.
    """
    written = normalise_answer(answer)
    answers = [text for text in map(normalise_answer, (expected, *aliases)) if text]
    return int(any(written.split()[:1] == [w] if w in CLOSED else f" {w} " in f" {written} " for w in answers))


def f1(answer: str, expected: str, aliases: Sequence[str] = ()) -> float:
    """Return F1 of the words that the normalised answer shares with the expected one, counted with repetition; 0 to 1.

    With aliases it is the best value. If one of the two is yes, no or noanswer, and they are not equal, it is 0.
    """
    return max(_f1(normalise_answer(answer), normalise_answer(text)) for text in (expected, *aliases))


def _f1(answer: str, expected: str) -> float:
    if answer != expected and (answer in CLOSED or expected in CLOSED):
        return 0.0
    answer_words, expected_words = answer.split(), expected.split()
    shared = (Counter(answer_words) & Counter(expected_words)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(answer_words), shared / len(expected_words)
    return 2 * precision * recall / (precision + recall)
