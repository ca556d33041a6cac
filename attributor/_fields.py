"""The fields of a Flow: checked, on the CPU, in their one dtype."""

from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError

__all__ = ["check_floats", "check_integers", "check_offsets"]


def check_floats(name: str, value: Any, ndim: int) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim != ndim:
        got = f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{name} must be a {ndim}-dimensional tensor of floats, got {got}")
    tensor = value.detach().to("cpu", torch.float32).contiguous()
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(f"{name} must be finite in float32; {bad} of {tensor.numel()} values are NaN or infinite")
    return tensor


def check_integers(name: str, value: Any, ndim: int = 1) -> Tensor:
    integral = isinstance(value, Tensor) and not (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    )
    if not integral or value.ndim != ndim:
        got = f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{name} must be a {ndim}-dimensional tensor of integers, got {got}")
    tensor: Tensor = value.detach().to("cpu", torch.int64).contiguous()
    return tensor


def check_offsets(text_name: str, text: str | None, name: str, offsets: Any, count: int) -> Tensor | None:
    if (text is None) != (offsets is None):
        raise InputError(f"{text_name} and {name} go together: give both or neither")
    if text is None:
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{text_name} has half a character (a lone surrogate) at character {error.start}") from None
    tensor = check_integers(name, offsets, ndim=2)
    if tensor.shape != (count, 2):
        raise InputError(f"{name} must be ({count}, 2), a span a token, got {tuple(tensor.shape)}")
    start, stop = tensor[:, 0], tensor[:, 1]
    if count and not (int(start.min()) >= 0 and bool((start <= stop).all()) and int(stop.max()) <= len(text)):
        raise InputError(f"{name} must be spans with 0 <= start <= stop <= {len(text)}, the length of {text_name}")
    return tensor
