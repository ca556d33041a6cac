"""How high some sentences rank among all, for many heads at once."""

import torch
from torch import Tensor

__all__ = ["average_precision", "chance", "share"]


def average_precision(scores: Tensor, planted: Tensor) -> Tensor:
    """Average precision of the planted sentences in the order of the scores, highest first.

        AP = 1/m sum_k k / (k + u_k),   u_k: the others above the k-th planted sentence; a tie counts one half

    Args:
        scores: (..., S) float.
        planted: (S,) bool, m > 0 of them.

    Returns:
        (...) float32, in (0, 1].
    """
    wanted, others = scores[..., planted].sort(-1, descending=True).values, scores[..., ~planted]
    above = (others[..., None, :] > wanted[..., :, None]).sum(-1)
    ties = (others[..., None, :] == wanted[..., :, None]).sum(-1)
    k = torch.arange(1, wanted.shape[-1] + 1)
    return (k / (k + above + ties / 2)).mean(-1)


def share(scores: Tensor, planted: Tensor) -> Tensor:
    """(..., S) -> (...): the part of all scores that the planted sentences have; 0 where all are 0."""
    total = scores.sum(-1)
    return scores[..., planted].sum(-1) / total.where(total > 0, torch.ones_like(total))


def chance(S: int, m: int) -> float:
    """The expected average precision of m sentences among S in random order."""
    harmonic = sum(1 / rank for rank in range(1, S + 1))
    return harmonic / S if S == 1 or m == 1 else (harmonic + (m - 1) / (S - 1) * (S - harmonic)) / S
