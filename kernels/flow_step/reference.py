"""flow_step in plain torch, on any device and with a gradient; the fallback if no kernel can run.

    Y[o, j] = sum_i rows[o, i] sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j])

over the pairs with j <= i and i - j < window, where logit_h[i, j] = scale q_h[i] . k_g(h)[j], passed through
softcap * tanh(. / softcap) if the model caps its logits. See README.md in this folder for the mathematics.
"""

import torch
from torch import Tensor

__all__ = ["flow_step"]

BLOCK = 256  # query rows per block: bounds the working set to H x BLOCK x N elements


def flow_step(
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
) -> Tensor:  # (O, N)
    """Compute blockwise over queries, in the widest of float32 and the inputs' dtypes.

    Blocks where the rows are all zero are skipped, unless a gradient with respect to the rows is needed.
    """
    dtype = torch.float32
    for tensor in (rows, query, row_bias):
        dtype = torch.promote_types(dtype, tensor.dtype)
    (O, N), H = rows.shape, query.shape[0]
    result = torch.zeros(O, N, dtype=dtype, device=rows.device)
    rows, row_bias = rows.to(dtype), row_bias.to(dtype)
    position = torch.arange(N, device=rows.device)
    for start in range(0, N, BLOCK):
        stop = min(start + BLOCK, N)
        if not rows.requires_grad and not bool(rows[:, start:stop].any()):
            continue
        first = 0 if window is None else max(0, start - window + 1)
        i, j = position[start:stop, None], position[None, first:stop]
        hidden = j > i if window is None else (j > i) | (i - j >= window)  # [BQ, BK]
        total = torch.zeros(stop - start, stop - first, dtype=dtype, device=rows.device)
        for h in range(H):
            k = key[int(kv_index[h]), first:stop].to(dtype)
            logit = scale * (query[h, start:stop].to(dtype) @ k.T)
            if softcap is not None:
                logit = softcap * torch.tanh(logit / softcap)
            exponent = power * logit + row_bias[h, start:stop, None]
            if key_bias is not None:
                exponent = exponent + key_bias[h, None, first:stop].to(dtype)
            total += exponent.masked_fill(hidden, float("-inf")).exp()
        result[:, first:stop] += rows[:, start:stop] @ total
    return result
