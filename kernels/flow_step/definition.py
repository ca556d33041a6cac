"""The definition of flow_step: a dozen lines of einsum, in any dtype; the tests call it in float64.

    Y[o, j] = sum_i rows[o, i] sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j])

over the pairs with j <= i and i - j < window, where logit_h[i, j] = scale q_h[i] . k_g(h)[j], passed through
softcap * tanh(. / softcap) if the model caps its logits. No blocks and no skips: 8 H N^2 bytes and more in float64.
"""

import torch
from torch import Tensor

__all__ = ["adjoint", "flow_step", "recurrence"]


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
    """One layer of the recurrence, through the attention weights of all heads, (H, N, N)."""
    logit = scale * torch.einsum("hid,hjd->hij", query, key[kv_index])
    if softcap is not None:
        logit = softcap * torch.tanh(logit / softcap)
    exponent = power * logit + row_bias[:, :, None]
    if key_bias is not None:
        exponent = exponent + key_bias[:, None, :]
    position = torch.arange(rows.shape[1], device=rows.device)
    gap = position[:, None] - position[None, :]
    hidden = gap < 0 if window is None else (gap < 0) | (gap >= window)
    return torch.einsum("oi,hij->oj", rows, exponent.masked_fill(hidden, float("-inf")).exp())


def recurrence(attentions: Tensor, weights: Tensor) -> Tensor:
    """The recurrence on attention matrices: X_l = (X + sum_h w[l, h] A[l, h] X) / (1 + sum_h w[l, h]).

    attentions (L, H, N, N), weights (L, H) -> X_L (N, N), X_0 = I, layers in the order of computation.
    """
    N = attentions.shape[-1]
    X = torch.eye(N, dtype=attentions.dtype, device=attentions.device)
    for A, w in zip(attentions, weights.to(attentions), strict=True):
        X = (X + torch.einsum("h,hij,jk->ik", w, A, X)) / (1 + w.sum())
    return X


def adjoint(attentions: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """The recurrence from the right, for a few rows: R_(l-1) = (R_l + R_l sum_h w[l, h] A[l, h]) / (1 + sum_h w[l, h]).

    attentions (L, H, N, N), weights (L, H), rows (O, N) -> rows @ X_L, (O, N), last layer first.
    """
    for A, w in zip(attentions.flip(0), weights.to(attentions).flip(0), strict=True):
        rows = (rows + torch.einsum("oi,h,hij->oj", rows, w, A)) / (1 + w.sum())
    return rows
