"""Weights as numbers for one model: presets by name, shapes checked."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError, UnsupportedModelError
from attributor._projection import output_norm
from attributor._record import attention_modules, text_config
from attributor._weights import Weights, shipped_models

__all__ = ["model_id", "resolve"]


def resolve(
    weights: Any, model: Any, tokenizer: Any = None, *, progress: Callable[[str, int, int], None] | None = None
) -> Weights:
    """`weights` as numbers for this model: `heads` is an (L, H) tensor.

    "retrieval" takes the heads that are shipped for the model, else those that were found in it and kept in the user's
    cache folder, else finds them now, which takes a few dozen forward passes.

    Args:
        weights: whatever a user may pass as ``weights=``.
        model: a transformers decoder-only model.
        tokenizer: for finding heads; None loads it from where the model was loaded from.
        progress: told ("calibrate", done, total) while heads are found.

    Raises:
        InputError: the shape does not fit the model, or its retrieval heads cannot be found.
    """
    found = Weights.of(weights)
    config = text_config(model)
    L, H = config.num_hidden_layers, config.num_attention_heads
    if isinstance(found.heads, str):
        name = found.heads
        if name == "retrieval":
            found = _retrieval(found, model, tokenizer, progress)
        elif name == "output_norm":
            found = replace(found, heads=_output_norms(model, L, H))
        else:
            found = replace(found, heads=torch.full((L, H), 1 / H, dtype=torch.float32, device="cpu"))
        found = replace(found, meta=dict(found.meta) | {"name": name})
    assert isinstance(found.heads, Tensor)
    if tuple(found.heads.shape) != (L, H):
        raise InputError(f"weights are for {tuple(found.heads.shape)} layers x heads, the model has ({L}, {H})")
    return found


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
