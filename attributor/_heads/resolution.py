"""Resolve the rule that a user writes to head weights for one model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attributor._checks import check_callable
from attributor._errors import InputError, UnsupportedModelError
from attributor._heads.calibration.cache import load_or_calibrate
from attributor._heads.calibration.model_digest import weights_digest
from attributor._heads.presets import PRESETS
from attributor._heads.weights import Weights, shipped_file
from attributor._models import ModelFacts, model_facts
from attributor._record import HeadWeights, attention_modules, output_norm

__all__ = ["has_shipped_heads", "is_derived", "resolve", "resolve_for", "resolve_for_shape"]

Progress = Callable[[str, int, int], None]


def resolve(weights: Any, model: Any, tokenizer: Any = None, *, progress: Progress | None = None) -> HeadWeights:
    """Resolve `weights` to numbers for this model.

    "retrieval" takes the heads that are shipped for exactly these model weights, else those in the user's cache folder.
    Otherwise it runs the calibration, which takes a few dozen forward passes.

    Args:
        weights: any value that a user may pass as ``weights=``.
        model: a transformers decoder-only model.
        tokenizer: for finding heads; None loads it from the model's source.
        progress: called with ("calibrate", done, total) while heads are found.

    Raises:
        InputError: the shape does not fit the model, or its retrieval heads cannot be found.
        UnsupportedModelError: weights cannot be derived from the model's attention or parameters, which are named.
    """
    check_callable("progress", progress)
    return resolve_for(model_facts(model), weights, model, tokenizer, progress=progress)


def resolve_for(
    facts: ModelFacts, weights: Any, model: Any = None, tokenizer: Any = None, *, progress: Progress | None = None
) -> HeadWeights:
    """As `resolve`, from the facts about a model.

    Raises:
        InputError: as `resolve`; or `model` is None and the weights are derived from a model.
    """
    if isinstance(weights, HeadWeights):
        _check_shape(weights.heads, facts.shape)
        return weights
    rule = Weights.of(weights)
    preset = PRESETS[rule.heads] if isinstance(rule.heads, str) else None
    if preset is None or preset.derived_from == "shape":
        return resolve_for_shape(rule, facts.shape)
    if model is None:
        raise InputError(f"weights {rule.name!r} are derived from {facts.name}, which is no longer in memory")
    match rule.name:
        case "output_norm":
            numbers = _output_norm_weights(rule, model)
        case "retrieval":
            numbers = _retrieval_weights(rule, model, tokenizer, progress)
        case name:
            raise AssertionError(f"no function computes the preset {name!r}")
    return resolve_for_shape(numbers, facts.shape, name=rule.name)


def is_derived(weights: Any) -> bool:
    """Whether the weights are a preset that is derived from a model's parameters or forward passes."""
    rule = None if isinstance(weights, HeadWeights) else Weights.of(weights).heads
    return isinstance(rule, str) and PRESETS[rule].derived_from != "shape"


def resolve_for_shape(rule: Weights, shape: tuple[int, int], *, name: str | None = None) -> HeadWeights:
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
        source=rule.source,
        meta=rule.meta,
    )


def has_shipped_heads(model: Any) -> bool:
    """Whether "retrieval" takes heads that are shipped, which needs no calibration.

    Raises:
        UnsupportedModelError: weights that cannot be read.
    """
    return shipped_file(weights_digest(model)) is not None


def _check_shape(heads: Tensor, shape: tuple[int, int]) -> None:
    if tuple(heads.shape) != shape:
        raise InputError(f"weights are for {tuple(heads.shape)} layers x heads, the model has {shape}")


def _retrieval_weights(rule: Weights, model: Any, tokenizer: Any, progress: Progress | None) -> Weights:
    """The retrieval heads of this model, with the other fields of the rule."""
    digest = weights_digest(model)
    path = shipped_file(digest)
    if path is not None:
        return rule.apply_to(Weights.load(path))
    return rule.apply_to(load_or_calibrate(model, tokenizer, digest=digest, progress=progress))


def _output_norm_weights(rule: Weights, model: Any) -> Weights:
    """Weights in proportion to the norm of each head's output projection, with the other fields of the rule."""
    modules = attention_modules(model)
    facts = model_facts(model)
    L, H = facts.shape
    if sorted(modules) != list(range(L)):
        raise UnsupportedModelError(
            f"{type(model).__name__}: attention modules were found for {len(modules)} of {L} layers"
        )
    norms = torch.stack([output_norm(modules[layer], H, facts.dtype).cpu() for layer in range(L)])
    return replace(rule, heads=norms / norms.sum(1, keepdim=True))
