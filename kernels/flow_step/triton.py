"""flow_step in Triton: lay out the work and launch two kernels.

    Y[o, j] = sum_i R[o, i] W[i, j],    W[i, j] = sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j])

A program owns a tile of keys, hence its columns of Y: no atomics, the same bits every time. It walks the tiles of
queries that see them, from the last to the first, so that programs that run together read the same Q; inside, over the
heads, whose weights are added up before the one product with R. See README.md.
"""

import functools
import math
import struct

import torch
import triton
from torch import Tensor

from attributor.kernels.common.errors import UnsupportedCall
from attributor.kernels.flow_step.tiles import MAX_HEAD_SIZE, Tile, choose_tile
from attributor.kernels.flow_step.triton_device import Bias, Lists, Rows, Scales, Strides, split_rows, step_kernel

__all__ = ["flow_step", "is_interpreted"]

PROGRAMS = 512  # at least so many where N allows: four a multiprocessor of the largest GPUs
PART_BYTES = 1 << 28  # of partial results


def is_interpreted() -> bool:
    """True when Triton's interpreter runs the kernels, on CPU tensors: TRITON_INTERPRET=1 before the first import."""
    return not isinstance(step_kernel, triton.JITFunction)


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
    """On the GPU that holds the tensors; query and key float16, bfloat16 or float32, D <= 256. `tile`: for tuning.

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
        tile = choose_tile(O, D, 8 * query.element_size(), plain=plain, capability=_capability(device))
    BQ, BK = tile.queries, tile.keys
    T, keys = triton.cdiv(N, BQ), triton.cdiv(N, BK)
    kv = kv_index.tolist()
    order = sorted(range(H), key=lambda h: kv.index(kv[h]))  # query heads that share a key head follow one another
    heads = torch.tensor(order, dtype=torch.int32, device=device)
    kv_of_head = torch.tensor([kv[h] for h in order], dtype=torch.int32, device=device)

    gain, inner, base = _base_two(scale, power, softcap)
    row_bias = _pad_bias(row_bias, base, T * BQ)
    empty = torch.empty(1, dtype=torch.float32, device=device)
    key_bias = empty if key_bias is None else _pad_bias(key_bias, base, keys * BK)
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
        with _on_device(device):
            split_rows[(T,)](rows, high, low, factor, active, O, N, BQ=BQ, BO=tile.rows)
    before = torch.zeros(T + 1, dtype=torch.int32, device=device)  # active tiles before each
    torch.cumsum(active, 0, dtype=torch.int32, out=before[1:])
    tiles = torch.argsort((active == 0).to(torch.uint8), stable=True).to(torch.int32)  # the active ones first, in order

    parts = max(1, min(triton.cdiv(PROGRAMS, keys), 16, T, PART_BYTES // (4 * O * N)))
    result = (torch.empty if single or tile.held else torch.zeros)(parts, O, N, dtype=torch.float32, device=device)
    query, key = _make_readable(query, BQ, tile.described), _make_readable(key, BK, tile.described)
    with _on_device(device):
        step_kernel[(keys * parts, blocks if tile.held else 1)](
            _kernel_argument(query, BQ, tile),
            _kernel_argument(key, BK, tile),
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


def _base_two(scale: float, power: float, softcap: float | None) -> tuple[float, float, float]:
    """For 2^(gain f(inner s) + base bias) = exp(power logit + bias), f the hyperbolic tangent or nothing.

    The kernel's gain is float32. The bias takes exactly the log2(e) that this rounding amounts to, so that logit and
    log-sum-exp cancel as they should.
    """
    factor = power * (scale if softcap is None else softcap)
    gain = _float32(factor * math.log2(math.e))
    base = gain / factor if factor and math.isfinite(gain / factor) and gain else math.log2(math.e)
    return gain, 0.0 if softcap is None else scale / softcap, base


def _float32(x: float) -> float:
    return float(struct.unpack("f", struct.pack("f", x))[0])


def _pad_bias(bias: Tensor, base: float, length: int) -> Tensor:
    """(H, N) -> (H, length) float32 in base 2, -inf beyond."""
    padded = torch.full((bias.shape[0], length), float("-inf"), dtype=torch.float32, device=bias.device)
    padded[:, : bias.shape[1]] = bias.detach().double() * base
    return padded


def _make_readable(tensor: Tensor, block: int, described: bool) -> Tensor:
    """The tensor, or a copy of it that the kernel can read: most need none."""
    tensor = tensor.detach()
    size, (heads, row, last) = tensor.element_size(), tensor.stride()
    good = last == 1 and row > 0 and block * row < 2**31
    if described:
        good = good and heads > 0 and not (tensor.data_ptr() % 16 or heads * size % 16 or row * size % 16)
    if good:
        return tensor
    H, N, D = tensor.shape
    copy = torch.empty(H, N, -(-D // 8) * 8, dtype=tensor.dtype, device=tensor.device)[..., :D]
    return copy.copy_(tensor)


def _kernel_argument(tensor: Tensor, block: int, tile: Tile) -> object:
    if not tile.described:
        return tensor
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), [1, block, tile.columns])


def _on_device(device: torch.device) -> torch.cuda.device:
    return torch.cuda.device(device if device.type == "cuda" else -1)  # -1: nothing to switch


@functools.cache
def _capability(device: torch.device) -> int:
    """80, 90, 100 ... of an NVIDIA GPU, 0 of anything else."""
    if device.type != "cuda" or torch.version.hip is not None:
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
