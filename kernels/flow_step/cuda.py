"""flow_step in CUDA C++: pass addresses and the current stream to attributor._cuda, without a synchronisation."""

import torch
from torch import Tensor

from attributor import _cuda
from attributor.kernels.common.errors import ImplementationFailure, UnsupportedCall

__all__ = ["DTYPES", "MAX_HEAD_SIZE", "flow_step"]

DTYPES = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
MAX_HEAD_SIZE = 256
LINE = 8  # elements of 16 bits: hardware copies need addresses and strides that are multiples of 16 bytes


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
    tuning: _cuda.Tuning | None = None,
) -> Tensor:  # (O, N) float32
    """Run on the tensors' GPU, on its current stream; bitwise reproducible. `tuning`: for measurements.

    Raises:
        UnsupportedCall: no kernel is compiled for these sizes, this dtype or tuning.
        ImplementationFailure: the driver or the runtime reports an error.
    """
    if query.dtype not in DTYPES:
        raise UnsupportedCall(
            f"impl='cuda' takes bfloat16 or float16 query and key, got {query.dtype}; use impl='triton'"
        )
    (O, N), (H, _, D), G = rows.shape, query.shape, key.shape[0]
    device = rows.device
    # The names keep these tensors alive: memory that is freed before the launch may be reused by then. After the
    # launch, only later work of the same stream reuses it.
    rows, row_bias = _float32(rows), _float32(row_bias)
    key_bias = None if key_bias is None else _float32(key_bias)
    query, key = make_readable(query), make_readable(key)
    order = torch.argsort(kv_index, stable=True)  # query heads that share a key head become neighbours
    heads = torch.stack((order, kv_index[order])).to(torch.int32)
    tuning = tuning or _cuda.Tuning()
    sizes, seen, number = (O, N, H, G, D), N if window is None else min(window, N), rows.get_device()
    try:
        with torch.cuda.device(number):  # the calls leave this device the current one
            needed = _cuda.scratch_bytes(
                sizes=sizes, key_bias=key_bias is not None, window=seen, device=number, tuning=tuning
            )
            scratch = torch.empty(needed, dtype=torch.uint8, device=device)
            result = torch.empty(O, N, dtype=torch.float32, device=device)
            _cuda.flow_step(
                sizes=sizes,
                dtype=DTYPES[query.dtype],
                rows=rows.data_ptr(),
                query=(query.data_ptr(), query.stride(0), query.stride(1)),
                key=(key.data_ptr(), key.stride(0), key.stride(1)),
                row_bias=row_bias.data_ptr(),
                key_bias=0 if key_bias is None else key_bias.data_ptr(),
                heads=heads.data_ptr(),
                result=result.data_ptr(),
                scale=scale,
                power=power,
                window=seen,
                softcap=softcap or 0.0,
                scratch=(scratch.data_ptr(), needed),
                device=number,
                stream=torch.cuda.current_stream(device).cuda_stream,
                tuning=tuning,
            )
    except ValueError as error:
        raise UnsupportedCall(f"impl='cuda': {error}") from None
    except _cuda.Error as error:
        raise ImplementationFailure(f"implementation 'cuda' failed: {error}; use impl='triton'") from error
    return result


def make_readable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that the hardware can fetch; most tensors need no copy."""
    tensor = tensor.detach()
    (heads, count, D), (head, row, last) = tensor.shape, tensor.stride()
    good = tensor.data_ptr() % (2 * LINE) == 0 and (last == 1 or D == 1)
    for size, stride in ((heads, head), (count, row)):  # the stride of a dimension of size 1 does not matter
        good = good and (size == 1 or (stride > 0 and stride % LINE == 0))
    if good:
        return tensor
    copy = torch.empty(heads, count, -(-D // LINE) * LINE, dtype=tensor.dtype, device=tensor.device)[..., :D]
    return copy.copy_(tensor)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).contiguous()
