"""Read and check the header of a safetensors file; its size is limited before it is read.

It needs neither torch nor the safetensors library. The server and the explorer open untrusted files with it.
"""

import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from attributor._errors import FileFormatError

__all__ = [
    "FLOW_FILE",
    "LONGEST_HEADER",
    "FileKind",
    "Header",
    "TensorPlace",
    "check_kind",
    "describe_special_file",
    "open_regular_file",
    "read_header",
    "shorten_path",
]

LONGEST_HEADER = 16_000_000  # bytes; 100,000 documents take 5 million, and 16 million take a second to read
MOST_TENSORS = 1_000  # attributor writes at most 8; other programs may add some, but not thousands
MOST_STRINGS = 10 * MOST_TENSORS  # a tensor takes 5, an entry of the metadata 2
LONGEST_FRAME = 1_000 * MOST_TENSORS  # bytes of a header besides its strings; each `[]` costs a parser 60 bytes
MOST_DIMENSIONS = 32

# bytes of one element; anything else is refused, because its size would be a guess
SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of safetensors file that attributor writes.

    Attributes:
        word: what messages call it: "flow" gives "flow file".
        format: what its metadata holds under "format".
        version: the newest that this attributor reads; the first is 1.
        save: the call that writes such a file.
    """

    word: str
    format: str
    version: int
    save: str

    @property
    def again(self) -> str:
        """The end of a message about a damaged file."""
        return f"{self.save} writes one, and copies of it must be whole"


FLOW_FILE = FileKind("flow", "attributor.flow", 1, "flow.save(path)")


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """The dtype, shape and byte range of a tensor.

    Attributes:
        dtype: as the file names it, "F32".
        shape: its sizes.
        start, stop: its bytes, counted from the start of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: the tensors lie side by side and fill the rest of the file."""

    metadata: dict[str, str]
    tensors: dict[str, TensorPlace]


def describe_special_file(path: str | os.PathLike[str]) -> str | None:
    """Say what a path is: "is a folder" or "is not a regular file"; None for a regular file.

    Raises:
        OSError: there is no such file (FileNotFoundError), or it cannot be inspected.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL or a lone surrogate
        raise OSError(errno.EINVAL, "no file can have this name") from error
    if stat.S_ISDIR(mode):
        return "is a folder"
    return None if stat.S_ISREG(mode) else "is not a regular file"


def open_regular_file(path: str | os.PathLike[str], kind: FileKind = FLOW_FILE) -> BinaryIO:
    """Open a regular file for reading; refuse folders, and pipes, whose opening would block.

    Raises:
        FileNotFoundError: there is no such file.
        FileFormatError: it is not a regular file, or may not be read.
    """
    path = os.path.expanduser(path)
    try:
        problem = describe_special_file(path)
        if problem is not None:
            raise FileFormatError(f"{shorten_path(path)} {problem}, not a {kind.word} file")
        return open(path, "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileFormatError(f"{shorten_path(path)} cannot be read: {error.strerror or error}") from error


def shorten_path(path: str | os.PathLike[str]) -> str:
    """A path for a message: a long one without its middle, and with control characters escaped."""
    text = os.fspath(path)
    text = text if len(text) <= 300 else f"{text[:100]}…{text[-199:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def read_header(
    source: str | os.PathLike[str] | BinaryIO, name: str | None = None, kind: FileKind = FLOW_FILE
) -> Header:
    """The header of a safetensors file.

    Args:
        source: its path, or the file opened for reading bytes, at its start.
        name: what messages call an opened file.
        kind: the expected kind, for messages; `check_kind` checks it.

    Raises:
        FileNotFoundError: there is no such file.
        FileFormatError: another kind of file, a truncated one, or a header that contradicts itself or its file.
    """
    if isinstance(source, str | os.PathLike):
        with open_regular_file(source, kind) as file:
            return read_header(file, shorten_path(os.path.expanduser(source)), kind)
    name = name or "the file"
    size = os.fstat(source.fileno()).st_size
    first = source.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > size - 8:
        raise FileFormatError(
            f"{name} is not a {kind.word} file, or only the beginning of one ({size} bytes): {kind.again}"
        )
    if length > LONGEST_HEADER:
        raise FileFormatError(
            f"{name} is not a {kind.word} file: its header has {length:,} bytes; {LONGEST_HEADER:,} are the most"
        )
    try:
        header = _parse(source.read(length))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name} is not a {kind.word} file: its header cannot be read ({error})") from error
    try:
        return Header(_check_metadata(header.pop("__metadata__", None)), _locate_tensors(header, 8 + length, size))
    except ValueError as error:
        raise FileFormatError(f"{name} is corrupt or truncated: {error}; {kind.again}") from error


