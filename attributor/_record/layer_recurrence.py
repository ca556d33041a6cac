"""Run one layer of the recurrence on its recorded tensors."""

import torch
from torch import Tensor

from attributor._record.head_weights import Transform
from attributor._record.mask import classify_mask
from attributor._record.tape import Layer
from attributor._step import flow_step

__all__ = ["attention_rows", "layer_step"]


def attention_rows(layer: Layer, w: Tensor, positions: Tensor, transform: Transform, impl: str | None) -> Tensor:
    """sum_h w_h P_h^power c_h of one layer for the queries at `positions`: (O, N) float32 on the CPU.

    It runs one step of the same kernel on rows of the identity; the kernel skips queries whose rows are all 0.
    """
    rows = torch.zeros(positions.numel(), layer.query.shape[1], dtype=torch.float32, device=layer.query.device)
    rows[torch.arange(positions.numel()), positions] = 1
    return layer_step(rows, layer, w.to(layer.lse), transform, impl).float().cpu()


def layer_step(rows: Tensor, layer: Layer, w: Tensor, transform: Transform, impl: str | None = None) -> Tensor:
    """Rows @ sum_h w_h P_h^power c_h of one layer, (O, N), chunk by chunk if its attention is chunked.

    Args:
        rows: (O, N).
        layer: with the H heads that `w` weighs.
        w: (H,) > 0.
        transform: power, value norms and sink.
        impl: an implementation of flow_step.
    """
    row_bias = w.log()[:, None] - transform.power * layer.lse
    key_bias = layer.log_value if transform.value_norms else None
    if transform.sink == "drop":
        key_bias = torch.zeros_like(row_bias) if key_bias is None else key_bias.clone()
        key_bias[:, 0] = float("-inf")
    mask = classify_mask(layer.first)
    parts = []
    for low, high in mask.chunks:
        chunk = slice(low, high)
        if not bool(rows[:, chunk].any()):
            parts.append(torch.zeros_like(rows[:, chunk]))
            continue
        parts.append(
            flow_step(
                rows[:, chunk],
                layer.query[:, chunk],
                layer.key[:, chunk],
                row_bias[:, chunk],
                None if key_bias is None else key_bias[:, chunk],
                scale=layer.scale,
                kv_index=layer.kv_index,
                power=transform.power,
                window=mask.window,
                softcap=layer.softcap,
                impl=impl,
            )
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
