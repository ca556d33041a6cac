"""Choose the best heads by their scores and give them weights."""

import json
from importlib.metadata import version

import torch

from attributor._checks import shorten_value
from attributor._errors import InputError
from attributor._heads.calibration.head_scores import QUESTION, HeadScores
from attributor._heads.weights import Weights

__all__ = ["DEFAULT_HEAD_COUNT", "check_head_count", "choose_heads", "rank_heads"]

DEFAULT_HEAD_COUNT = 4
WEIGHT_PER_HEAD = 1 / 16  # of each head against the residual's 1; with more, the flow mixes sentences and finds fewer


def rank_heads(scores: HeadScores) -> list[tuple[int, int, float]]:
    """All heads, best first, as (layer, head, ap); ap is a mean over kinds of cases. Ties keep the model's order."""
    means = scores.mean("ap").nan_to_num(0).flatten()
    order = means.sort(descending=True, stable=True)
    H = scores.shape[1]
    return [(i // H, i % H, value) for i, value in zip(order.indices.tolist(), order.values.tolist(), strict=True)]


def check_head_count(heads: int | None, of: int) -> int:
    """How many of a model's `of` heads to take; None: 4, or all of a model with fewer.

    Raises:
        InputError: fewer than 1, or more than `of`.
    """
    if heads is None:
        return min(DEFAULT_HEAD_COUNT, of)
    if not isinstance(heads, int) or isinstance(heads, bool) or not 1 <= heads <= of:
        raise InputError(
            f"heads must be a whole number from 1 to {of}, the heads of the model, got {shorten_value(heads)}"
        )
    return heads


def choose_heads(scores: HeadScores, *, heads: int | None = None, seed: int | None = None) -> Weights:
    """The best heads, with equal weights, and the question's share with which they were ranked.

    Args:
        scores: of all heads.
        heads: how many to take, 1 to L H; None: 4, or all of a model with fewer.
        seed: of the prompts, for `meta`.

    Raises:
        InputError: fewer than 1 head, or more than there are.
    """
    L, H = scores.shape
    heads = check_head_count(heads, L * H)
    best = rank_heads(scores)[:heads]
    count = len(scores.kinds)
    meta = {
        "prompts": str(count),
        "documents": str(scores.documents),
        "tokens": str(scores.tokens),
        **({} if seed is None else {"seed": str(seed)}),
        "attributor": version("attributor"),
        "choice": f"the {heads} heads with the highest ap, mean over {', '.join(dict.fromkeys(scores.kinds))}; "
        f"weights add up to {heads * WEIGHT_PER_HEAD:g}",
        "chance": f"{float(scores.chance.mean()):.4f}",
        "heads": json.dumps([[layer, head, round(score, 4)] for layer, head, score in best]),
    }
    many = f"{heads} retrieval heads" if heads > 1 else "1 retrieval head"
    return Weights(
        _equal_weights((L, H), best),
        question=QUESTION,
        note=f"{many} found without labels on {count} synthetic prompts; {WEIGHT_PER_HEAD:g} each",
        rule="retrieval",
        source=scores.model,
        digests=scores.weights_digests,
        meta=meta,
    )


def _equal_weights(shape: tuple[int, int], best: list[tuple[int, int, float]]) -> torch.Tensor:
    weights = torch.zeros(shape, dtype=torch.float32, device="cpu")
    for layer, head, _ in best:
        weights[layer, head] = WEIGHT_PER_HEAD
    return weights
