"""removal_step in plain torch, on any device; the fallback if no kernel can run.

    c[j] = sum_(h, i >= stops[j]) P_h[i, j] (dO_h[i] . v_g(h)[j] - delta_h[i])

over the pairs with i - j < window, where P_h[i, j] = exp(logit_h[i, j] - lse_h[i]). See README.md in this folder for
the mathematics.
"""

import torch
from torch import Tensor

__all__ = ["removal_step"]

BLOCK = 256  # query rows per block: bounds the working set to a few BLOCK x N matrices


def removal_step(
    query: Tensor,  # (H, Q, D), of the last Q positions
    key: Tensor,  # (G, N, D)
    value: Tensor,  # (G, N, Dv)
    d_output: Tensor,  # (H, Q, Dv), dO
    lse: Tensor,  # (H, Q)
    delta: Tensor,  # (H, Q), dO . o
    stops: Tensor,  # (N,), stops[j] > j
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:  # (N,) float64
    """Compute blockwise over queries, in the widest of float32 and the inputs' dtypes; sum blocks in float64.

    Blocks where dO is all zero are skipped.
    """
    dtype = torch.float32
    for tensor in (query, d_output, lse, delta):
        dtype = torch.promote_types(dtype, tensor.dtype)
    (H, Q, _), (G, N, _) = query.shape, key.shape
    lse, delta = lse.to(dtype), delta.to(dtype)
    result = torch.zeros(N, dtype=torch.float64, device=key.device)
    position = torch.arange(N, device=key.device)
    for low in range(0, Q, BLOCK):
        high = min(low + BLOCK, Q)
        if not bool(d_output[:, low:high].any()):
            continue
        start, stop = N - Q + low, N - Q + high
        first = 0 if window is None else max(0, start - window + 1)
        i, j = position[start:stop, None], position[None, first:stop]
        counted = i >= stops[first:stop]  # [BQ, BK]
        if window is not None:
            counted &= i - j < window
        total = torch.zeros(stop - first, dtype=dtype, device=key.device)
        for h in range(H):
            g = h // (H // G)
            logit = scale * (query[h, low:high].to(dtype) @ key[g, first:stop].to(dtype).T)
            if softcap is not None:
                logit = softcap * torch.tanh(logit / softcap)
            attention = (logit - lse[h, low:high, None]).masked_fill(~counted, float("-inf")).exp()
            change = d_output[h, low:high].to(dtype) @ value[g, first:stop].to(dtype).T - delta[h, low:high, None]
            total += (attention * change).sum(0)
        result[first:stop] += total
    return result
