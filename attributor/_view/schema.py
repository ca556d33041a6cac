"""What a flow file's metadata says (docs/flow-file.md), for the reader with torch and the one without."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._errors import FileFormatError, InputError
from attributor._segments import Segment

__all__ = ["FORMAT", "VERSION", "check_kind", "read_documents", "read_meta", "read_sentences", "write_metadata"]

FORMAT = "attributor.flow"
VERSION = 1


def check_kind(name: str, metadata: Mapping[str, str]) -> None:
    """Nothing, where a file's metadata is that of a flow that this version can read.

    Raises:
        FileFormatError: another kind of file, or a newer version; the message calls the file by its name.
    """
    if metadata.get("format") != FORMAT:
        kind = metadata.get("format")
        raise FileFormatError(f"{name} is a safetensors file but not a flow (format: {kind!r}, expected {FORMAT!r})")
    version = metadata.get("version")
    digits = version is not None and version.isascii() and version.isdigit() and len(version) < 100
    number = int(version) if version is not None and digits else 0
    if number < 1:
        shown = repr(version if version is None else version[:20])
        raise FileFormatError(f"{name} is a flow file with the unknown version {shown}; versions are 1 to {VERSION}")
    if number > VERSION:
        raise FileFormatError(
            f"{name} was written by a newer attributor (flow version {number}, this one reads up to {VERSION}): "
            "pip install -U attributor"
        )


def read_documents(metadata: Mapping[str, str]) -> list[Segment]:
    """The documents as they stand there, not yet checked against the text.

    Raises:
        ValueError, TypeError: they are no list of [start, stop, label or null].
    """
    found = json.loads(metadata.get("documents", "[]"))
    try:
        return [
            Segment(int(start), int(stop), "", None if label is None else str(label)) for start, stop, label in found
        ]
    except OverflowError as error:  # 1e999 is infinite
        raise ValueError(str(error)) from error


def read_meta(metadata: Mapping[str, str]) -> dict[str, str]:
    """What made the flow.

    Raises:
        InputError: it is not an object; ValueError: not JSON.
    """
    meta = json.loads(metadata.get("meta", "{}"))
    if not isinstance(meta, dict):
        raise InputError("meta must be an object of strings")
    return {str(key): str(value) for key, value in meta.items()}


def read_sentences(spans: npt.NDArray[Any], length: int) -> npt.NDArray[np.int64]:
    """Sentences of a text of `length` characters, checked: (s, 2) int64, in order, none empty or over another.

    Raises:
        InputError: spans of another shape, out of order, or outside of the text.
    """
    if spans.ndim != 2 or spans.shape[1] != 2 or spans.dtype.kind not in "iu":
        raise InputError(f"sentences must be (s, 2) integers, got {spans.shape} of {spans.dtype}")
    found = np.clip(spans.astype(np.int64), -1, length + 1)  # differences of larger ones would wrap around
    borders = np.concatenate([[0], found.ravel(), [length]])
    if (np.diff(borders) < 0).any() or (found[:, 0] == found[:, 1]).any():
        raise InputError(f"sentences must be spans of the text's {length} characters, in order, none over another")
    return found


def write_metadata(documents: Sequence[Segment], meta: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a flow file."""
    return {
        "format": FORMAT,
        "version": str(VERSION),
        "documents": json.dumps([[d.start, d.stop, d.label] for d in documents]),
        "meta": json.dumps(dict(meta)),
    }
