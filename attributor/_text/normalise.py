"""Normalise a short answer before it is compared, as HotPotQA's official evaluation does (Yang et al. 2018)."""

import re
import string

__all__ = ["normalise_answer"]

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise_answer(answer: str) -> str:
    """Lower case, without ASCII punctuation, without the words a, an and the, single spaces.

    In this order, which matters: punctuation is removed, without a space, so "the-end" is the word "theend".
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())
