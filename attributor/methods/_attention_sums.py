"""Sums the attention of the answer's rows over layers and heads; each layer is one step of the flow's kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attributor.methods._method import Needs
from attributor.methods._model import head_shape

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["require_every_head", "sum_attention"]


def require_every_head(model: Any, *, values: bool = False) -> Needs:
    """Return the need for all L x H heads."""
    return Needs(torch.ones(head_shape(model), dtype=torch.bool), values)


def sum_attention(reading: Reading, weights: Tensor, *, question: float = 0.0, **options: Any) -> Tensor:
    """(k,) float64: sum over the answer's rows i, layers and heads of w[l, h] P[l, h, i, :]^power c[l, h, :].

    Each layer is one step of the kernel for the answer's rows alone, so only (a, k) numbers are held at a time.

    Args:
        reading: the recorded prompt and answer.
        weights: (L, H) float >= 0; layers without weight are skipped.
        question: the share of every row that is the mean row of the question's tokens, as `Weights.question`.
        options: power, value_norms, sink, as `Recording.attention` takes them.
    """
    scores = torch.zeros(len(reading.prompt.ids), dtype=torch.float64)
    question_tokens, a = reading.question_tokens if question else None, reading.answer.numel()
    for layer, heads in enumerate(weights):
        if not bool(heads.any()):
            continue
        rows = reading.attention(layer, heads, **options).sum(0, dtype=torch.float64)
        if question_tokens is not None:
            looked = reading.attention(layer, heads, question_tokens, **options).mean(0, dtype=torch.float64)
            rows = (1 - question) * rows + a * question * looked
        scores += rows
    return scores
