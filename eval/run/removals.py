"""Measures what an answer loses when documents are removed, and fits generated rows to a length."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from attributor.eval.config import Config
from attributor.eval.data import GeneratedQuestion, data_sets, lengthen
from attributor.eval.run.prompts import build_case_prompt

__all__ = ["fit_length", "length_limit", "list_removals", "measure_removals"]

DISTRACTORS = 8  # most distractors that are removed; prompts of 300 tokens have no more


def length_limit(config: Config) -> int:
    """Return the longest prompt of a generated row, in tokens."""
    return data_sets()[config.dataset].tokens if config.tokens is None else config.tokens


def fit_length(question: GeneratedQuestion, tokenizer: Any, config: Config) -> GeneratedQuestion:
    """Return the row with as many distractors as fit into its prompt.

    If the row is too long even with its fewest distractors, it is returned with these.
    """
    most = length_limit(config)

    def make(distractors: int) -> GeneratedQuestion:
        return lengthen(config.dataset, question, distractors)

    def fits(distractors: int) -> bool:
        return len(build_case_prompt(tokenizer, make(distractors)).prompt.ids) <= most

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return make(low)


def list_removals(question: GeneratedQuestion) -> tuple[list[int], list[list[int]]]:
    """Return the distractors that are removed, and every set of documents that is removed.

    The sets are each planted document, each pair of them, and each distractor. If there are more than DISTRACTORS
    distractors, that many are removed, evenly spaced over the prompt.
    """
    others = [d for d in range(len(question.documents)) if d not in question.planted]
    count = min(len(others), DISTRACTORS)
    distractors = [others[i * (len(others) - 1) // max(count - 1, 1)] for i in range(count)]
    planted = [[d] for d in question.planted]
    pairs = [list(pair) for pair in combinations(question.planted, 2)]
    return distractors, planted + pairs + [[d] for d in distractors]


def measure_removals(
    question: GeneratedQuestion, ablate: Callable[[Tensor], Tensor], *, convention: str
) -> dict[str, Any]:
    """Measure the removals of a case; return the field "removals" of its record.

    Args:
        question: has Dn documents.
        ablate: (M, Dn) bool, the documents that stay -> (M,) log p of the answer.
        convention: how `ablate` removes the others; stored in the record.
    """
    distractors, sets = list_removals(question)
    stays = torch.ones(len(sets) + 2, len(question.documents), dtype=torch.bool)
    for row, removed in enumerate(sets):
        stays[row, removed] = False
    stays[-2] = False  # the last row keeps all documents
    *log_probs, without_documents, full = ablate(stays).tolist()
    return {
        "convention": convention,
        "planted": list(question.planted),
        "distractors": distractors,
        "full": full,
        "sets": sets,
        "log_probs": log_probs,
        "without_documents": without_documents,
    }
