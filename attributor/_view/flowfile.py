"""A flow as the bytes of a flow file (docs/flow-file.md), without torch and without copying its scores."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._view.arrays import FlowArrays
from attributor._view.pack import pack_parts
from attributor._view.schema import write_metadata

__all__ = ["flow_file"]

CHUNK = 1 << 20  # bytes


def flow_file(flow: FlowArrays) -> tuple[int, Iterator[bytes]]:
    """How many bytes the file has, and the bytes, at most a megabyte at a time."""
    tensors: dict[str, npt.NDArray[Any]] = {"scores": flow.scores, "ids": flow.ids}
    if flow.missing is not None:
        tensors["missing_mass"] = flow.missing
    if flow.text is not None and flow.offsets is not None:
        tensors["text"] = np.frombuffer(flow.text.encode("utf-8"), dtype=np.uint8)
        tensors["offsets"] = flow.offsets.astype(np.int32)
        if flow.has_sentences:
            tensors["sentences"] = flow.sentences.astype(np.int32)
    if flow.answer is not None and flow.answer_offsets is not None:
        tensors["answer"] = np.frombuffer(flow.answer.encode("utf-8"), dtype=np.uint8)
        tensors["answer_offsets"] = flow.answer_offsets.astype(np.int32)
    parts = pack_parts(tensors, write_metadata(flow.documents, flow.meta))
    return sum(len(part) for part in parts), _chunks(parts)


def _chunks(parts: list[bytes | memoryview]) -> Iterator[bytes]:
    for part in parts:
        for at in range(0, len(part), CHUNK):
            yield bytes(part[at : at + CHUNK])
