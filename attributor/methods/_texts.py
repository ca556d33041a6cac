"""The texts that methods compare: question with answer, and segments, with or without their documents' titles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from attributor._documents import keep_places
from attributor._errors import InputError
from attributor._text import Segment

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["find_documents_of", "join_query", "list_titled_texts"]


def join_query(reading: Reading, method: str, between: str = " ") -> str:
    """Join the question and the answer to one text.

    Args:
        reading: has the text of both, or of one.
        method: the name of the method, for the error.
        between: the text between the two.

    Raises:
        InputError: the reading has neither text.
    """
    query = f"{reading.question}{between}{reading.answer_text}".strip()
    if not query:
        raise InputError(f"{method} compares texts; give the reading its question or answer_text")
    return query


def list_titled_texts(reading: Reading) -> list[str]:
    """Return each segment's text after its document's title; the text alone if there is no document or title."""
    documents = keep_places(reading.prompt.text, reading.prompt.documents)
    titles = [document.source.title for document in documents]
    owners = find_documents_of(reading.segments, documents)
    return [
        f"{titles[owner]} {segment.text}".strip() if owner >= 0 else segment.text
        for segment, owner in zip(reading.segments, owners.tolist(), strict=True)
    ]


def find_documents_of(segments: Sequence[Segment], documents: Sequence[Segment]) -> npt.NDArray[np.int64]:
    """(S,) int64: the document that contains each segment, or -1. The documents may have any order, but no overlap."""
    if not documents:
        return np.full(len(segments), -1, dtype=np.int64)
    order = np.argsort([document.start for document in documents], kind="stable")
    starts = np.array([documents[d].start for d in order])
    stops = np.array([documents[d].stop for d in order])
    places = np.searchsorted(starts, [segment.start for segment in segments], side="right") - 1
    inside = (places >= 0) & (np.array([segment.stop for segment in segments]) <= stops[places])
    return np.where(inside, order[places], -1)