def check_kind(name: str, metadata: Mapping[str, str], kind: FileKind = FLOW_FILE) -> None:
    """Check that a file's metadata is of this `kind`, and of a version that can be read.

    Raises:
        FileFormatError: another kind of file, or a newer version; the message calls the file by its name.
    """
    if metadata.get("format") != kind.format:
        raise FileFormatError(
            f"{name} is a safetensors file but not a {kind.word} file "
            f"(format: {repr(metadata.get('format'))[:60]}, expected {kind.format!r})"
        )
    version = metadata.get("version")
    digits = version is not None and version.isascii() and version.isdigit() and len(version) < 100
    number = int(version) if version is not None and digits else 0
    if number < 1:
        shown = repr(version if version is None else version[:20])
        raise FileFormatError(
            f"{name} is a {kind.word} file with the unknown version {shown}; versions are 1 to {kind.version}"
        )
    if number > kind.version:
        raise FileFormatError(
            f"{name} was written by a newer attributor ({kind.word} version {number}, this one reads up to "
            f"{kind.version}): pip install -U attributor"
        )


def _parse(raw: bytes) -> dict[str, Any]:
    _check_size(raw)
    header = json.loads(raw.decode("utf-8"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    if not isinstance(header, dict):
        raise ValueError("not an object")
    tensors = len(header) - ("__metadata__" in header)
    if tensors > MOST_TENSORS:
        raise ValueError(f"{tensors:,} tensors; {MOST_TENSORS:,} are the most")
    return header


def _check_size(raw: bytes) -> None:
    """Refuse a header with too many parts before it is parsed; without escapes, every quote delimits a string."""
    pieces = raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"', 2 * MOST_STRINGS + 1)
    if len(pieces) > 2 * MOST_STRINGS + 1:
        raise ValueError(f"more than {MOST_STRINGS:,} strings, which is more than {MOST_TENSORS:,} tensors take")
    frame = sum(len(piece) for piece in pieces[::2])
    if frame > LONGEST_FRAME:
        raise ValueError(f"{frame:,} characters besides its strings; {LONGEST_FRAME:,} are the most")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{again[:60]!r} is there twice")
    for key in entries:
        key.encode()  # raises for a lone surrogate, which cannot be encoded
    return entries


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _check_metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}  # no metadata: another kind of file, which `check_kind` reports
    for key, text in value.items():
        if not isinstance(text, str):
            raise ValueError(f"metadata {key[:60]!r} is not a string")
        text.encode()
    return value


def _locate_tensors(header: dict[str, Any], base: int, size: int) -> dict[str, TensorPlace]:
    """Every tensor's place; together they must cover the file from `base` to its end without overlap."""
    places = {name: _locate_tensor(name, value, base) for name, value in header.items()}
    at = base
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].stop)):
        if place.start != at:
            what = "overlaps another tensor" if place.start < at else "leaves a gap before it"
            raise ValueError(f"tensor {name[:60]!r} {what}")
        at = place.stop
    if at != size:
        raise ValueError(f"its tensors end at byte {at:,} and the file at {size:,}")
    return places


def _locate_tensor(name: str, value: Any, base: int) -> TensorPlace:
    short = repr(name[:60])
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {short} must have dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise ValueError(f"tensor {short} is of the unknown dtype {str(dtype)[:20]!r}")
    if not _are_counts(shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"the shape of tensor {short} is {str(shape)[:60]}")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"data_offsets of tensor {short} are {str(offsets)[:60]}")
    start, stop = offsets
    if stop - start != SIZES[dtype] * math.prod(shape):
        raise ValueError(f"tensor {short}, {dtype} {shape}, cannot lie in the bytes {start} to {stop}")
    return TensorPlace(dtype, tuple(shape), base + start, base + stop)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)
