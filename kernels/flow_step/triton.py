"""flow_step in Triton: lay out the work and launch two kernels.

    Y[o, j] = sum_i R[o, i] W[i, j],    W[i, j] = sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j])

A program owns a tile of keys and its columns of Y, so there are no atomics and results are bitwise reproducible. It
loops over the tiles of queries that see these keys, from the last to the first, so that concurrent programs read the
same Q. The inner loop over the heads adds up their weights before one product with R. See README.md.
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
from attributor.kernels.flow_step.tiles import MAX_HEAD_SIZE, Tile, choose_tile
from attributor.kernels.flow_step.triton_device import Bias, Lists, Rows, Strides, split_rows, step_kernel

__all__ = ["flow_step", "is_interpreted"]

PROGRAMS = 512  # at least so many if N allows: four per multiprocessor of the largest GPUs
PART_BYTES = 1 << 28  # of partial results


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
    tile: Tile | None = None,
) -> Tensor:  # (O, N) float32
    """Run on the tensors' GPU; query and key are float16, bfloat16 or float32, D <= 256. `tile`: for tuning.

    Raises:
        UnsupportedCall: another dtype or a larger D.
    """
    (O, N), (H, _, D) = rows.shape, query.shape
    if D > MAX_HEAD_SIZE or query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise UnsupportedCall(
            f"impl='triton' takes 16 or 32 bit floats and D <= {MAX_HEAD_SIZE}, got {query.dtype}, D = {D}"
        )
    device = rows.device
    if tile is None:
        plain = key_bias is None and softcap is None
        tile = choose_tile(O, D, 8 * query.element_size(), plain=plain, capability=find_capability(device))
    BQ, BK = tile.queries, tile.keys
    T, keys = triton.cdiv(N, BQ), triton.cdiv(N, BK)
    kv = kv_index.tolist()
    order = sorted(range(H), key=lambda h: kv.index(kv[h]))  # query heads that share a key head become neighbours
    heads = torch.tensor(order, dtype=torch.int32, device=device)
    kv_of_head = torch.tensor([kv[h] for h in order], dtype=torch.int32, device=device)

    gain, inner, base = scale_to_base_two(scale, power, softcap)
    row_bias = pad_bias(row_bias, base, T * BQ)
    empty = torch.empty(1, dtype=torch.float32, device=device)
    key_bias = empty if key_bias is None else pad_bias(key_bias, base, keys * BK)
    rows = rows.detach().to(torch.float32)
    single = tile.rows == 1
    high = low = torch.empty(1, dtype=torch.float16, device=device)
    factor = empty
    if single:
        padded = torch.zeros(T * BQ, dtype=torch.float32, device=device)
        padded[:N] = rows[0]
        rows, active = padded, (padded.view(T, BQ) != 0).any(1)
        blocks = 1
    else:
        rows = rows.contiguous()
        blocks = triton.cdiv(O, tile.rows)
        high = torch.empty(blocks * tile.rows, T * BQ, dtype=torch.float16, device=device)
        low = torch.empty_like(high)
        factor = torch.empty(T, blocks * tile.rows, dtype=torch.float32, device=device)
        active = torch.empty(T, dtype=torch.int32, device=device)
        with on_device(device):
            split_rows[(T,)](rows, high, low, factor, active, O, N, BQ=BQ, BO=tile.rows)
    tiles, before = list_active_tiles(active)

    parts = max(1, min(triton.cdiv(PROGRAMS, keys), 16, T, PART_BYTES // (4 * O * N)))
    result = (torch.empty if single or tile.held else torch.zeros)(parts, O, N, dtype=torch.float32, device=device)
    query, key = make_readable(query, BQ, tile.described), make_readable(key, BK, tile.described)
    with on_device(device):
        step_kernel[(keys * parts, blocks if tile.held else 1)](
            make_source(query, BQ, tile.columns, tile.described),
            make_source(key, BK, tile.columns, tile.described),
            Rows(rows, high, low, factor),
            Bias(row_bias, key_bias),
            Lists(heads, kv_of_head, tiles, before),
            result,
            O, N, H, T, keys * BK, parts, min(window or 0, N),
            Scales(gain, inner),
            Strides(query.stride(0), query.stride(1), key.stride(0), key.stride(1)),
            D=D, BD=tile.columns, BQ=BQ, BK=BK, BO=tile.rows, SINGLE=single, HELD=tile.held, AHEAD=tile.ahead,
            KEY_BIAS=key_bias is not empty, WINDOW=window is not None and window < N,
            SOFTCAP=softcap is not None, DESCRIBED=tile.described,
            UPCAST=is_interpreted() and query.dtype == torch.bfloat16,
            PRECISION="tf32x3" if torch.version.hip is None else "ieee",
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return result[0] if parts == 1 else result.sum(0)
