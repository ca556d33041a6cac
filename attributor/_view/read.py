"""A flow file mapped into memory: everything but the scores is checked at once, the scores when they are used."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._errors import FileFormatError, InputError
from attributor._header import open_checked, read_header
from attributor._segments import find_documents
from attributor._view.arrays import Floats, FlowArrays, Ints
from attributor._view.pack import map_tensors
from attributor._view.schema import check_kind, read_documents, read_meta, read_sentences

__all__ = ["open_flow"]

Array = npt.NDArray[Any]


def open_flow(path: str | os.PathLike[str]) -> FlowArrays:
    """See `FlowArrays.open`."""
    name = str(Path(path).expanduser())
    with open_checked(path) as file:
        header = read_header(file, name)
        check_kind(name, header.metadata)
        try:
            return _build(map_tensors(file, header), header.metadata, Path(name))
        except (InputError, KeyError, TypeError, ValueError, RecursionError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(f"{name} is a flow file whose parts do not fit together: {what}") from error


def _build(tensors: dict[str, Array], metadata: dict[str, str], path: Path) -> FlowArrays:
    scores = _floats("scores", tensors["scores"], 2)
    o, k = scores.shape
    if o < 1 or k < 1:
        raise InputError(f"scores must be (o, k) with at least one row and one column, got {(o, k)}")
    ids = _integers("ids", tensors["ids"], 1)
    answered = len(ids) - k
    if answered != o and not (answered == 0 and o == 1):
        raise InputError(f"scores {(o, k)} need ids of {k} prompt and {o} answer tokens, got {ids.shape}")
    missing = None
    if "missing_mass" in tensors:
        missing = np.array(_floats("missing_mass", tensors["missing_mass"], 1))
        if missing.shape != (o,) or not np.isfinite(missing).all():
            raise InputError(f"missing_mass must be ({o},) and finite, got {missing.shape}")
    text, offsets = _text(tensors, "text", "offsets", k)
    answer, answer_offsets = _text(tensors, "answer", "answer_offsets", answered)
    documents = read_documents(metadata)
    if documents and text is None:
        raise InputError("documents are spans of the text, and there is no text")
    sentences = None
    if text is not None and "sentences" in tensors:
        sentences = read_sentences(tensors["sentences"], len(text))
    return FlowArrays(
        scores=scores,
        ids=ids,
        missing=missing,
        text=text,
        offsets=offsets,
        answer=answer,
        answer_offsets=answer_offsets,
        documents=find_documents(text or "", documents),
        known_sentences=sentences,
        meta=read_meta(metadata),
        path=path,
    )


def _floats(name: str, values: Array, ndim: int) -> Floats:
    if values.dtype.kind != "f" or values.ndim != ndim:
        raise InputError(f"{name} must be {ndim}-dimensional and of floats, got {values.shape} of {values.dtype}")
    return values.astype(np.float32, copy=False)


def _integers(name: str, values: Array, ndim: int) -> Ints:
    if values.dtype.kind not in "iu" or values.ndim != ndim:
        raise InputError(f"{name} must be {ndim}-dimensional and of integers, got {values.shape} of {values.dtype}")
    return values.astype(np.int64, copy=False)


def _text(tensors: dict[str, Array], name: str, places: str, count: int) -> tuple[str | None, Ints | None]:
    if (name in tensors) != (places in tensors):
        raise InputError(f"{name} and {places} go together: give both or neither")
    if name not in tensors:
        return None, None
    data = tensors[name]
    if data.dtype != np.uint8 or data.ndim != 1:
        raise InputError(f"{name} must be bytes of UTF-8, got {data.shape} of {data.dtype}")
    text = data.tobytes().decode("utf-8")
    offsets = _integers(places, tensors[places], 2)
    if offsets.shape != (count, 2):
        raise InputError(f"{places} must be ({count}, 2), a span a token, got {offsets.shape}")
    start, stop = offsets[:, 0], offsets[:, 1]
    if count and not (start.min() >= 0 and (start <= stop).all() and stop.max() <= len(text)):
        raise InputError(f"{places} must be spans with 0 <= start <= stop <= {len(text)}, the length of {name}")
    return text, offsets
