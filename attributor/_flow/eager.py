"""Compute the flow from eager attention matrices, for models that cannot be recorded."""

from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError, NumericsError, UnsupportedModelError
from attributor._models import device_of, text_config
from attributor._record import HeadWeights, use_attention_implementation
from attributor.kernels.flow_step.definition import adjoint

__all__ = ["eager_attentions", "eager_flow"]


@torch.no_grad()
def eager_attentions(model: Any, ids: Tensor) -> Tensor:
    """(L, H, N, N), the model's own attention weights in eager mode, for one sequence (N,) of ids.

    Raises:
        UnsupportedModelError: the model returns no attention matrix for some layer, or attends to later tokens.
        NumericsError: NaN or infinity in an attention matrix.
    """
    with use_attention_implementation(model, "eager"):
        output = model(ids[None].to(device_of(model)), output_attentions=True, use_cache=False)
    attentions = getattr(output, "attentions", None) or ()
    expected = text_config(model).num_hidden_layers
    if len(attentions) != expected or any(a is None for a in attentions):
        raise UnsupportedModelError(
            f"{type(model).__name__} returned attention matrices for {len(attentions)} of {expected} layers"
        )
    H, N, name = text_config(model).num_attention_heads, ids.numel(), type(model).__name__
    return torch.stack([_check_matrix(a, H, N, layer, name) for layer, a in enumerate(attentions)])


def _check_matrix(attention: Any, H: int, N: int, layer: int, name: str) -> Tensor:
    """One layer's matrices (1, H, N, N) on the CPU as (H, N, N), without the column of a sink.

    Raises:
        UnsupportedModelError: another shape, or a weight above the diagonal.
        NumericsError: NaN or infinity.
    """
    shape = tuple(getattr(attention, "shape", ()))
    # gpt-oss returns the sink's share as one more column
    if shape not in ((1, H, N, N), (1, H, N, N + 1)):
        raise UnsupportedModelError(
            f"{name} returned attention of shape {shape} for layer {layer}; {(1, H, N, N)} is expected"
        )
    matrix: Tensor = attention[0, ..., :N].to("cpu")
    if not bool(torch.isfinite(matrix).all()):
        raise NumericsError(f"layer {layer}: the attention matrix is not finite; do the weights hold NaN?")
    above = matrix.triu(1).abs()
    if bool(above.any()):
        head, i, j = (int(index) for index in torch.unravel_index(above.argmax(), above.shape))
        raise UnsupportedModelError(
            f"the attention of {name} is not causal: in layer {layer}, head {head}, token {i} puts "
            f"{float(above[head, i, j]):.2g} of its attention on the later token {j}. A flow needs tokens that "
            "attend to themselves and earlier ones only; a model of an encoder's family that was trained so needs "
            "is_decoder=True in its configuration (xlm: causal=True)"
        )
    return matrix


def eager_flow(model: Any, ids: Tensor, weights: HeadWeights, rows: Tensor, *, normalize: bool) -> Tensor:
    """R_0 for the rows R_L, (O, N) both, through (L, H, N, N) matrices: 4 L H N^2 bytes.

    Raises:
        InputError: value norms, which need the recorded values.
        UnsupportedModelError: the model returns no attention matrices, or they are not causal.
        NumericsError: NaN or infinity in an attention matrix.
    """
    if weights.value_norms:
        raise InputError("value norms need a model that can be recorded; use value_norms=False")
    attentions = eager_attentions(model, ids).float() ** weights.power
    if weights.sink == "drop":
        attentions[..., 0] = 0
    flow: Tensor = adjoint(attentions, weights.heads, rows.to(attentions))
    return flow if normalize else flow * weights.growth
