"""The definition of removal_step: einsum, in any dtype; the tests call it in float64.

    c[j] = sum_(h, i >= stops[j]) P_h[i, j] (dO_h[i] . v_g(h)[j] - delta_h[i])

over the pairs with i - j < window, where P_h[i, j] = exp(logit_h[i, j] - lse_h[i]), logit_h[i, j] = scale q_h[i] .
k_g(h)[j], passed through softcap * tanh(. / softcap) if the model caps its logits. No blocks and no skips: 16 H Q N
bytes and more in float64.
"""

import torch
from torch import Tensor

__all__ = ["removal_step"]


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
) -> Tensor:  # (N,)
    """The gradient with respect to a gate on each key, summed over heads and later rows."""
    (H, Q, _), (G, N, _) = query.shape, key.shape
    kv_index = torch.arange(H, device=key.device) // (H // G)
    logit = scale * torch.einsum("hid,hjd->hij", query, key[kv_index])
    if softcap is not None:
        logit = softcap * torch.tanh(logit / softcap)
    i = torch.arange(N - Q, N, device=key.device)[:, None]
    j = torch.arange(N, device=key.device)[None, :]
    counted = i >= stops
    if window is not None:
        counted = counted & (i - j < window)
    attention = (logit - lse[:, :, None]).masked_fill(~counted, float("-inf")).exp()
    change = torch.einsum("hid,hjd->hij", d_output, value[kv_index]) - delta[:, :, None]
    return torch.einsum("hij,hij->j", attention, change)
