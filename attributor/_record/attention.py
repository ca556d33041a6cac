"""Attention of a recorded layer with the log-sum-exp of every query: on a CPU here, on a GPU by fused_attention.py."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from attributor._record import fused_attention
from attributor._record.mask import Mask

__all__ = ["BLOCK", "attention", "block_end"]

BLOCK = 512  # queries per block if a mask must be formed: bounds the mask to BLOCK x keys


def attention(
    query: Tensor,  # (B, H, Q, D)
    key: Tensor,  # (B, G, K, D)
    value: Tensor,  # (B, G, K, Dv)
    mask: Mask,
    *,
    scale: float,
    softcap: float | None = None,
    sink: Tensor | None = None,  # (H,) a learned logit in every softmax's denominator
) -> tuple[Tensor, Tensor]:
    """Attention output (B, H, Q, Dv) and log-sum-exp (B, H, Q) in float32 or wider, natural logarithm.

    Each sequence of the batch is computed on its real positions, so padding needs no mask and costs nothing. Only
    windows, and several queries after a cache, need a mask; it is formed for a block of queries at a time. Padding rows
    return 0.
    """
    B, H, Q, _ = query.shape
    if mask.plain and mask.keys_from == 0 and (Q == 1 or mask.start == 0):  # most calls: no mask to inspect
        stop = mask.start + Q
        if key.shape[2] > stop:  # a static cache
            key, value = key[:, :, :stop], value[:, :, :stop]
        output, lse = _attend_fused(query, key, value, None, scale, softcap)
    elif B == 1 or bool((mask.first == mask.first[:1]).all()):  # the whole batch sees the same positions
        output, lse = _attend_sequences(query, key, value, mask, mask.first[0], scale, softcap)
    else:
        sequences = [slice(b, b + 1) for b in range(B)]
        parts = [
            _attend_sequences(query[b], key[b], value[b], mask, mask.first[b][0], scale, softcap) for b in sequences
        ]
        output, lse = (torch.cat(part) for part in zip(*parts, strict=True))
    if sink is not None:
        # the sink joins the denominator and carries no value: the output shrinks by exp(lse - lse')
        joined = torch.logaddexp(lse, sink.to(lse.dtype)[None, :, None].expand(B, H, Q))
        output = (output * (lse - joined).exp()[..., None]).to(output.dtype)
        lse = joined
    return output, lse


def _attend_sequences(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, first: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Attention of sequences that share `first`, (Q,), the first key that each query sees."""
    Q = query.shape[2]
    start, base = mask.start, mask.keys_from
    if Q == 1:
        low = int(first[0])
        if low < 0:
            return _zero_outputs(query, value)
        keys = slice(low - base, start + 1 - base)
        return _attend_fused(query, key[:, :, keys], value[:, :, keys], None, scale, softcap)
    alive = (first >= 0).nonzero()
    if not alive.numel():
        return _zero_outputs(query, value)
    low, high = int(alive[0]), int(alive[-1]) + 1  # padding lies outside [low, high)
    output, lse = _zero_outputs(query, value) if (low, high) != (0, Q) else (None, None)
    first_keys = first[low:high].tolist()
    if (
        query.device.type != "cpu"
        and softcap is None
        and (windowed := _attend_in_window(query, key, value, mask, first_keys, scale))
    ):
        return windowed
    parts = []
    begin = low
    while begin < high:
        end = block_end(first_keys, begin - low, start) + low
        span = first_keys[begin - low]
        block = slice(begin, end)
        keys = slice(span - base, start + end - base)
        seen = None  # causal on the diagonal block: the fused kernel's own mask
        if span != start + begin or any(f != span for f in first_keys[begin - low : end - low]):
            i = torch.arange(start + begin, start + end, device=query.device)[:, None]
            j = torch.arange(span, start + end, device=query.device)[None, :]
            seen = (j <= i) & (j >= first[block, None])
        parts.append(_attend_fused(query[:, :, block], key[:, :, keys], value[:, :, keys], seen, scale, softcap))
        begin = end
    out = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts], 2)
    sums = parts[0][1] if len(parts) == 1 else torch.cat([part[1] for part in parts], 2)
    if output is None or lse is None:
        return out, sums
    output[:, :, low:high] = out
    lse[:, :, low:high] = sums
    return output, lse


