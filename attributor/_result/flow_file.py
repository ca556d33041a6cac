"""Read and write flow files (docs/flow-file.md). Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attributor._errors import FileFormatError, InputError
from attributor._io import (
    FLOW_FILE,
    LONGEST_HEADER,
    check_kind,
    open_regular_file,
    read_header,
    shorten_path,
    write_atomically,
)
from attributor._result.safetensors_arrays import map_tensors, pack_safetensors_parts
from attributor._text import Segment

if TYPE_CHECKING:
    from attributor._result.flow import Flow

__all__ = ["pack_flow", "read_flow", "write_flow"]

CHEAP = 200_000  # characters: texts up to this length are split into sentences for the file, in at most 0.6 s
CHUNK = 1 << 20  # bytes

Array = npt.NDArray[Any]


def write_flow(flow: Flow, path: str | os.PathLike[str]) -> None:
    """Write a flow; see `Flow.save`."""

    def write(file: Path) -> None:
        with file.open("wb") as out:
            out.writelines(pack_flow(flow)[1])

    write_atomically(path, write)


def pack_flow(flow: Flow) -> tuple[int, Iterator[bytes]]:
    """The size of the flow's file, and its bytes in chunks of at most a megabyte; scores are not copied in advance.

    Raises:
        InputError: documents and meta that are too long for a header.
    """
    arrays = flow.arrays
    tensors: dict[str, Array] = {"scores": arrays.scores, "ids": arrays.ids}
    for name, values in (("missing_mass", arrays.missing_mass), ("question_scores", arrays.question_scores)):
        if values is not None:
            tensors[name] = values
    for name, text, places, offsets in (
        ("text", flow.text, "offsets", arrays.offsets),
        ("answer", flow.answer, "answer_offsets", arrays.answer_offsets),
    ):
        if text is not None and offsets is not None:
            tensors[name] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
            tensors[places] = offsets.astype(np.int32)
    if flow.text is not None and ("sentence_spans" in vars(flow) or len(flow.text) <= CHEAP):
        tensors["sentences"] = flow.sentence_spans.astype(np.int32)
    metadata = {
        "format": FLOW_FILE.format,
        "version": str(FLOW_FILE.version),
        "documents": json.dumps([[d.start, d.stop, d.label] for d in flow.documents]),
        "meta": json.dumps(dict(flow.meta)),
    }
    if flow.normalized is not None:
        metadata["normalized"] = str(flow.normalized).lower()
    parts = pack_safetensors_parts(tensors, metadata)
    if len(parts[1]) > LONGEST_HEADER:
        raise InputError(
            f"documents and meta of this flow take {len(parts[1]):,} bytes, and readers of flow files take "
            f"{LONGEST_HEADER:,}; shorten the documents' labels or meta"
        )
    return sum(len(part) for part in parts), _chunks(parts)


def _chunks(parts: list[bytes | memoryview]) -> Iterator[bytes]:
    for part in parts:
        for at in range(0, len(part), CHUNK):
            yield bytes(part[at : at + CHUNK])


def read_flow(path: str | os.PathLike[str], make: Callable[..., Flow], *, mapped: bool = False) -> Flow:
    """Read a flow; see `attributor.load`, or `open_mapped` for `mapped`.

    `make` is the class `Flow`; it is an argument because its module imports this one.
    """
    name = shorten_path(os.path.expanduser(path))
    with open_regular_file(path) as file:
        header = read_header(file, name)
        check_kind(name, header.metadata)
        try:
            return _build(map_tensors(file, header), header.metadata, make, mapped)
        except (InputError, KeyError, TypeError, ValueError, RecursionError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(f"{name} is a flow file whose parts do not fit together: {what}") from error


def _build(tensors: dict[str, Array], metadata: Mapping[str, str], make: Callable[..., Flow], mapped: bool) -> Flow:
    def read(name: str) -> Array | None:
        return np.array(tensors[name]) if name in tensors else None

    meta = _read_meta(metadata)
    text = _decode("text", read("text"))
    documents = _read_documents(metadata, text)
    flow = make(
        scores=tensors["scores"] if mapped else np.array(tensors["scores"]),
        ids=np.array(tensors["ids"]),
        missing_mass=read("missing_mass"),
        question_scores=read("question_scores"),
        normalized=_read_normalized(metadata, meta),
        text=text,
        offsets=read("offsets"),
        answer=_decode("answer", read("answer")),
        answer_offsets=read("answer_offsets"),
        documents=documents,
        meta=meta,
    )
    sentences = read("sentences")
    if text is not None and sentences is not None:
        vars(flow)["sentence_spans"] = _check_sentences(sentences, len(text))
    return flow


def _decode(name: str, data: Array | None) -> str | None:
    if data is None:
        return None
    if data.dtype != np.uint8 or data.ndim != 1:
        raise InputError(f"{name} must be bytes of UTF-8, got {data.shape} of {data.dtype}")
    return data.tobytes().decode("utf-8")


def _read_normalized(metadata: Mapping[str, str], meta: Mapping[str, str]) -> bool | None:
    """The argument `normalized` of `Flow`.

    Raises:
        InputError: the value in the file is neither "true" nor "false".
    """
    written = metadata.get("normalized")
    if written is None:  # unknown; or a file of version 0.1, which has it in `meta`
        return False if meta.get("normalize", "true").lower() == "false" else None
    if written not in ("true", "false"):
        raise InputError(f'normalized must be "true" or "false", got {written[:20]!r}')
    return written == "true"


def _read_documents(metadata: Mapping[str, str], text: str | None) -> list[Segment]:
    """The documents in the file; only their number is checked against the text.

    Raises:
        InputError: more documents than characters.
        ValueError, TypeError: not a list of [start, stop, label or null].
    """
    written = metadata.get("documents", "[]")
    outside_labels = written.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    count = sum(piece.count("[") for piece in outside_labels) - 1
    if count > 0 and text is None:
        raise InputError("documents are spans of the text, and the file holds no text")
    if count > len(text or ""):  # before millions of them are parsed
        raise InputError(f"{count:,} documents are more than the text has characters, {len(text or ''):,}")
    documents = json.loads(written)
    try:
        return [
            Segment(int(start), int(stop), "", None if label is None else str(label))
            for start, stop, label in documents
        ]
    except OverflowError as error:  # 1e999 is infinite
        raise ValueError(str(error)) from error


def _read_meta(metadata: Mapping[str, str]) -> dict[str, str]:
    """The flow's `meta`.

    Raises:
        InputError: it is not an object; ValueError: not JSON.
    """
    meta = json.loads(metadata.get("meta", "{}"))
    if not isinstance(meta, dict):
        raise InputError("meta must be an object of strings")
    return {str(key): str(value) for key, value in meta.items()}


def _check_sentences(spans: npt.NDArray[Any], length: int) -> npt.NDArray[np.int64]:
    """Check the sentences of a text of `length` characters: (s, 2) int64, in order, not empty, not overlapping.

    Raises:
        InputError: spans of another shape, out of order, or outside of the text.
    """
    if spans.ndim != 2 or spans.shape[1] != 2 or spans.dtype.kind not in "iu":
        raise InputError(f"sentences must be (s, 2) integers, got {spans.shape} of {spans.dtype}")
    clipped = np.clip(spans.astype(np.int64), -1, length + 1)  # differences of larger numbers would overflow
    borders = np.concatenate([[0], clipped.ravel(), [length]])
    if (np.diff(borders) < 0).any() or (clipped[:, 0] == clipped[:, 1]).any():
        raise InputError(f"sentences must be spans of the text's {length} characters, in order, none over another")
    return clipped
