"""Rank the planted sentences among all sentences, for many heads at once."""

import torch
from torch import Tensor

__all__ = ["average_precision", "expected_average_precision", "planted_share"]


def average_precision(scores: Tensor, planted: Tensor) -> Tensor:
    """Average precision of the planted sentences in the order of the scores, highest first.

        AP = 1/m sum_k k / (k + u_k),   u_k: the others above the k-th planted sentence; a tie counts one half

    Args:
        scores: (..., S) float.
        planted: (S,) bool, m > 0 of them.

    Returns:
        (...) float32, in (0, 1].
    """
    planted_scores, others = scores[..., planted].sort(-1, descending=True).values, scores[..., ~planted]
    above = (others[..., None, :] > planted_scores[..., :, None]).sum(-1)
    ties = (others[..., None, :] == planted_scores[..., :, None]).sum(-1)
    k = torch.arange(1, planted_scores.shape[-1] + 1)
    return (k / (k + above + ties / 2)).mean(-1)


def planted_share(scores: Tensor, planted: Tensor) -> Tensor:
    """(..., S) -> (...): the planted sentences' share of all scores; 0 if all scores are 0."""
    total = scores.sum(-1)
    return scores[..., planted].sum(-1) / total.where(total > 0, torch.ones_like(total))


def expected_average_precision(S: int, m: int) -> float:
    """The expected average precision of m sentences among S in random order."""
    harmonic = sum(1 / rank for rank in range(1, S + 1))
    return harmonic / S if S == 1 or m == 1 else (harmonic + (m - 1) / (S - 1) * (S - harmonic)) / S
