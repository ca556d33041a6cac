"""Check the arguments that all steps share: shapes, devices and windows; translate errors of implementations."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._errors import ImplementationError, InputError
from attributor.kernels.common.errors import ImplementationFailure, UnsupportedCall

__all__ = ["check_devices", "check_shape", "check_window", "translate_errors"]

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_shape(name: str, tensor: Any, letters: tuple[str, ...], sizes: dict[str, int]) -> tuple[int, ...]:
    """Check a tensor's shape, such as ``query: (H, N, D)``, and return its sizes.

    Raises:
        InputError: not a dense tensor of floats, or another shape.
    """
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a tensor of shape ({', '.join(letters)}), got {type(tensor).__name__}")
    expected = ", ".join(f"{letter}={sizes[letter]}" if letter in sizes else letter for letter in letters)
    shape = tuple(tensor.shape)
    if len(shape) != len(letters) or any(sizes.get(x, size) != size for x, size in zip(letters, shape, strict=True)):
        raise InputError(f"{name} must be ({expected}), got {shape}")
    if tensor.layout != torch.strided:
        raise InputError(f"{name} must be a dense tensor, got the layout {tensor.layout}")
    if 0 in shape:
        raise InputError(f"{name} must not be empty, got {shape}")
    if tensor.dtype not in FLOATS:
        raise InputError(f"{name} must be float64, float32, bfloat16 or float16, got {tensor.dtype}")
    return shape


def check_devices(tensors: dict[str, Tensor]) -> None:
    """Check that all tensors are on the device of the first one, and that it is not the meta device.

    Raises:
        InputError: two devices, or the device meta.
    """
    (first, device), *others = ((name, tensor.device) for name, tensor in tensors.items())
    for name, other in others:
        if other != device:
            raise InputError(f"all tensors must be on one device, got {first} on {device} and {name} on {other}")
    if device.type == "meta":
        raise InputError("the tensors are on the device meta, which holds no numbers; move them to a CPU or a GPU")


def check_window(window: Any) -> int | None:
    """Check a window, and return it as an int or None.

    Raises:
        InputError: neither a whole number >= 1 nor None.
    """
    if window is None or (isinstance(window, Integral) and not isinstance(window, bool) and int(window) >= 1):
        return None if window is None else int(window)
    raise InputError(
        f"window counts the query's own position and must be a whole number >= 1 or None, got {shorten_value(window)}"
    )


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise errors of an implementation that is called inside as errors of this package.

    Raises:
        InputError: for UnsupportedCall.
        ImplementationError: for ImplementationFailure.
    """
    try:
        yield
    except UnsupportedCall as error:
        raise InputError(str(error)) from None
    except ImplementationFailure as error:
        raise ImplementationError(str(error)) from error
