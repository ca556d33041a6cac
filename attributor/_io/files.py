"""Write files and folders atomically; read safetensors files and check their format and version."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from attributor._errors import FileFormatError, OutputError
from attributor._io.safetensors_header import (
    FileKind,
    TensorPlace,
    check_kind,
    open_regular_file,
    read_header,
    shorten_path,
)

__all__ = ["NUMPY_CODES", "FileKind", "read_safetensors", "replace_folder", "write_atomically"]

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# dtypes as a safetensors header names them, without those that numpy lacks; BF16 is widened to float32
NUMPY_CODES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2", "U32": "<u4",
    "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


def write_atomically(
    path: str | os.PathLike[str], content: bytes | Callable[[Path], object], *, what: str = ""
) -> None:
    """Write a file atomically: write a temporary file in the same folder and rename it to `path`.

    A process that is killed half-way leaves the old file as it was. A symbolic link stays, and the file that it points
    to is replaced. A replaced file keeps its permissions.

    Args:
        path: the file; ~ is expanded.
        content: its bytes, or a function that writes them to the path that it is called with.
        what: what the file holds, for messages: "weights" gives "cannot write weights to PATH".

    Raises:
        OutputError: the folder is missing, read-only or full, or `path` is not a regular file.
    """
    if "\0" in os.fspath(path):
        raise OutputError(f"cannot write {what or 'a file'} to {shorten_path(path)}: no file name can hold a NUL")
    target = Path(os.path.realpath(os.path.expanduser(path)))
    shown = shorten_path(target)
    failure = f"cannot write {what} to {shown}" if what else f"cannot write {shown}"
    if os.path.isdir(target):
        raise OutputError(f"{failure}: it is a folder; give the name of a file in it")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OutputError(f"{failure}: it is not a regular file")
    if not os.path.isdir(target.parent):
        raise OutputError(f"{failure}: there is no folder {shorten_path(target.parent)}; make it first")
    temporary = target.with_name(f".attributor-{secrets.token_hex(6)}.tmp")
    try:
        try:
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # the rename must not reach the disk before the content
            with contextlib.suppress(OSError):  # there is no old file, or a file system without permissions
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise OutputError(f"{failure}: {error.strerror or error}") from error


def replace_folder(target: Path, make: Callable[[Path], Path]) -> None:
    """Replace `target` with a new folder; after an error or an interrupt `target` is as it was.

    A process that is killed during this leaves a working folder `.NAME-*` beside `target`; the caller may remove it.

    Args:
        target: the folder, in a folder that exists.
        make: called with an empty working folder beside `target`; returns the new folder, inside of it.

    Raises:
        OSError: a folder cannot be made, removed or moved.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        made = make(Path(work))
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)


def read_safetensors(path: str | os.PathLike[str], kind: FileKind) -> tuple[dict[str, "Array"], dict[str, str]]:
    """The tensors of a file that attributor wrote, as new arrays, and its metadata.

    Args:
        path: the file; ~ is expanded.
        kind: what the file must be.

    Raises:
        FileNotFoundError: there is no such file.
        FileFormatError: another kind of file, a damaged one, one of a newer version, or one that cannot be read.
    """
    name = shorten_path(os.path.expanduser(path))
    try:
        with open_regular_file(path, kind) as file:
            header = read_header(file, name, kind)
            check_kind(name, header.metadata, kind)
            tensors = {name: _read_tensor(file, name, place) for name, place in header.tensors.items()}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no {kind.word} file at {name}") from error
    except OSError as error:
        raise FileFormatError(f"{name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{name} is corrupt or truncated: {error}; {kind.again}") from error
    return tensors, header.metadata


def _read_tensor(file: BinaryIO, name: str, place: TensorPlace) -> "Array":
    import numpy as np  # imported here, because `--help` imports this module and must start fast

    if place.dtype not in NUMPY_CODES:
        raise ValueError(f"tensor {name[:60]!r} is of dtype {place.dtype}, which is not used in these files")
    file.seek(place.start)
    data = bytearray(file.read(place.stop - place.start))  # a bytearray, so that arrays over it are writable
    array: Array = np.frombuffer(data, NUMPY_CODES[place.dtype]).reshape(place.shape)
    if place.dtype == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    return array
