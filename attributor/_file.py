"""Flow <-> safetensors; the schema is in docs/flow-file.md."""

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attributor._errors import FileFormatError, InputError, OutputError
from attributor._result import Flow
from attributor._segments import Segment

__all__ = ["FORMAT", "VERSION", "read_flow", "read_header", "write_atomically", "write_flow"]

FORMAT = "attributor.flow"
VERSION = 1
LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors itself


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Let `write` fill a new file in the folder of `path`, then put it in the place of `path` in one step.

    Raises:
        OutputError: the folder is missing, read-only or full, or `path` is not a regular file.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    if os.path.isdir(target):
        raise OutputError(f"cannot write {target}: it is a folder; give the name of a file in it")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OutputError(f"cannot write {target}: it is not a regular file")
    if not os.path.isdir(target.parent):
        raise OutputError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    temporary = target.with_name(f".attributor-{secrets.token_hex(6)}.tmp")
    try:
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}") from error


def write_flow(flow: Flow, path: str | os.PathLike[str]) -> None:
    """Write a flow; see `Flow.save`."""
    tensors: dict[str, Tensor] = {"scores": flow.scores, "ids": flow.ids}
    if flow.missing_mass is not None:
        tensors["missing_mass"] = flow.missing_mass
    for name, text, offsets in (
        ("text", flow.text, flow.offsets),
        ("answer", flow.answer, flow.answer_offsets),
    ):
        if text is not None and offsets is not None:
            tensors[name] = torch.from_numpy(np.frombuffer(text.encode("utf-8"), dtype=np.uint8).copy())
            tensors["offsets" if name == "text" else "answer_offsets"] = offsets.to(torch.int32)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "documents": json.dumps([[d.start, d.stop, d.label] for d in flow.documents]),
        "meta": json.dumps(dict(flow.meta)),
    }
    # A tensor that shares its memory with another is refused by safetensors, and two views of one tensor may.
    write_atomically(path, lambda file: save_file({k: v.clone() for k, v in tensors.items()}, file, metadata))


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON header of a safetensors file, bounded before it is read.

    Raises:
        FileNotFoundError: there is no such file.
        FileFormatError: it is not a safetensors file, or truncated.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, not a flow file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > LONGEST_HEADER or length > size - 8:
            raise FileFormatError(
                f"{path} is not a flow file, or only the beginning of one ({size} bytes): {SAVE_AGAIN}"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw)
        if not isinstance(header, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a flow file: its header cannot be read ({error})") from error
    return header


SAVE_AGAIN = "flow.save(path) writes one, and copies of it must be whole"


def read_flow(path: str | os.PathLike[str]) -> Flow:
    """Read a flow; see `attributor.load`."""
    metadata = read_header(path).get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        kind = metadata.get("format") if isinstance(metadata, dict) else None
        raise FileFormatError(f"{path} is a safetensors file but not a flow (format: {kind!r}, expected {FORMAT!r})")
    _check_version(path, metadata.get("version"))
    try:
        with safe_open(Path(path).expanduser(), framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FileFormatError(f"{path} is corrupt or truncated: {error}; {SAVE_AGAIN}") from error
    try:
        return _build(tensors, metadata)
    except (InputError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(f"{path} is a flow file whose parts do not fit together: {what}") from error


def _check_version(path: str | os.PathLike[str], version: Any) -> None:
    number = int(version) if isinstance(version, str) and version.isascii() and version.isdigit() else 0
    if number < 1:
        raise FileFormatError(
            f"{path} is a flow file with the unknown version {version!r}; versions are 1 to {VERSION}"
        )
    if number > VERSION:
        raise FileFormatError(
            f"{path} was written by a newer attributor (flow version {number}, this one reads up to {VERSION}): "
            "pip install -U attributor"
        )


def _build(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Flow:
    text, offsets = _text(tensors, "text"), _integers(tensors, "offsets")
    answer, answer_offsets = _text(tensors, "answer"), _integers(tensors, "answer_offsets")
    documents = [
        Segment(int(start), int(stop), "", None if label is None else str(label))
        for start, stop, label in json.loads(metadata.get("documents", "[]"))
    ]
    meta = json.loads(metadata.get("meta", "{}"))
    if not isinstance(meta, dict):
        raise InputError("meta must be an object of strings")
    return Flow(
        scores=tensors["scores"],
        ids=tensors["ids"],
        missing_mass=tensors.get("missing_mass"),
        text=text,
        offsets=offsets,
        answer=answer,
        answer_offsets=answer_offsets,
        documents=documents,
        meta=meta,
    )


def _text(tensors: dict[str, Tensor], name: str) -> str | None:
    if name not in tensors:
        return None
    data = tensors[name]
    if data.dtype != torch.uint8 or data.ndim != 1:
        raise InputError(f"{name} must be bytes of UTF-8, got {tuple(data.shape)} of {data.dtype}")
    return data.numpy().tobytes().decode("utf-8")


def _integers(tensors: dict[str, Tensor], name: str) -> Tensor | None:
    return tensors[name].to(torch.int64) if name in tensors and not tensors[name].is_floating_point() else None
