"""Check the fields of a Flow, store them as numpy arrays and read them as tensors. Imports no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attributor._checks import shorten_value
from attributor._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Floats",
    "FlowArrays",
    "Ints",
    "OptionalTensorField",
    "TensorField",
    "as_tensor",
    "check_floats",
    "check_integers",
    "check_normalized",
    "check_offsets",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowArrays:
    """The numbers of a Flow as numpy arrays, for code that runs without torch.

    Attributes:
        scores: (o, k) float32; if the flow was opened with `open_mapped`, mapped from its file and not read yet.
        ids, missing_mass, question_scores, offsets, answer_offsets, normalized: as in `Flow`.
    """

    scores: Floats
    ids: Ints
    missing_mass: Floats | None
    question_scores: Floats | None
    offsets: Ints | None
    answer_offsets: Ints | None
    normalized: bool | None

    @property
    def on_answer(self) -> Floats | None:
        """(o,) float32, the share on earlier answer tokens; None if rows do not add up to 1. Reads all scores."""
        if self.missing_mass is None or not self.normalized:
            return None
        reached = self.scores.sum(axis=1, dtype=np.float64) + self.missing_mass
        stayed: Floats = np.maximum(1.0 - reached, 0.0).astype(np.float32)
        return stayed


class TensorField:
    """A dataclass field that is set to a tensor or an array and read as a tensor over the array in `flow.arrays`.

    The dataclass's `__post_init__` takes the value from the instance's dictionary and converts it to an array.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, flow: Any, value: Tensor | Array) -> None:
        vars(flow)[self._name] = value

    def __get__(self, flow: Any, owner: type | None = None) -> Tensor:
        if flow is None:
            raise AttributeError(self._name)  # tells dataclass that there is no default: the field is required
        return as_tensor(getattr(flow.arrays, self._name))


class OptionalTensorField:
    """A `TensorField` that may be None, which is its default."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, flow: Any, value: Tensor | Array | None) -> None:
        vars(flow)[self._name] = value

    def __get__(self, flow: Any, owner: type | None = None) -> Tensor | None:
        array = None if flow is None else getattr(flow.arrays, self._name)
        return None if array is None else as_tensor(array)


def as_tensor(array: Array) -> Tensor:
    """A tensor over the array's memory, or over a copy if the memory is read-only, which torch lacks."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())


def check_floats(name: str, value: Any, ndim: int) -> Floats:
    """The array in float32, in C order; it shares memory if it already has this form.

    An `np.memmap` is not read here, so its values may be NaN or infinite.

    Raises:
        InputError: another kind of value, another number of dimensions, NaN or infinite values.
    """
    is_tensor = _is_tensor(value)
    is_floating = (
        _is_dense(value) and value.is_floating_point()
        if is_tensor
        else isinstance(value, np.ndarray) and value.dtype.kind == "f"
    )
    if not is_floating or value.ndim != ndim:
        raise InputError(f"{name} must be a {ndim}-dimensional tensor of floats, got {_describe(value)}")
    with np.errstate(over="ignore"):  # reported below
        numbers = value.detach().cpu().float().numpy() if is_tensor else value
        array: Floats = np.ascontiguousarray(numbers, dtype=np.float32)
    if not isinstance(value, np.memmap) and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"{name} must be finite in float32; {bad} of {array.size} values are NaN or infinite")
    return array


def check_integers(name: str, value: Any, ndim: int = 1) -> Ints:
    """The array in int64, in C order; it shares memory if it already has this form.

    Raises:
        InputError: another kind of value, another number of dimensions.
    """
    numbers = value
    if _is_tensor(value) and _is_dense(value) and not value.dtype.is_floating_point and not value.dtype.is_complex:
        numbers = value.detach().cpu().numpy()
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "iu" or numbers.ndim != ndim:
        raise InputError(f"{name} must be a {ndim}-dimensional tensor of integers, got {_describe(value)}")
    return np.ascontiguousarray(numbers, dtype=np.int64)


def check_offsets(text_name: str, text: str | None, name: str, offsets: Any, count: int) -> Ints | None:
    """(count, 2) spans of the text; None without text.

    Raises:
        InputError: a text without offsets or offsets without a text, spans that leave the text, a lone surrogate in it.
    """
    if (text is None) != (offsets is None):
        raise InputError(f"{text_name} and {name} go together: give both or neither")
    if text is None:
        return None
    if not isinstance(text, str):
        raise InputError(f"{text_name} must be a str, got {shorten_value(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{text_name} has half a character (a lone surrogate) at character {error.start}") from None
    spans = check_integers(name, offsets, ndim=2)
    if spans.shape != (count, 2):
        raise InputError(f"{name} must be ({count}, 2), a span a token, got {spans.shape}")
    start, stop = spans[:, 0], spans[:, 1]
    if count and not (int(start.min()) >= 0 and bool((start <= stop).all()) and int(stop.max()) <= len(text)):
        raise InputError(f"{name} must be spans with 0 <= start <= stop <= {len(text)}, the length of {text_name}")
    return spans


def check_normalized(value: Any, missing_mass: Floats | None) -> bool | None:
    """The value of `Flow.normalized`, from the constructor's arguments.

    Raises:
        InputError: neither True, False nor None.
    """
    if value is not None and not isinstance(value, bool):
        raise InputError(f"normalized must be True, False or None, got {shorten_value(value)}")
    if value is False:
        return False
    return None if missing_mass is None else True


def _is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; never true while torch is not imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_dense(tensor: Any) -> bool:
    """Whether a tensor has plain numbers in memory: not sparse, not quantised, not on the meta device."""
    torch = sys.modules["torch"]
    return bool(tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type != "meta")


def _describe(value: Any) -> str:
    if _is_tensor(value) and not _is_dense(value):
        return f"{tuple(value.shape)} of {value.dtype}, {str(value.layout).removeprefix('torch.')} on {value.device}"
    if _is_tensor(value) or isinstance(value, np.ndarray):
        return f"{tuple(value.shape)} of {value.dtype}"
    return type(value).__name__