def _attend_in_window(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, first_keys: list[int], scale: float
) -> tuple[Tensor, Tensor] | None:
    """Attention of a whole prompt with a sliding window in one call, without masks, if a kernel supports it."""
    Q = query.shape[2]
    window = Q - first_keys[-1] if len(first_keys) == Q else Q
    if window == Q:  # padded, or causal: no window
        return None
    if mask.start or mask.keys_from or key.shape[2] != Q or first_keys != [max(0, i - window + 1) for i in range(Q)]:
        return None
    return fused_attention.run_fused_kernel(
        query, key, value, causal=True, window=window, scale=scale, definition=_definition
    )


def block_end(first: list[int], begin: int, start: int) -> int:
    """The end of the block of queries from `begin`: a run that starts at its own first key, else BLOCK queries."""
    if first[begin] == start + begin:  # the block's keys start with the block: causal, no mask is formed
        end = begin
        while end < len(first) and first[end] == first[begin]:
            end += 1
        return end
    return min(begin + BLOCK, len(first))


def _zero_outputs(query: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    B, H, Q, _ = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.new_zeros(B, H, Q, value.shape[-1]), torch.zeros(B, H, Q, dtype=wide, device=query.device)


def _attend_fused(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """One fused call; `seen` is (Q, K) bool; None means causal if Q == K, and all keys if Q == 1."""
    is_causal = seen is None and query.shape[2] > 1
    if softcap is None and query.device.type != "cpu" and seen is None:
        fused = fused_attention.run_fused_kernel(
            query, key, value, causal=is_causal, window=None, scale=scale, definition=_definition
        )
        if fused is not None:
            return fused
    if softcap is not None or query.device.type != "cpu":
        return _attend_blockwise(query, key, value, seen, scale, softcap)
    D, Dv = query.shape[-1], value.shape[-1]
    if Dv != D:  # the fused kernels need one head size; zeros change neither q.k nor the output's first Dv
        query, key = (pad(x, (0, max(D, Dv) - D)) for x in (query, key))
        value = pad(value, (0, max(D, Dv) - Dv))
    bias = None if seen is None else torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, float("-inf"))
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, attn_mask=bias, scale=scale
    )
    return output[..., :Dv], lse[..., : query.shape[2]]


def _definition(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The reference for a fused kernel: (output, log-sum-exp)."""
    seen = None
    if window is not None:
        gap = torch.arange(query.shape[2], device=query.device)
        gap = gap[:, None] - gap[None, :]
        seen = (gap >= 0) & (gap < window)
    return _attend_blockwise(query, key, value, seen, scale, None)


def _attend_blockwise(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Attention by its definition, BLOCK queries at a time, if no fused kernel supports the call (capped logits)."""
    B, H, Q, D = query.shape
    G, K = key.shape[1:3]
    outputs, sums = [], []
    for low in range(0, Q, BLOCK):
        high = min(low + BLOCK, Q)
        near = high if seen is None and Q > 1 else K  # causal: no key past the block
        q = query[:, :, low:high].reshape(B, G, H // G, high - low, D)
        logit = torch.einsum("bghqd,bgkd->bghqk", q, key[:, :, :near]) * scale
        if softcap is not None:
            logit = softcap * torch.tanh(logit / softcap)
        logit = logit.to(torch.promote_types(query.dtype, torch.float32))
        if seen is not None:
            logit = logit.masked_fill(~seen[low:high, :near], float("-inf"))
        elif Q > 1:
            hidden = torch.ones(high - low, near, dtype=torch.bool, device=query.device).triu(low + 1)
            logit = logit.masked_fill(hidden, float("-inf"))
        lse = logit.logsumexp(-1)
        weight = (logit - lse[..., None]).exp().to(value.dtype)
        outputs.append(torch.einsum("bghqk,bgkd->bghqd", weight, value[:, :, :near]).flatten(1, 2))
        sums.append(lse.flatten(1, 2))
    return torch.cat(outputs, 2), torch.cat(sums, 2)
