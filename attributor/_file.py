"""Flow <-> safetensors; the schema is in docs/flow-file.md."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attributor._errors import FileFormatError, InputError
from attributor._header import SAVE_AGAIN, read_header
from attributor._io import write_atomically
from attributor._result import Flow
from attributor._segments import Segment
from attributor._view.schema import (
    FORMAT,
    VERSION,
    check_kind,
    read_documents,
    read_meta,
    read_sentences,
    write_metadata,
)

__all__ = ["FORMAT", "VERSION", "read_flow", "write_flow"]

CHEAP = 200_000  # characters of a text whose sentences are split for the file, if nobody asked for them: 0.6 s


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
    if flow.text is not None and ("sentences" in vars(flow) or len(flow.text) <= CHEAP):
        spans = [(s.start, s.stop) for s in flow.sentences]
        tensors["sentences"] = torch.tensor(spans, dtype=torch.int32).reshape(-1, 2)
    metadata = write_metadata(flow.documents, flow.meta)

    def write(file: Path) -> None:
        try:
            # A tensor that shares its memory with another is refused by safetensors, and two views of one tensor may.
            save_file({k: v.clone() for k, v in tensors.items()}, file, metadata)
        except SafetensorError as error:  # what the library makes of a full disk
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_flow(path: str | os.PathLike[str]) -> Flow:
    """Read a flow; see `attributor.load`."""
    metadata = read_header(path).metadata
    check_kind(str(path), metadata)
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


def _build(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Flow:
    text, offsets = _text(tensors, "text"), _integers(tensors, "offsets")
    answer, answer_offsets = _text(tensors, "answer"), _integers(tensors, "answer_offsets")
    flow = Flow(
        scores=tensors["scores"],
        ids=tensors["ids"],
        missing_mass=tensors.get("missing_mass"),
        text=text,
        offsets=offsets,
        answer=answer,
        answer_offsets=answer_offsets,
        documents=read_documents(metadata),
        meta=read_meta(metadata),
    )
    if text is not None and "sentences" in tensors:
        vars(flow)["sentences"] = _sentences(tensors["sentences"], text, flow.documents)
    return flow


def _sentences(spans: Tensor, text: str, documents: Sequence[Segment]) -> tuple[Segment, ...]:
    """Sentences as `Flow.sentences` gives them, each with the document that it lies in."""
    found = read_sentences(spans.numpy(), len(text))
    order = sorted(range(len(documents)), key=lambda d: documents[d].start)
    before = np.searchsorted([documents[d].start for d in order], found[:, 0], side="right") - 1
    return tuple(
        Segment(start, stop, text[start:stop], None, order[d] if d >= 0 and stop <= documents[order[d]].stop else None)
        for (start, stop), d in zip(found.tolist(), before.tolist(), strict=True)
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
