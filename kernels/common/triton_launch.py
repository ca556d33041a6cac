"""Host code shared by the Triton implementations: numbers in base 2, and tensors that the kernels can read."""

import functools
import math
import struct

import torch
import triton
from torch import Tensor

from attributor.kernels.common.triton_device import load_tile

__all__ = [
    "find_capability",
    "is_interpreted",
    "list_active_tiles",
    "make_readable",
    "make_source",
    "on_device",
    "pad_bias",
    "scale_to_base_two",
]


def is_interpreted() -> bool:
    """True when Triton's interpreter runs the kernels, on CPU tensors: TRITON_INTERPRET=1 before the first import."""
    return not isinstance(load_tile, triton.JITFunction)


def scale_to_base_two(scale: float, power: float, softcap: float | None) -> tuple[float, float, float]:
    """(gain, inner, base) with 2^(gain f(inner s) + base bias) = exp(power logit + bias), f tanh or the identity.

    The kernel's gain is float32. `base` is log2(e) with exactly the same rounding error, so that logit and log-sum-exp
    cancel.
    """
    factor = power * (scale if softcap is None else softcap)
    gain = _float32(factor * math.log2(math.e))
    base = gain / factor if factor and math.isfinite(gain / factor) and gain else math.log2(math.e)
    return gain, 0.0 if softcap is None else scale / softcap, base


def _float32(x: float) -> float:
    return float(struct.unpack("f", struct.pack("f", x))[0])


def pad_bias(bias: Tensor, base: float, length: int) -> Tensor:
    """(H, N) -> (H, length) float32 in base 2, -inf beyond."""
    padded = torch.full((bias.shape[0], length), float("-inf"), dtype=torch.float32, device=bias.device)
    padded[:, : bias.shape[1]] = bias.detach().double() * base
    return padded


def make_readable(tensor: Tensor, block: int, described: bool) -> Tensor:
    """The tensor, or a copy that the kernel can read; most tensors need no copy."""
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


def make_source(tensor: Tensor, block: int, columns: int, described: bool) -> object:
    """The source of `load_tile` for tiles of `block` rows and `columns` columns: a descriptor, or the tensor itself."""
    if not described:
        return tensor
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), [1, block, columns])


def list_active_tiles(active: Tensor) -> tuple[Tensor, Tensor]:
    """For tiles (T,): (T,) with the non-zero tiles' indices first; (T + 1,), how many of these precede each tile."""
    before = torch.zeros(active.numel() + 1, dtype=torch.int32, device=active.device)
    torch.cumsum(active, 0, dtype=torch.int32, out=before[1:])
    return torch.argsort((active == 0).to(torch.uint8), stable=True).to(torch.int32), before


def on_device(device: torch.device) -> torch.cuda.device:
    return torch.cuda.device(device if device.type == "cuda" else -1)  # -1 switches nothing


@functools.cache
def find_capability(device: torch.device) -> int:
    """80, 90, 100 ... for an NVIDIA GPU, 0 for other devices."""
    if device.type != "cuda" or torch.version.hip is not None:
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
