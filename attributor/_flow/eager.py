"""Compute the flow from eager attention matrices, for models that cannot be recorded."""

from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError, UnsupportedModelError
from attributor._models import device_of, text_config
from attributor._record import HeadWeights, use_attention_implementation
from attributor.kernels.flow_step.definition import adjoint

__all__ = ["eager_attentions", "eager_flow"]


@torch.no_grad()
def eager_attentions(model: Any, ids: Tensor) -> Tensor:
    """(L, H, N, N), the model's own attention weights in eager mode, for one sequence (N,) of ids.

    Raises:
        UnsupportedModelError: the model returns no attention matrix for some layer.
    """
    with use_attention_implementation(model, "eager"):
        output = model(ids[None].to(device_of(model)), output_attentions=True, use_cache=False)
    attentions = getattr(output, "attentions", None) or ()
    expected = text_config(model).num_hidden_layers
    if len(attentions) != expected or any(a is None for a in attentions):
        raise UnsupportedModelError(
            f"{type(model).__name__} returned attention matrices for {len(attentions)} of {expected} layers"
        )
    # gpt-oss returns the sink's share as one more column
    return torch.stack([a[0, ..., : ids.numel()].to("cpu") for a in attentions])


def eager_flow(model: Any, ids: Tensor, weights: HeadWeights, rows: Tensor, *, normalize: bool) -> Tensor:
    """R_0 for the rows R_L, (O, N) both, through (L, H, N, N) matrices: 4 L H N^2 bytes.

    Raises:
        InputError: value norms, which need the recorded values.
        UnsupportedModelError: the model returns no attention matrices.
    """
    if weights.value_norms:
        raise InputError("value norms need a model that can be recorded; use value_norms=False")
    attentions = eager_attentions(model, ids).float() ** weights.power
    if weights.sink == "drop":
        attentions[..., 0] = 0
    flow: Tensor = adjoint(attentions, weights.heads, rows.to(attentions))
    return flow if normalize else flow * weights.growth
