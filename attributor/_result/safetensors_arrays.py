"""Pack arrays as the bytes of a safetensors file, and map arrays from a file.

The safetensors library writes metadata in a different order in each run; pages must be reproducible.
"""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from attributor._errors import InputError
from attributor._io import NUMPY_CODES, Header

__all__ = ["map_tensors", "pack_safetensors", "pack_safetensors_parts", "shrink_integers"]

Array = npt.NDArray[Any]
# numpy has no dtype for BF16
DTYPES = {name: np.dtype(code) for name, code in NUMPY_CODES.items() if name != "BF16"}
NAMES = {dtype.str: name for name, dtype in DTYPES.items()}


def pack_safetensors_parts(
    tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> list[bytes | memoryview]:
    """A safetensors file as parts, to be written one after another; contiguous arrays are not copied."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: list[bytes | memoryview] = []
    at = 0
    # the widest elements first, so that each tensor begins at a multiple of its element's size, for typed arrays
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        header[name] = {
            "dtype": NAMES[data.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [at, at + data.nbytes],
        }
        at += data.nbytes
        if data.size:
            parts.append(data.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *parts]


def pack_safetensors(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file as bytes; the same for the same arguments."""
    return b"".join(pack_safetensors_parts(tensors, metadata))


def map_tensors(file: BinaryIO, header: Header) -> dict[str, Array]:
    """Read-only `np.memmap` arrays over the file; data are read when they are used.

    Tensors of dtypes that numpy lacks are left out.

    Raises:
        InputError: the file cannot be mapped.
    """
    try:
        return {
            name: np.memmap(file, DTYPES[place.dtype], "r", place.start, place.shape)
            if place.stop > place.start
            else np.zeros(place.shape, DTYPES[place.dtype])  # an empty range cannot be mapped
            for name, place in header.tensors.items()
            if place.dtype in DTYPES
        }
    except (OSError, ValueError) as error:
        raise InputError(f"it cannot be mapped into memory ({error})") from error


def shrink_integers(values: Array) -> Array:
    """Convert integers >= 0 to the smallest of U8, U16 and I32 that holds them."""
    most = int(values.max(initial=0))
    return values.astype(np.uint8 if most < 256 else np.uint16 if most < 65_536 else np.int32)
