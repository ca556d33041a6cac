"""flow_step in C++: choose the instruction set and pass addresses to attributor._core."""

import ctypes
import functools
import os
from pathlib import Path

import torch
from torch import Tensor

from attributor import _core
from attributor.kernels.flow_step.errors import ImplementationFailure, UnsupportedCall

__all__ = ["flow_step", "isa"]

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def isa() -> str:
    """The instruction set that a call uses now: ``ATTRIBUTOR_ISA``, else the best one usable here.

    Raises:
        ImplementationFailure: ``ATTRIBUTOR_ISA`` names one that is unknown or not usable here.
    """
    name = os.environ.get("ATTRIBUTOR_ISA") or _core.isa()
    if name not in _core.isas():
        raise ImplementationFailure(f"ATTRIBUTOR_ISA={name!r} is not usable here; there are {', '.join(_core.isas())}")
    return name


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
    """On as many threads as torch uses; the same bits for any number of them. Ctrl-C ends it within a second.

    Raises:
        UnsupportedCall: query and key are not float32, bfloat16 or float16.
        ImplementationFailure: as `isa`.
    """
    if query.dtype not in _DTYPES:
        raise UnsupportedCall(
            f"impl='cpu' computes with float32, bfloat16 or float16 query and key, got {query.dtype}; "
            "use impl='reference'"
        )
    (O, N), (H, _, D), G = rows.shape, query.shape, key.shape[0]
    # Names, not temporaries: the tensors must outlive the call that reads their addresses.
    rows, row_bias = _float32(rows), _float32(row_bias)
    key_bias = None if key_bias is None else _float32(key_bias)
    query, key = _rows_contiguous(query), _rows_contiguous(key)
    kv_index = kv_index.to(device="cpu", dtype=torch.int64).contiguous()
    result = torch.empty(O, N, dtype=torch.float32)
    _core.flow_step(
        sizes=(O, N, H, G, D),
        dtype=_DTYPES[query.dtype],
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
        threads=torch.get_num_threads(),
        team=_team(),
        isa=isa(),
    )
    return result


@functools.cache
def _team() -> int:
    """The address of GOMP_parallel in the OpenMP runtime that torch brought along, 0 where there is none.

    Its threads spin for milliseconds after every parallel operation of torch; threads of our own would have to share
    the cores with them, and two threads were no faster than one.
    """
    package = Path(torch.__file__).parent
    no_load = getattr(os, "RTLD_NOLOAD", None)
    if no_load is None:
        return 0
    for folder in (package / "lib", package.parent / "torch.libs"):
        for path in sorted(folder.glob("lib*omp*.so*")):
            try:
                function = ctypes.CDLL(str(path), mode=no_load | os.RTLD_NOW).GOMP_parallel
            except (OSError, AttributeError):
                continue
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).contiguous()


def _rows_contiguous(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
