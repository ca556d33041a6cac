"""flow_step in C++: choose the instruction set and pass addresses to attributor._core."""

import torch
from torch import Tensor

from attributor import _core
from attributor.kernels.common.errors import UnsupportedCall
from attributor.kernels.common.native import DTYPES, as_float32, choose_isa, find_team, make_rows_contiguous

__all__ = ["flow_step"]


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
) -> Tensor:  # (O, N) float32
    """Run on torch's number of threads; the result is bitwise the same for any number. Ctrl-C ends it within a second.

    Raises:
        UnsupportedCall: query and key are not float32, bfloat16 or float16.
        ImplementationFailure: as `choose_isa`.
    """
    if query.dtype not in DTYPES:
        raise UnsupportedCall(
            f"impl='cpu' computes with float32, bfloat16 or float16 query and key, got {query.dtype}; "
            "use impl='reference'"
        )
    (O, N), (H, _, D), G = rows.shape, query.shape, key.shape[0]
    # The names keep the tensors alive during the call that reads their addresses.
    rows, row_bias = as_float32(rows), as_float32(row_bias)
    key_bias = None if key_bias is None else as_float32(key_bias)
    query, key = make_rows_contiguous(query), make_rows_contiguous(key)
    kv_index = kv_index.to(device="cpu", dtype=torch.int64).contiguous()
    result = torch.empty(O, N, dtype=torch.float32)
    _core.flow_step(
        sizes=(O, N, H, G, D),
        dtype=DTYPES[query.dtype],
        rows=rows.data_ptr(),
        query=(query.data_ptr(), query.stride(0), query.stride(1)),
        key=(key.data_ptr(), key.stride(0), key.stride(1)),
        row_bias=row_bias.data_ptr(),
        key_bias=0 if key_bias is None else key_bias.data_ptr(),
        kv_index=kv_index.data_ptr(),
        result=result.data_ptr(),
        scale=scale,
        power=power,
        window=N if window is None else min(window, N),
        softcap=softcap or 0.0,
        threads=(torch.get_num_threads(), find_team()),
        isa=choose_isa(),
    )
    return result
