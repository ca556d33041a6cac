"""From the rule that a user writes to head weights for one model: presets by name, shapes checked."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError, UnsupportedModelError
from attributor._head_weights import HeadWeights
from attributor._projection import output_norm
from attributor._record import attention_modules, text_config
from attributor._weights import Weights, shipped_models

__all__ = ["head_weights", "model_id", "resolve"]


def resolve(
    weights: Any, model: Any, tokenizer: Any = None, *, progress: Callable[[str, int, int], None] | None = None
) -> HeadWeights:
    """`weights` as numbers for this model.

    "retrieval" takes the heads that are shipped for the model, else those that were found in it and kept in the user's
    cache folder, else finds them now, which takes a few dozen forward passes.

    Args:
        weights: whatever a user may pass as ``weights=``.
        model: a transformers decoder-only model.
        tokenizer: for finding heads; None loads it from where the model was loaded from.
        progress: called with ("calibrate", done, total) while heads are found.

    Raises:
        InputError: the shape does not fit the model, or its retrieval heads cannot be found.
    """
    config = text_config(model)
    L, H = config.num_hidden_layers, config.num_attention_heads
    if isinstance(weights, HeadWeights):
        _check_shape(weights.heads, (L, H))
        return weights
    rule = Weights.of(weights)
    preset = rule.heads if isinstance(rule.heads, str) else ""
    if preset == "retrieval":
        return head_weights(_retrieval(rule, model, tokenizer, progress), (L, H), name=rule.name)
    if preset == "output_norm":
        return head_weights(replace(rule, heads=_output_norms(model, L, H)), (L, H), name=rule.name)
    return head_weights(rule, (L, H))


def head_weights(rule: Weights, shape: tuple[int, int], *, name: str | None = None) -> HeadWeights:
    """The numbers of a rule that needs no model, only its shape.

    Args:
        rule: (L, H) numbers, or "mean".
        shape: (L, H) of the model.
        name: of the rule that the numbers come from; None: `rule.name`.

    Raises:
        InputError: numbers of another shape, or another preset.
    """
    L, H = shape
    heads = rule.heads
    if isinstance(heads, str):
        if heads != "mean":
            raise InputError(f"weights {heads!r} need the model")
        heads = torch.full((L, H), 1 / H, dtype=torch.float32, device="cpu")
    _check_shape(heads, shape)
    return HeadWeights(
        heads,
        power=rule.power,
        value_norms=rule.value_norms,
        sink=rule.sink,
        question=rule.question,
        name=rule.name if name is None else name,
        note=rule.note,
        source=rule.meta.get("model", ""),
        meta=rule.meta,
    )


def _check_shape(heads: Tensor, shape: tuple[int, int]) -> None:
    if tuple(heads.shape) != shape:
        raise InputError(f"weights are for {tuple(heads.shape)} layers x heads, the model has {shape}")


def _retrieval(rule: Weights, model: Any, tokenizer: Any, progress: Callable[[str, int, int], None] | None) -> Weights:
    """The heads of this model that look facts up, with the other fields as the rule has them."""
    if (name := model_id(model)) in shipped_models():
        return rule.shipped(name)
    from attributor._calibration.cache import cached_weights  # here: it records, and recording resolves weights

    found = cached_weights(model, tokenizer, progress=progress)
    return rule.over(found)


def model_id(model: Any) -> str:
    """The hub id or folder that a model was loaded from, "" where it was made from a configuration."""
    return str(getattr(model.config, "attributor_source", None) or getattr(model, "name_or_path", "") or "")


def _output_norms(model: Any, L: int, H: int) -> Tensor:
    modules = attention_modules(model)
    if sorted(modules) != list(range(L)):
        raise UnsupportedModelError(
            f"{type(model).__name__}: attention modules were found for {len(modules)} of {L} layers"
        )
    norms = torch.stack([output_norm(modules[layer], H).cpu() for layer in range(L)])
    return norms / norms.sum(1, keepdim=True)
