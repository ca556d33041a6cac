"""The gradient of `attention` with respect to query, key and value, from its output and its log-sum-exp."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from attributor._record.attention import BLOCK, block_end
from attributor._record.mask import Mask

__all__ = ["attention_gradient"]

KEYS = 512  # keys per tile: bounds the memory of a tile to a few heads x BLOCK x KEYS matrices
Forward = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # query, key, value, output, lse
Gradients = tuple[Tensor, Tensor, Tensor]


def attention_gradient(
    query: Tensor,  # (1, H, Q, D)
    key: Tensor,  # (1, G, K, D)
    value: Tensor,  # (1, G, K, Dv)
    output: Tensor,  # (1, H, Q, Dv), what `attention` returned, after a sink
    lse: Tensor,  # (1, H, Q), likewise
    d_output: Tensor,  # (1, H, Q, Dv)
    mask: Mask,
    *,
    scale: float,
    softcap: float | None = None,
) -> Gradients:
    """The gradients of query, key and value, each in its shape and dtype, for one sequence without padding.

    Keys and values before the call's first query come from a cache and are constants, so their gradients are 0.

    With P = exp(logit - lse), where lse includes a sink, the backward formula of the softmax needs no other change for
    a sink. On a CPU torch's flash kernel runs, which forms no matrix; other devices and capped logits go block by
    block.
    """
    start, base = mask.start, mask.keys_from
    Q, stop = query.shape[2], start + query.shape[2]
    first = mask.first[0]
    keys = key.shape[2]
    if keys > stop - base:  # a static cache
        key, value = key[:, :, : stop - base], value[:, :, : stop - base]
    d_query = torch.empty_like(query)
    d_key, d_value = torch.zeros_like(key), torch.zeros_like(value)
    first_keys = first.tolist()
    begin = 0
    while begin < Q:
        end, span = block_end(first_keys, begin, start), first_keys[begin]
        seen = None  # causal on the diagonal block
        if span != start + begin or any(first_key != span for first_key in first_keys[begin:end]):
            i = torch.arange(start + begin, start + end, device=query.device)[:, None]
            j = torch.arange(span, start + end, device=query.device)[None, :]
            seen = (j <= i) & (j >= first[begin:end, None])
        rows, columns = slice(begin, end), slice(span - base, start + end - base)
        forward = (query[:, :, rows], key[:, :, columns], value[:, :, columns], output[:, :, rows], lse[:, :, rows])
        fresh = max(0, start - span)  # the first of these keys that is not a constant
        if query.device.type == "cpu" and softcap is None and not fresh:
            block = _flash_gradient(forward, d_output[:, :, rows], seen, scale)
        else:
            block = _blockwise_gradient(forward, d_output[:, :, rows], seen, scale, softcap, fresh)
        columns = slice(columns.start + fresh, columns.stop)
        d_query[:, :, rows] = block[0]
        d_key[:, :, columns] += block[1]
        d_value[:, :, columns] += block[2]
        begin = end
    room = (0, 0, 0, keys - key.shape[2])
    return d_query, pad(d_key, room), pad(d_value, room)


def _flash_gradient(
    forward: Forward,
    d_output: Tensor,
    seen: Tensor | None,
    scale: float,
) -> Gradients:
    query, key, value, output, lse = forward
    D, Dv = query.shape[-1], value.shape[-1]
    if Dv != D:  # the kernel needs one head size; zeros change nothing
        query, key = (pad(x, (0, max(D, Dv) - D)) for x in (query, key))
        value, output, d_output = (pad(x, (0, max(D, Dv) - Dv)) for x in (value, output, d_output))
    bias = None if seen is None else torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, float("-inf"))
    d_query, d_key, d_value = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        d_output.contiguous(), query, key, value, output, lse, 0.0, seen is None, attn_mask=bias, scale=scale
    )
    return d_query[..., :D], d_key[..., :D], d_value[..., :Dv]


def _blockwise_gradient(
    forward: Forward,
    d_output: Tensor,
    seen: Tensor | None,
    scale: float,
    softcap: float | None,
    fresh: int,
) -> Gradients:
    """Compute the formula in tiles of queries and keys: dS = P (dO V^T - dO . o), dQ = scale dS K, dK = scale dS^T Q.

    The gradients of key and value are computed and returned only from the key `fresh` on. After a long cache this is
    faster than the flash kernel: three products over all keys instead of five.
    """
    query, key, value, output, lse = forward
    H, Q = query.shape[1:3]
    G, K = key.shape[1:3]
    wide = torch.promote_types(query.dtype, torch.float32)
    key, value = key.to(wide), value.to(wide)
    d_query = query.new_zeros(query.shape, dtype=wide)
    d_key, d_value = key.new_zeros(key[:, :, fresh:].shape), value.new_zeros(value[:, :, fresh:].shape)
    for low in range(0, Q, BLOCK):
        high = min(low + BLOCK, Q)
        grouped = (1, G, H // G, high - low)
        q, o, d_o = (x[:, :, low:high].to(wide).reshape(*grouped, x.shape[-1]) for x in (query, output, d_output))
        top = lse[:, :, low:high].to(wide).reshape(*grouped, 1)
        centre = (d_o * o).sum(-1, keepdim=True)
        d_q = d_query.view(1, G, H // G, Q, -1)[:, :, :, low:high]
        for left in range(0, K if seen is not None else high, KEYS):  # causal: no key past the block
            right = min(left + KEYS, K)
            k, v = key[:, :, left:right], value[:, :, left:right]
            logit = torch.einsum("bghqd,bgkd->bghqk", q, k).mul_(scale)
            slope = None
            if softcap is not None:
                bent = torch.tanh(logit / softcap)
                logit, slope = softcap * bent, 1 - bent * bent
            if seen is not None:
                logit.masked_fill_(~seen[low:high, left:right], float("-inf"))
            elif right > low + 1:
                later = torch.ones(high - low, right - left, dtype=torch.bool, device=query.device)
                logit.masked_fill_(later.triu(low + 1 - left), float("-inf"))
            weight = logit.sub_(top).exp_()
            d_logit = torch.einsum("bghqd,bgkd->bghqk", d_o, v).sub_(centre).mul_(weight)
            if slope is not None:
                d_logit.mul_(slope)
            d_q += torch.einsum("bghqk,bgkd->bghqd", d_logit, k).mul_(scale)
            if right > fresh:
                skip = max(0, fresh - left)
                into = slice(left + skip - fresh, right - fresh)
                d_value[:, :, into] += torch.einsum("bghqk,bghqd->bgkd", weight[..., skip:], d_o)
                d_key[:, :, into] += torch.einsum("bghqk,bghqd->bgkd", d_logit[..., skip:], q).mul_(scale)
    return d_query.to(query.dtype), d_key.to(query.dtype), d_value.to(query.dtype)
