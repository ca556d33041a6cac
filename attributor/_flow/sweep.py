"""Run the recurrence over a recording, from the last layer to the first, for the answer's rows."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attributor._errors import NumericsError
from attributor._record import HeadWeights, RowSumCheck, Span, Tape, layer_step
from attributor._step import choose_impl

__all__ = ["SweepOptions", "sweep"]


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is run.

    Attributes:
        normalize: False multiplies the rows by prod(1 + sum_h w[l, h]), 2^L for the mean of all heads.
        impl: an implementation of flow_step; None: the best one that is usable.
        release: free each layer's recording after its use.
        row_sums: check these rows of every layer; None: no check, for a model that read all in one pass without a
            cache.
        progress: called with ("sweep", layers done, layers to do).
    """

    normalize: bool = True
    impl: str | None = None
    release: bool = False
    row_sums: RowSumCheck | None = None
    progress: Callable[[str, int, int], None] | None = None


def sweep(
    tapes: dict[int, Tape], weights: HeadWeights, rows: Tensor, span: Span, options: SweepOptions | None = None
) -> tuple[Tensor, str]:
    """R_0 = R_L X_L for some rows R_L, such as the rows of the identity at which the answer is predicted.

        R_(l-1) = (R_l + R_l sum_h w[l, h] P[l, h]^power c_h) / (1 + sum_h w[l, h])

    Args:
        tapes: the recorded layers, in the order in which they ran; heads that were recorded and have weight 0 are
            left out.
        weights: of the model's L layers.
        rows: (O, N) float, R_L over the N positions of `span`.
        span: the real positions of one sequence, up to the last one that is needed.
        options: None: the defaults.

    Returns:
        (O, N) float32 (float64 for a float64 recording) on the CPU, and the implementation that was used.

    Raises:
        NumericsError: NaN or infinity, with the layer where it appeared.
    """
    options = options or SweepOptions()
    implementation = ""
    growth = 1.0
    order = [index for index in reversed(tapes) if weights.chosen_heads(index)]
    for done, index in enumerate(order):
        heads = weights.chosen_heads(index)
        layer = (tapes.pop(index) if options.release else tapes[index]).layer(span, heads)
        if done + 1 < len(order):
            tapes[order[done + 1]].fetch()
        if not bool(torch.isfinite(layer.lse).all()):
            raise NumericsError(f"layer {index}: the attention's log-sum-exp is not finite; do the weights hold NaN?")
        if options.row_sums is not None:
            options.row_sums.check(index, layer, heads)
        rows = rows.to(layer.query.device, torch.promote_types(layer.lse.dtype, torch.float32))
        w = weights.heads[index][heads].to(layer.lse)
        rows = (rows + layer_step(rows, layer, w, weights.transform, options.impl)) / (1 + w.sum())
        growth *= 1 + float(w.sum())
        if not bool(torch.isfinite(rows).all()):
            raise NumericsError(
                f"layer {index}: the flow is not finite; the model's attention holds NaN, or weights with value norms "
                "grew past float32 (give the heads smaller weights)"
            )
        implementation = choose_impl(options.impl, layer.query.device, layer.query.dtype, layer.query.shape[-1])
        if options.progress is not None:
            options.progress("sweep", done + 1, len(order))
    return (rows if options.normalize else rows * growth).cpu(), implementation
