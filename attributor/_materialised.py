"""The flow from attention matrices that are really there: for models that cannot be recorded."""

from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError, UnsupportedModelError
from attributor._weights import Weights
from attributor.kernels.flow_step.reference import adjoint

__all__ = ["eager_attentions", "materialised_flow"]


@torch.no_grad()
def eager_attentions(model: Any, ids: Tensor) -> Tensor:
    """(L, H, N, N), the model's own attention weights in eager mode, for one sequence (N,) of ids.

    Raises:
        UnsupportedModelError: the model returns no attention matrix for some layer.
    """
    with _eager(model):
        output = model(
            ids[None].to(model.get_input_embeddings().weight.device), output_attentions=True, use_cache=False
        )
    attentions = getattr(output, "attentions", None) or ()
    expected = model.config.get_text_config(decoder=True).num_hidden_layers
    if len(attentions) != expected or any(a is None for a in attentions):
        raise UnsupportedModelError(
            f"{type(model).__name__} returned attention matrices for {len(attentions)} of {expected} layers"
        )
    # gpt-oss returns the sink's share as one more column
    return torch.stack([a[0, ..., : ids.numel()].to("cpu") for a in attentions])


@contextmanager
def _eager(model: Any) -> Any:
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    training = [module for module in model.modules() if module.training]
    try:
        for config in configs.values():
            config._attn_implementation_internal = "eager"
        for module in training:
            module.training = False
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        for module in training:
            module.training = True


def materialised_flow(model: Any, ids: Tensor, weights: Weights, positions: Tensor, *, normalize: bool) -> Tensor:
    """R_0 for the rows at `positions`, (O, N), through (L, H, N, N) matrices: 4 L H N^2 bytes.

    Raises:
        InputError: value norms, which need the recorded values.
        UnsupportedModelError: the model returns no attention matrices.
    """
    if weights.value_norms:
        raise InputError("value norms need a model that can be recorded; use value_norms=False")
    attentions = eager_attentions(model, ids).float() ** weights.power
    if weights.sink == "drop":
        attentions[..., 0] = 0
    heads = weights.heads
    assert isinstance(heads, Tensor)
    rows = torch.zeros(positions.numel(), ids.numel())
    rows[torch.arange(positions.numel()), positions] = 1
    flow: Tensor = adjoint(attentions, heads, rows)
    return flow if normalize else flow * float((1 + heads.sum(1)).prod())
