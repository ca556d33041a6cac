"""Code shared by the C++ implementations: the instruction set, threads, and tensors that C++ can read by address."""

import ctypes
import functools
import os
from pathlib import Path

import torch
from torch import Tensor

from attributor import _core
from attributor.kernels.common.errors import ImplementationFailure

__all__ = ["DTYPES", "as_float32", "choose_isa", "find_team", "make_rows_contiguous"]

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def choose_isa() -> str:
    """The instruction set that a call uses now: ``ATTRIBUTOR_ISA``, else the best one usable here.

    Raises:
        ImplementationFailure: ``ATTRIBUTOR_ISA`` names one that is unknown or not usable here.
    """
    name = os.environ.get("ATTRIBUTOR_ISA") or _core.isa()
    if name not in _core.isas():
        raise ImplementationFailure(f"ATTRIBUTOR_ISA={name!r} is not usable here; there are {', '.join(_core.isas())}")
    return name


@functools.cache
def find_team() -> int:
    """The address of GOMP_parallel in torch's OpenMP runtime; 0 if there is none.

    Its threads spin for milliseconds after every parallel operation of torch. Other threads would share the cores with
    them: two such threads were no faster than one.
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


def as_float32(tensor: Tensor) -> Tensor:
    """The numbers as contiguous float32, without a gradient."""
    return tensor.detach().to(torch.float32).contiguous()


def make_rows_contiguous(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it whose last dimension is contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
