"""Computes the map of layers x heads: five numbers for each head about the attention of a few queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._flow import Recording
from attributor.web.live.attention import Check, Queries, RecordingReader, no_check

__all__ = ["HeadMaps", "compute_head_maps"]

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadMaps:
    """Means over the queries, (L, H) float32 each; NaN for heads that were not recorded.

    Attributes:
        mass: share of the attention on the selected tokens.
        entropy: -sum_j P ln P, in nats, without the attention on a learned sink.
        sink: share on token 0.
        distance: the mean distance in tokens to the keys, weighted by attention.
        weight: of each head in the run's flow, for all heads.
    """

    mass: Map
    entropy: Map
    sink: Map
    distance: Map
    weight: Map


@torch.no_grad()
def compute_head_maps(
    recording: Recording,
    positions: Sequence[int],
    selected: npt.NDArray[np.bool_],
    weights: Tensor,
    *,
    row: int = 0,
    check: Check = no_check,
) -> HeadMaps:
    """Exact maps of all recorded heads, in blocks of keys; no full row of a query is kept.

    Args:
        recording: with N positions.
        positions: R ascending positions, the queries.
        selected: (N,) bool or shorter, the tokens whose share is `mass`.
        weights: (L, H) of the run.
        row: the index of the sequence in the recorded batch.
        check: called between layers and blocks; an exception that it raises ends the work.

    Raises:
        InputError: positions, selection or weights that do not fit this recording.
        RecordingError: nothing was recorded.
    """
    reader = RecordingReader(recording, row)
    if selected.ndim != 1 or selected.shape[0] > reader.length:
        raise InputError(f"selected must be (N,) or shorter, N = {reader.length}, got {selected.shape}")
    if tuple(weights.shape) != reader.shape:
        raise InputError(f"weights must be {reader.shape}, layers and heads of the model, got {tuple(weights.shape)}")
    chosen = torch.zeros(reader.length, dtype=torch.bool)
    chosen[: selected.shape[0]] = torch.from_numpy(np.ascontiguousarray(selected))
    maps = np.full((4, *reader.shape), np.nan, dtype=np.float32)
    for layer in reader.layers:
        queries = reader.queries(layer, positions)
        of_layer = _compute_layer_maps(queries, chosen.to(queries.query.device), check)
        maps[:, layer, list(queries.heads)] = of_layer.cpu().numpy()
    mass, entropy, sink, distance = maps
    return HeadMaps(mass, entropy, sink, distance, weights.to("cpu", torch.float32).numpy().copy())


def _compute_layer_maps(queries: Queries, chosen: Tensor, check: Check) -> Tensor:
    """(4, H) float64: mass, entropy, sink and distance of one layer's heads."""
    H, R = queries.lse.shape
    device, dtype = queries.query.device, queries.query.dtype
    low, high = queries.seen
    # columns: sums of the attention, of the selected tokens' part, and of the attention times the key's position
    sums = torch.zeros(H, R, 3, dtype=torch.float64, device=device)
    entropy = torch.zeros(H, R, dtype=torch.float64, device=device)
    sink = torch.zeros(H, R, dtype=torch.float64, device=device)
    for group in queries.groups():
        total = sums.new_zeros(len(group), R, 3)
        within = sums.new_zeros(len(group), R)
        for start, stop in queries.blocks(len(group), low, high):
            check()
            logs = queries.log_attention(group, start, stop)
            share = logs.exp()
            step = torch.arange(stop - start, dtype=dtype, device=device)
            columns = torch.stack([torch.ones_like(step), chosen[start:stop].to(dtype), step], 1)
            part = (share.view(-1, stop - start) @ columns).view(len(group), R, 3).double()
            part[..., 2] += start * part[..., 0]  # summed in float64: positions are large, shares small
            total += part
            if start == 0:
                sink[group] = share[..., 0].double()
            within -= share.mul_(logs).sum(-1).double()
        sums[group], entropy[group] = total, within
    looked = sums[..., 0]
    distance = torch.where(looked > 0, queries.positions - sums[..., 2] / looked.clamp(min=1e-300), 0.0)
    return torch.stack([value.mean(1) for value in (sums[..., 1], entropy, sink, distance)])
