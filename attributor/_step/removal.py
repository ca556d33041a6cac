"""removal_step: check the arguments of one layer and call one implementation."""

from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from attributor._checks import check_number
from attributor._errors import InputError
from attributor._step.arguments import check_devices, check_shape, check_window, translate_errors
from attributor._step.implementations import choose_impl

__all__ = ["removal_step"]


class Implementation(Protocol):
    """The signature of every implementation: checked arguments, no defaults."""

    def __call__(
        self,
        query: Tensor,  # (H, Q, D)
        key: Tensor,  # (G, N, D)
        value: Tensor,  # (G, N, Dv)
        d_output: Tensor,  # (H, Q, Dv)
        lse: Tensor,  # (H, Q)
        delta: Tensor,  # (H, Q)
        stops: Tensor,  # (N,)
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor: ...  # (N,)


def removal_step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    d_output: Tensor,
    lse: Tensor,
    delta: Tensor,
    stops: Tensor,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    impl: str | None = None,
) -> Tensor:
    """The gradient with respect to a gate on each key, summed over heads and later rows.

        c[j] = sum_(h, i >= stops[j]) P_h[i, j] (dO_h[i] . v_g(h)[j] - delta_h[i])

    over the pairs with ``i - j < window``; ``P_h[i, j] = exp(logit_h[i, j] - lse_h[i])`` and
    ``logit_h[i, j] = scale q_h[i] . k_g(h)[j]``, passed through ``softcap * tanh(logit / softcap)`` if there is a
    softcap. Query head h reads the key head ``h // (H // G)``. No attention matrix is formed.

    Args:
        query: (H, Q, D) float, of the last Q of N positions, after rotary embedding; any strides with a contiguous
            last dimension.
        key: (G, N, D), the dtype of `query`, one per KV head, not repeated.
        value: (G, N, Dv), the dtype of `query`.
        d_output: (H, Q, Dv), the dtype of `query`: the gradient dO of a scalar with respect to each head's output o.
            Rows where it is zero may be skipped.
        lse: (H, Q) float, log-sum-exp of each row's logits, a sink's included; inf leaves a row out.
        delta: (H, Q) float, dO . o, with o after the sink; 0 where dO is zero.
        stops: (N,) int32 or int64, ``stops[j] > j``: the first row that counts for key j, the end of the segment of
            token j. A key whose stop is N or more gets 0.
        scale: the model's factor on q.k, usually ``D ** -0.5``.
        window: how many positions, its own included, a query attends to; None for all earlier ones.
        softcap: the cap of the model's logits, > 0; None for no cap.
        impl: "reference", "cpu" or "triton"; None takes the best one that is usable here.

    Returns:
        (N,) float64. No implementation has a gradient.

    Raises:
        InputError: shapes, dtypes or devices that do not match, stops at or before their keys, or an input that
            requires a gradient, outside of torch.no_grad.
        ImplementationError: `impl` is unknown, has no removal step, or is not usable here.

    Equivalent to::

        attention = (scale * query @ key[kv_index].mT - lse[:, :, None]).exp()            # (H, Q, N)
        change = d_output @ value[kv_index].mT - delta[:, :, None]
        return (attention * change * later_and_window).sum((0, 1))
    """
    H, Q, D = check_shape("query", query, ("H", "Q", "D"), {})
    G, N, _ = check_shape("key", key, ("G", "N", "D"), {"D": D})
    _, _, Dv = check_shape("value", value, ("G", "N", "Dv"), {"G": G, "N": N})
    check_shape("d_output", d_output, ("H", "Q", "Dv"), {"H": H, "Q": Q, "Dv": Dv})
    check_shape("lse", lse, ("H", "Q"), {"H": H, "Q": Q})
    check_shape("delta", delta, ("H", "Q"), {"H": H, "Q": Q})
    if Q > N:
        raise InputError(f"query holds the last Q of N positions, got Q = {Q} and N = {N}")
    if H % G:
        raise InputError(f"query heads share key heads evenly, got {H} query heads and {G} key heads")
    tensors = {"query": query, "key": key, "value": value, "d_output": d_output, "lse": lse, "delta": delta}
    for name in ("key", "value", "d_output"):
        if tensors[name].dtype != query.dtype:
            raise InputError(f"query and {name} need one dtype, got {query.dtype} and {tensors[name].dtype}")
    check_devices(tensors)
    _check_stops(stops, N, query.device)
    window = check_window(window)
    scale = check_number("scale", scale)
    if softcap is not None:
        softcap = check_number("softcap", softcap, positive=True, optional=True)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors.values()):
        raise InputError("removal_step has no gradient; detach its inputs, or call it under torch.no_grad()")
    run = load_implementation(choose_impl(impl, query.device, query.dtype, max(D, Dv), step="removal_step"))
    with translate_errors():
        return run(query, key, value, d_output, lse, delta, stops, scale=scale, window=window, softcap=softcap)


def load_implementation(name: str) -> Implementation:
    """The `removal_step` of kernels/removal_step/`name`.py, imported on first use."""
    run: Implementation = import_module(f"attributor.kernels.removal_step.{name}").removal_step
    return run


def _check_stops(stops: Tensor, N: int, device: torch.device) -> None:
    if not isinstance(stops, Tensor):
        raise InputError(f"stops must be a tensor ({N},) of int32 or int64, got {type(stops).__name__}")
    if stops.shape != (N,) or stops.dtype not in (torch.int32, torch.int64):
        raise InputError(f"stops must be ({N},) int32 or int64, got {tuple(stops.shape)} {stops.dtype}")
    if stops.device != device:
        raise InputError(f"all tensors must be on one device, got query on {device} and stops on {stops.device}")
    early = stops <= torch.arange(N, device=device)
    if bool(early.any()):  # waits for the device, once
        j = int(early.nonzero()[0])
        raise InputError(f"stops[j] must be greater than j, got stops[{j}] = {int(stops[j])}")
