"""removal_step in Triton: lay out the work and launch one kernel.

    c[j] = sum_(h, i >= stops[j]) P_h[i, j] (dO_h[i] . v_g(h)[j] - delta_h[i])

A program owns a tile of keys of one key head, so there are no atomics and results are bitwise reproducible. It keeps K
and V of the tile, and loops over the query heads and over the tiles of rows that count, from the last to the first. The
float32 results of a tile's programs are added up in float64. See README.md.
"""

import torch
import triton
from torch import Tensor

from attributor.kernels.common.errors import UnsupportedCall
from attributor.kernels.common.triton_device import Scales
from attributor.kernels.common.triton_launch import (
    find_capability,
    is_interpreted,
    list_active_tiles,
    make_readable,
    make_source,
    on_device,
    pad_bias,
    scale_to_base_two,
)
from attributor.kernels.removal_step.tiles import MAX_HEAD_SIZE, Tile, choose_tile
from attributor.kernels.removal_step.triton_device import Lists, Rows, Strides, removal_kernel

__all__ = ["removal_step"]

PROGRAMS = 512  # at least so many if the sizes allow: four per multiprocessor of the largest GPUs
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


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
    tile: Tile | None = None,
) -> Tensor:  # (N,) float64
    """Run on the tensors' GPU. Tiles of rows where dO is all zero are skipped. `tile`: for tuning.

    Raises:
        UnsupportedCall: other dtypes, more than one, or heads of more than 256 elements.
    """
    (H, Q, D), (G, N, Dv) = query.shape, value.shape
    dtypes = {tensor.dtype for tensor in (query, key, value, d_output)}
    if max(D, Dv) > MAX_HEAD_SIZE or len(dtypes) > 1 or query.dtype not in DTYPES:
        names = ", ".join(sorted(map(str, dtypes)))
        raise UnsupportedCall(
            "impl='triton' takes query, key, value and d_output of one dtype, float16, bfloat16 or float32, and heads "
            f"of up to {MAX_HEAD_SIZE} elements, got {names}, D = {D} and Dv = {Dv}"
        )
    device = query.device
    if tile is None:
        capability = find_capability(device)
        tile = choose_tile(D, Dv, 8 * query.element_size(), window=window is not None, capability=capability)
    BQ, BK, BD, BV = tile.queries, tile.keys, tile.columns, tile.value_columns
    T, keys, heads = triton.cdiv(Q, BQ), triton.cdiv(N, BK), H // G

    gain, inner, base = scale_to_base_two(scale, 1.0, softcap)
    padded_delta = torch.zeros(H, T * BQ, dtype=torch.float32, device=device)
    padded_delta[:, :Q] = delta.detach()
    active = torch.zeros(T * BQ, dtype=torch.bool, device=device)
    active[:Q] = d_output.detach().any(2).any(0)
    tiles, before = list_active_tiles(active.view(T, BQ).any(1))

    parts = max(1, min(triton.cdiv(PROGRAMS, keys * G), 16, heads * T))
    result = torch.empty(G * parts, N, dtype=torch.float32, device=device)
    query, d_output = (make_readable(tensor, BQ, tile.described) for tensor in (query, d_output))
    key, value = (make_readable(tensor, BK, tile.described) for tensor in (key, value))
    with on_device(device):
        removal_kernel[(keys, G * parts)](
            make_source(query, BQ, BD, tile.described),
            make_source(key, BK, BD, tile.described),
            make_source(d_output, BQ, BV, tile.described),
            make_source(value, BK, BV, tile.described),
            Rows(pad_bias(lse, -base, T * BQ), padded_delta),
            Lists(tiles, before),
            stops.clamp(max=N).to(torch.int32),
            result,
            Q, N, T, heads, parts, min(window or 0, N),
            Scales(gain, inner),
            Strides(*(stride for tensor in (query, key, d_output, value) for stride in tensor.stride()[:2])),
            D=D, DV=Dv, BD=BD, BV=BV, BQ=BQ, BK=BK, HELD=tile.held,
            WINDOW=window is not None and window < N, SOFTCAP=softcap is not None, DESCRIBED=tile.described,
            UPCAST=is_interpreted() and query.dtype == torch.bfloat16,
            PRECISION="tf32x3" if torch.version.hip is None else "ieee",
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return result.sum(0, dtype=torch.float64)
