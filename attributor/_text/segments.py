"""Split a text into sentences, find documents in it, and assign tokens to them, all by character offsets.

A character is a Unicode code point, as Python counts them; spans are half-open, ``text[start:stop]``.
"""

import itertools
import operator
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._checks import shorten_value
from attributor._errors import InputError
from attributor._text.offsets import token_offsets

__all__ = [
    "Segment",
    "SegmentLike",
    "assign_tokens",
    "find_documents",
    "find_segment",
    "find_segments",
    "is_segment_list",
    "split_sentences",
    "token_offsets",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a text: ``text[start:stop]``, perhaps with a label, perhaps inside a document.

    Attributes:
        start: the first character.
        stop: the character after the last.
        text: the piece itself.
        label: a name to show, such as a document's title.
        document: the index of the document that contains the piece; None outside of all documents.
    """

    start: int
    stop: int
    text: str
    label: str | None = None
    document: int | None = None


SegmentLike = Segment | str | tuple[int, int]


def find_documents(text: str, documents: Sequence[SegmentLike]) -> tuple[Segment, ...]:
    """Documents as spans of the text, numbered in the order given.

    Args:
        text: the prompt.
        documents: Segments, (start, stop) characters, or strings that occur exactly once in the text, perhaps in
            another Unicode form (NFC, NFD, NFKC or NFKD).

    Raises:
        InputError: a string that is not found or found twice, a span that is empty, out of range or overlaps another.
    """
    spans = find_segments(text, documents, what="document")
    return tuple(replace(s, document=index) for index, s in enumerate(spans))


def find_segments(
    text: str, segments: Sequence[SegmentLike], documents: Sequence[Segment] = (), what: str = "segment"
) -> tuple[Segment, ...]:
    """Segments as spans of the text, in the order given; none may be empty or overlap another.

    Raises:
        InputError: a string that is not found or found twice, a span that is empty, out of range or overlaps another.
    """
    if not is_segment_list(segments):
        raise InputError(f"{what}s must be a list, got {_shorten(segments)}")
    spans = [find_segment(text, segment, f"{what} {index}") for index, segment in enumerate(segments)]
    order = sorted(range(len(spans)), key=lambda i: spans[i].start)
    for i, j in itertools.pairwise(order):
        if spans[j].start < spans[i].stop:
            raise InputError(
                f"{what} {i} (characters {spans[i].start} to {spans[i].stop}) and {what} {j} ({spans[j].start} to "
                f"{spans[j].stop}) overlap; every character may belong to one {what} only"
            )
    if not documents:
        return tuple(spans)
    return tuple(replace(s, document=_document_of(s, documents)) for s in spans)


def find_segment(text: str, segment: SegmentLike, name: str) -> Segment:
    """One segment as a span of the text.

    Raises:
        InputError: as :func:`find_segments`; the message uses `name`.
    """
    if isinstance(segment, str):
        segment = _form_in_text(segment, text)
        start = text.find(segment)
        if not segment or start < 0:
            raise InputError(
                f"{name} is not in the text: {_shorten(segment)}; give its (start, stop) characters instead"
            )
        again = text.find(segment, start + 1)
        if again >= 0:
            raise InputError(
                f"{name} is in the text more than once, at characters {start} and {again}: {_shorten(segment)}; "
                "give its (start, stop) instead"
            )
        return Segment(start, start + len(segment), segment)
    piece = segment if isinstance(segment, Segment) else None
    bounds: Any = segment if piece is None else (piece.start, piece.stop)
    try:
        start, stop = (operator.index(bound) for bound in bounds)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a meta tensor
        raise InputError(f"{name} must be a Segment, a string or (start, stop), got {shorten_value(segment)}") from None
    if piece is not None and not (isinstance(piece.text, str) and isinstance(piece.label, str | None)):
        raise InputError(f"text and label of {name} must be str, got {shorten_value(piece)}")
    if not 0 <= start < stop <= len(text):
        raise InputError(
            f"{name} spans characters {start} to {stop}; the text has {len(text)} and a span may not be empty"
        )
    if piece is not None and piece.text and piece.text != text[start:stop]:
        raise InputError(
            f"{name} says {_shorten(piece.text)} but characters {start} to {stop} of the text are "
            f"{_shorten(text[start:stop])}; the spans were made for another text"
        )
    if piece is None:
        return Segment(start, stop, text[start:stop])
    return replace(piece, start=start, stop=stop, text=text[start:stop])


def _form_in_text(segment: str, text: str) -> str:
    """The form of the segment that occurs in the text: itself, else one of its Unicode forms.

    Text of macOS files or of PDFs has accents as separate characters (NFD); many tokenizers compose them (NFC).
    """
    if segment in text:
        return segment
    forms = (unicodedata.normalize(form, segment) for form in ("NFC", "NFD", "NFKC", "NFKD"))
    return next((form for form in forms if form in text), segment)


def _document_of(segment: Segment, documents: Sequence[Segment]) -> int | None:
    for index, document in enumerate(documents):
        if document.start <= segment.start and segment.stop <= document.stop:
            return index
    return None


def is_segment_list(segments: Any) -> bool:
    """Whether it can be a list of segments; a text or a number cannot."""
    if isinstance(segments, (str, bytes)):
        return False
    try:
        iter(segments)
    except TypeError:  # a number, or a 0-dim tensor, which claims to be Iterable
        return False
    return True


def _shorten(what: Any, width: int = 60) -> str:
    if isinstance(what, str):
        return repr(what if len(what) <= width else what[: width - 1] + "…")
    return shorten_value(what, width)


def split_sentences(text: str, documents: Sequence[Segment] = ()) -> tuple[Segment, ...]:
    """Sentences of the text, without the white space around them, in order.

    A sentence never crosses a document's border or a blank line. With documents, only they are split: the template and
    the question around them belong to no sentence. The break of a wrapped line does not end a sentence.
    """
    areas: list[tuple[int, int, int | None]] = [(0, len(text), None)]
    if documents:
        areas = sorted((d.start, d.stop, index) for index, d in enumerate(documents))
    return tuple(
        Segment(start, stop, text[start:stop], None, document)
        for area_start, area_stop, document in areas
        for block_start, block_stop in _blocks(text, area_start, area_stop)
        for start, stop in _sentences(text[block_start:block_stop], block_start)
    )


BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[^\S\r\n]*(?:\r\n|\r|\n)\s*")
# A line break that only wraps a long line: no full stop before it, a word after it.
WRAP = re.compile(r"(?<=[^\n]{39}[\w,])\n(?=[ \t]*[a-z])|(?<=[^\n]{59}[\w,)])\n(?=\w)")
BLOCK = 50_000  # characters per call of the splitter, so that a fault affects only one block


def _blocks(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Split text[start:stop] at blank lines, and long paragraphs at their last line break."""
    at = start
    for blank in BLANK_LINE.finditer(text, start, stop):
        yield from _split_long_block(text, at, blank.start())
        at = blank.end()
    yield from _split_long_block(text, at, stop)


def _split_long_block(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while stop - start > BLOCK:
        end = start + BLOCK
        cut = max(text.rfind("\n", start, end), text.rfind(". ", start, end)) + 1 or end
        cut = end if cut <= start else cut
        yield start, cut
        start = cut
    if start < stop:
        yield start, stop


def _sentences(block: str, base: int) -> Iterator[tuple[int, int]]:
    for start, stop in _sentence_spans(block):
        piece = block[start:stop]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if left < right:
            yield base + start + left, base + start + right


def _sentence_spans(block: str) -> list[tuple[int, int]]:
    """Spans of sentences that partition the block, from the library; lines if its spans are unusable."""
    joined = WRAP.sub(lambda match: " " * len(match.group()), block)
    try:
        starts = [0, *(int(span.start) for span in _segmenter().segment_spans(joined))]
    except (
        RuntimeError,
        ValueError,
        IndexError,
        re.error,
    ):  # a fault of the rules on unusual text must not stop an attribution
        starts = []
    # Only the starts are used: a sentence ends at the next start, so no text is lost between them.
    starts = sorted(set(starts))
    starts = [
        a
        for a, b in itertools.pairwise([*starts, len(block)])
        if a == 0 or block[a - 1] == "\n" or _has_words(block[a:b])
    ]
    if not starts or starts[-1] >= len(block):
        starts = [0, *(m.end() for m in re.finditer(r"\n", block) if m.end() < len(block))]
    return list(zip(starts, [*starts[1:], len(block)], strict=True))


def _has_words(piece: str) -> bool:
    """Whether a sentence has words; the rules sometimes split marks such as ``.. .`` from their sentence."""
    return any(c.isalnum() for c in piece)


_SEGMENTERS: dict[str, Any] = {}


def _segmenter() -> Any:
    if "en" not in _SEGMENTERS:
        from sentencesplit import Segmenter  # imported here: its tables load slowly, and most calls need only tokens

        _SEGMENTERS["en"] = Segmenter(language="en")
    return _SEGMENTERS["en"]


def assign_tokens(offsets: npt.NDArray[np.int64], segments: Sequence[Segment]) -> npt.NDArray[np.int64]:
    """The segment of each token: (k,) indices, -1 for a token that no segment covers.

    A token belongs to the segment with the largest overlap, or to the first of equal ones. A token without characters
    belongs to the segment that contains its position.

    Args:
        offsets: (k, 2) character span of each token.
        segments: spans that do not overlap, in any order.
    """
    if not segments:
        return np.full(len(offsets), -1, dtype=np.int64)
    order = np.argsort([s.start for s in segments], kind="stable")
    starts = np.array([segments[i].start for i in order], dtype=np.int64)
    stops = np.array([segments[i].stop for i in order], dtype=np.int64)
    low, high = offsets[:, 0], np.maximum(offsets[:, 1], offsets[:, 0] + 1)
    candidate = np.searchsorted(stops, low, side="right")  # the first segment that ends after the token begins
    best = np.full(len(offsets), -1, dtype=np.int64)
    best_overlap = np.zeros(len(offsets), dtype=np.int64)
    active = np.flatnonzero(candidate < len(starts))
    while active.size:  # one round per segment that the longest token touches: one or two
        c = candidate[active]
        overlap = np.minimum(stops[c], high[active]) - np.maximum(starts[c], low[active])
        better = overlap > best_overlap[active]
        best[active[better]] = c[better]
        best_overlap[active[better]] = overlap[better]
        candidate[active] += 1
        active = active[(overlap > 0) & (candidate[active] < len(starts))]
    return np.where(best >= 0, order[best], -1)
