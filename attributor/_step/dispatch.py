"""flow_step: check the arguments of one layer of the recurrence and call one implementation."""

from typing import Protocol

import torch
from torch import Tensor

from attributor._checks import check_number
from attributor._errors import InputError
from attributor._step.arguments import check_devices, check_shape, check_window, translate_errors
from attributor._step.implementations import choose_impl
from attributor.kernels.flow_step import reference

__all__ = ["flow_step"]


class Implementation(Protocol):
    """The signature of every implementation: checked arguments, no defaults."""

    def __call__(
        self,
        rows: Tensor,  # (O, N)
        query: Tensor,  # (H, N, D)
        key: Tensor,  # (G, N, D)
        row_bias: Tensor,  # (H, N)
        key_bias: Tensor | None,  # (H, N)
        *,
        scale: float,
        kv_index: Tensor,  # (H,)
        power: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor: ...  # (O, N)


def flow_step(
    rows: Tensor,
    query: Tensor,
    key: Tensor,
    row_bias: Tensor,
    key_bias: Tensor | None = None,
    *,
    scale: float,
    kv_index: Tensor | None = None,
    power: float = 1.0,
    window: int | None = None,
    softcap: float | None = None,
    impl: str | None = None,
) -> Tensor:
    """Multiply rows by a weighted sum of attention matrices that are never formed.

        Y[o, j] = sum_i rows[o, i] sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j])

    over the pairs with ``j <= i`` and ``i - j < window``; ``logit_h[i, j] = scale q_h[i] . k_g(h)[j]``, passed through
    ``softcap * tanh(logit / softcap)`` if there is a softcap. ``row_bias = -logsumexp - log(H)`` gives rows @ mean-head
    attention.

    Args:
        rows: (O, N) float, the rows to multiply.
        query: (H, N, D) float, after rotary embedding; any strides with a contiguous last dimension.
        key: (G, N, D), the dtype of `query`, one per KV head, not repeated.
        row_bias: (H, N) float, natural logarithm; -inf leaves a row out.
        key_bias: (H, N) float, natural logarithm; -inf leaves a key out.
        scale: the model's factor on q.k, usually ``D ** -0.5``.
        kv_index: (H,) integer, the KV head of each query head; default: neighbours share a KV head, ``h // (H // G)``.
        power: the exponent of every attention weight, > 0.
        window: how many positions, its own included, a query attends to; None for all earlier ones.
        softcap: the cap of the model's logits, > 0; None for no cap.
        impl: "reference", "cpu", "triton" or "cuda"; None takes the best one that is usable here. Only the reference
            has a gradient, so None takes it if an input requires a gradient, outside of torch.no_grad. "cuda" is for
            GPUs of compute capability 9.0. It is never chosen automatically, because no GPU has run it so far.

    Returns:
        (O, N), float32; float64 if the reference is given float64.

    Raises:
        InputError: shapes, dtypes or devices that do not match.
        ImplementationError: `impl` is unknown or not usable here, or a gradient is needed and it has none.

    Equivalent to::

        logit = scale * query @ key[kv_index].mT                      # (H, N, N)
        weight = (power * logit + row_bias[:, :, None] + key_bias[:, None, :]).exp()
        return rows @ (weight * causal_and_window).sum(0)
    """
    _, N = check_shape("rows", rows, ("O", "N"), {})
    H, _, D = check_shape("query", query, ("H", "N", "D"), {"N": N})
    G, _, _ = check_shape("key", key, ("G", "N", "D"), {"N": N, "D": D})
    check_shape("row_bias", row_bias, ("H", "N"), {"H": H, "N": N})
    if key_bias is not None:
        check_shape("key_bias", key_bias, ("H", "N"), {"H": H, "N": N})
    if key.dtype != query.dtype:
        raise InputError(f"query and key need one dtype, got {query.dtype} and {key.dtype}")
    tensors = {"rows": rows, "query": query, "key": key, "row_bias": row_bias}
    if key_bias is not None:
        tensors["key_bias"] = key_bias
    check_devices(tensors)
    window = check_window(window)
    if kv_index is None:
        if H % G:
            raise InputError(f"{H} query heads cannot share {G} key heads evenly; pass kv_index")
        kv_index = torch.arange(H, device=rows.device) // (H // G)
    else:
        _check_kv_index(kv_index, H, G, rows.device)
    scale = check_number("scale", scale)
    power = check_number("power", power, positive=True)
    if softcap is not None:
        softcap = check_number("softcap", softcap, positive=True, optional=True)
    gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors.values())
    run = load_implementation(choose_impl(impl, rows.device, query.dtype, D, gradient=gradient))
    with translate_errors():
        return run(
            rows,
            query,
            key,
            row_bias,
            key_bias,
            scale=scale,
            kv_index=kv_index,
            power=power,
            window=window,
            softcap=softcap,
        )


def load_implementation(name: str) -> Implementation:
    """The `flow_step` of kernels/flow_step/`name`.py, imported on first use."""
    run: Implementation
    if name == "cuda":
        from attributor.kernels.flow_step import cuda

        run = cuda.flow_step
    elif name == "triton":
        from attributor.kernels.flow_step.triton import flow_step

        run = flow_step
    elif name == "cpu":
        from attributor.kernels.flow_step import cpu

        run = cpu.flow_step
    else:
        run = reference.flow_step
    return run


def _check_kv_index(kv_index: Tensor, H: int, G: int, device: torch.device) -> None:
    if not isinstance(kv_index, Tensor):
        raise InputError(f"kv_index must be a tensor ({H},) of int32 or int64, got {type(kv_index).__name__}")
    if kv_index.shape != (H,) or kv_index.dtype not in (torch.int32, torch.int64):
        raise InputError(f"kv_index must be ({H},) int32 or int64, got {tuple(kv_index.shape)} {kv_index.dtype}")
    if kv_index.device != device:
        raise InputError(f"all tensors must be on one device, got rows on {device} and kv_index on {kv_index.device}")
    low, high = torch.stack(kv_index.aminmax()).tolist()  # waits for the device, once
    if low < 0 or high >= G:
        raise InputError(f"kv_index names KV heads 0 to {G - 1}, got {low} to {high}")
