"""The recurrence over a recording, from the last layer to the first, for the rows that are asked for."""

from collections.abc import Callable

import torch
from torch import Tensor

from attributor._backend import choose
from attributor._errors import NumericsError
from attributor._head_weights import HeadWeights, Transform
from attributor._mask import band
from attributor._step import flow_step
from attributor._tape import Layer, Tape

__all__ = ["attention_rows", "received", "step", "sweep"]


def sweep(
    tapes: dict[int, Tape],
    weights: HeadWeights,
    rows: Tensor,
    *,
    row: int,
    start: int,
    stop: int,
    normalize: bool = True,
    impl: str | None = None,
    release: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Tensor, str]:
    """R_0 = R_L X_L for some rows R_L, such as those of the identity where the answer is predicted.

        R_(l-1) = (R_l + R_l sum_h w[l, h] P[l, h]^power c_h) / (1 + sum_h w[l, h])

    Args:
        tapes: the recorded layers; heads that were recorded and have weight 0 are left out.
        weights: of the model's L layers.
        rows: (O, stop - start) float, R_L over the real positions of the sequence.
        row: which sequence of the recorded batch.
        start: its first real position in the cache.
        stop: one past its last position that is needed.
        normalize: False multiplies by prod(1 + sum_h w[l, h]), 2^L for the mean of all heads.
        impl: an implementation of flow_step.
        release: forget every tape once it is used.
        progress: told ("sweep", layers done, layers to do).

    Returns:
        (O, stop - start) float32 (float64 for a float64 recording) on the CPU, and the implementation that was used.

    Raises:
        NumericsError: NaN or infinity, with the layer where it appeared.
    """
    heads, transform = weights.heads, weights.transform
    used = ""
    growth = 1.0
    order = [index for index in sorted(tapes, reverse=True) if bool(heads[index].any())]
    for done, index in enumerate(order):
        chosen = weights.chosen(index)
        layer = (tapes.pop(index) if release else tapes[index]).layer(row, start, stop, chosen)
        if done + 1 < len(order):
            tapes[order[done + 1]].fetch()
        if not bool(torch.isfinite(layer.lse).all()):
            raise NumericsError(f"layer {index}: the attention's log-sum-exp is not finite; do the weights hold NaN?")
        rows = rows.to(layer.query.device, torch.promote_types(layer.lse.dtype, torch.float32))
        w = heads[index][heads[index] > 0].to(layer.lse)
        rows = (rows + step(rows, layer, w, transform, impl)) / (1 + w.sum())
        growth *= 1 + float(w.sum())
        if not bool(torch.isfinite(rows).all()):
            raise NumericsError(
                f"layer {index}: the flow is not finite; the model's attention holds NaN, or weights with value norms "
                "grew past float32 (give the heads smaller weights)"
            )
        used = choose(impl, layer.query.device, layer.query.dtype, layer.query.shape[-1])
        if progress is not None:
            progress("sweep", done + 1, len(order))
    return (rows if normalize else rows * growth).cpu(), used


def attention_rows(layer: Layer, w: Tensor, positions: Tensor, transform: Transform, impl: str | None) -> Tensor:
    """sum_h w_h P_h^power c_h of one layer for the queries at `positions`: (O, N) float32 on the CPU.

    One step of the same kernel from rows of the identity, which skips every query that no row asks for.
    """
    rows = torch.zeros(positions.numel(), layer.query.shape[1], dtype=torch.float32, device=layer.query.device)
    rows[torch.arange(positions.numel()), positions] = 1
    return step(rows, layer, w.to(layer.lse), transform, impl).float().cpu()


def step(rows: Tensor, layer: Layer, w: Tensor, transform: Transform, impl: str | None = None) -> Tensor:
    """Rows @ sum_h w_h P_h^power c_h of one layer, (O, N), chunk by chunk where its attention is chunked.

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
    shape = band(layer.first)
    parts = []
    for low, high in shape.chunks:
        span = slice(low, high)
        if not bool(rows[:, span].any()):
            parts.append(torch.zeros_like(rows[:, span]))
            continue
        parts.append(
            flow_step(
                rows[:, span],
                layer.query[:, span],
                layer.key[:, span],
                row_bias[:, span],
                None if key_bias is None else key_bias[:, span],
                scale=layer.scale,
                kv_index=layer.kv_index,
                power=transform.power,
                window=shape.window,
                softcap=layer.softcap,
                impl=impl,
            )
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def received(layer: Layer, values: Tensor, impl: str | None = None) -> Tensor:
    """What every query of every head takes from `values`: (H, N), sum_j P[h, i, j] values[j].

    The other side of `step`, and the gradient of a flow with respect to the head weights: read backwards, keys are
    queries and queries are keys (j <= i becomes N-1-i <= N-1-j), so it is the same operation, a head at a time.

    Args:
        layer: of H heads and N positions.
        values: (N,) float, of any sign.
        impl: an implementation of flow_step.
    """
    shape = band(layer.first)
    found = torch.zeros_like(layer.lse, dtype=torch.promote_types(layer.lse.dtype, torch.float32))
    for low, high in shape.chunks:
        given = values[low:high].flip(0)[None]
        nothing = torch.zeros_like(given)
        for head, kv in enumerate(layer.kv_index.tolist()):
            found[head, low:high] = flow_step(
                given,
                layer.key[kv, low:high].flip(0)[None],
                layer.query[head, low:high].flip(0)[None],
                nothing,
                -layer.lse[head, low:high].flip(0)[None],
                scale=layer.scale,
                window=shape.window,
                softcap=layer.softcap,
                impl=impl,
            )[0].flip(0)
    return found
