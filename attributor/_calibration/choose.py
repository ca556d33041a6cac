"""From the scores of all heads to the weights of a few."""

import json

import torch

from attributor._calibration.scores import QUESTION, HeadScores
from attributor._checks import check_number
from attributor._errors import InputError
from attributor._weights import Weights

__all__ = ["HEADS", "check_heads", "choose", "ranked"]

HEADS = 4
WEIGHT = 1 / 16  # of each head against the residual's 1: with more, the flow mixes sentences, and finds fewer


def ranked(scores: HeadScores, by: str = "ap") -> list[tuple[int, int, float]]:
    """All heads, best first: (layer, head, score), the score a mean over kinds of cases; the earlier one of equals."""
    if by not in ("ap", "mass"):
        raise InputError(f"heads are ranked by 'ap' or 'mass', got {by!r}")
    means = scores.mean(by).nan_to_num(0).flatten()
    order = means.sort(descending=True, stable=True)
    H = scores.shape[1]
    return [(i // H, i % H, value) for i, value in zip(order.indices.tolist(), order.values.tolist(), strict=True)]


def check_heads(heads: int | None, of: int) -> int:
    """How many heads to take of a model with `of` of them; None: 4, or all of a model with fewer.

    Raises:
        InputError: none, or more than there are.
    """
    if heads is None:
        return min(HEADS, of)
    if not isinstance(heads, int) or isinstance(heads, bool) or not 1 <= heads <= of:
        raise InputError(f"heads must be a whole number from 1 to {of}, the heads of the model, got {heads!r}")
    return heads


def choose(scores: HeadScores, *, heads: int | None = None, total: float | None = None, by: str = "ap") -> Weights:
    """The best heads, with equal weights, and the share of the question that they were ranked with.

    Args:
        scores: of all heads.
        heads: how many to take, 1 to L H; None: 4, or all of a model with fewer.
        total: what their weights add up to; a layer's residual counts 1. None: 1/16 each.
        by: "ap", how high the planted sentences rank, or "mass", how much of the attention they get.

    Raises:
        InputError: a value out of its range.
    """
    L, H = scores.shape
    heads = check_heads(heads, L * H)
    total = heads * WEIGHT if total is None else check_number("total", total, positive=True)
    best = ranked(scores, by)[:heads]
    count = len(scores.kinds)
    written = {
        **{name: value for name, value in scores.meta.items() if name != "seconds"},
        "name": "retrieval",
        "rule": f"the {heads} heads with the highest {by}, mean over {', '.join(dict.fromkeys(scores.kinds))}; "
        f"weights add up to {total:g}",
        "chance": f"{float(scores.chance.mean()):.4f}",
        "heads": json.dumps([[layer, head, round(score, 4)] for layer, head, score in best]),
    }
    many = f"{heads} retrieval heads" if heads > 1 else "1 retrieval head"
    return Weights(
        _weights((L, H), best, total / heads),
        question=QUESTION,
        note=f"{many} found without labels on {count} synthetic prompts; {total / heads:g} each",
        meta=written,
    )


def _weights(shape: tuple[int, int], best: list[tuple[int, int, float]], weight: float) -> torch.Tensor:
    found = torch.zeros(shape, dtype=torch.float32, device="cpu")
    for layer, head, _ in best:
        found[layer, head] = weight
    return found
