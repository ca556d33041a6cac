"""removal_step in C++: choose the instruction set and pass addresses to attributor._core."""

import torch
from torch import Tensor

from attributor import _core
from attributor.kernels.common.errors import UnsupportedCall
from attributor.kernels.common.native import DTYPES, as_float32, choose_isa, find_team, make_rows_contiguous

__all__ = ["removal_step"]


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
) -> Tensor:  # (N,) float64
    """Run on torch's number of threads; the result is bitwise the same for any number. Ctrl-C ends it within a second.

    Raises:
        UnsupportedCall: query, key, value and d_output are not all float32, all bfloat16 or all float16.
        ImplementationFailure: as `choose_isa`.
    """
    dtypes = {tensor.dtype for tensor in (query, key, value, d_output)}
    if len(dtypes) > 1 or query.dtype not in DTYPES:
        raise UnsupportedCall(
            "impl='cpu' computes with query, key, value and d_output all float32, all bfloat16 or all float16, got "
            f"{', '.join(sorted(map(str, dtypes)))}; use impl='reference'"
        )
    (H, Q, D), (G, N, Dv) = query.shape, value.shape
    # The names keep the tensors alive during the call that reads their addresses.
    query, key, value, d_output = (make_rows_contiguous(x) for x in (query, key, value, d_output))
    lse, delta = as_float32(lse), as_float32(delta)
    stops = stops.to(torch.int64).contiguous()
    result = torch.empty(N, dtype=torch.float64)
    _core.removal_step(
        sizes=(Q, N, H, G, D, Dv),
        dtype=DTYPES[query.dtype],
        query=(query.data_ptr(), query.stride(0), query.stride(1)),
        key=(key.data_ptr(), key.stride(0), key.stride(1)),
        value=(value.data_ptr(), value.stride(0), value.stride(1)),
        d_output=(d_output.data_ptr(), d_output.stride(0), d_output.stride(1)),
        lse=lse.data_ptr(),
        delta=delta.data_ptr(),
        stops=stops.data_ptr(),
        result=result.data_ptr(),
        scale=scale,
        window=N if window is None else min(window, N),
        softcap=softcap or 0.0,
        threads=(torch.get_num_threads(), find_team()),
        isa=choose_isa(),
    )
    return result
