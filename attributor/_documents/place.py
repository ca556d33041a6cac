"""Find documents in the text of a prompt that `build_prompt` did not build."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, Literal, get_args

from attributor._checks import shorten_value
from attributor._documents.document import Document, PlacedDocument, PromptText
from attributor._documents.parse import ACCEPTED, list_documents, parse_document
from attributor._errors import InputError
from attributor._text import Segment, find_segment

__all__ = ["keep_places", "place_documents"]

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
Span = tuple[int, int]


def place_documents(text: str, documents: Any) -> tuple[PlacedDocument, ...]:
    """The places of documents in a prompt's text, in the order of the documents.

    Each document's text must occur in the prompt as often as in the list; equal documents are placed in order.
    Occurrences inside a longer document do not count.

    Args:
        text: the prompt.
        documents: as `parse_documents` takes them; or (start, stop) characters of `text`, or `Segment`s.

    Raises:
        InputError: a document that is empty, or that occurs in the text more or less often than in the list; spans that
            leave the text or overlap; and as `parse_documents`.
    """
    entries: list[Segment | Document] = []
    for number, item in enumerate(list_documents(documents), 1):
        if _is_span(item):
            entries.append(find_segment(text, item, f"document {number}"))
        else:
            accepted = f"(start, stop) characters of the prompt, {ACCEPTED}"
            entries += parse_document(item, f"document {number}", accepted)
    spans = {i: (entry.start, entry.stop) for i, entry in enumerate(entries) if isinstance(entry, Segment)}
    _check_overlap(spans)
    bodies = {i: _form_in_text(entry, text) for i, entry in enumerate(entries) if isinstance(entry, Document)}
    places = _find_places(text, {i: body.text for i, body in bodies.items()}, list(spans.values()))
    return tuple(
        _place_segment(text, entry, index)
        if isinstance(entry, Segment)
        else _place_document(entry, bodies[index], places[index], index)
        for index, entry in enumerate(entries)
    )


def _is_span(item: Any) -> bool:
    if isinstance(item, Segment):
        return True
    if isinstance(item, str | Mapping):
        return False
    try:
        return len([operator.index(bound) for bound in item]) == 2
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a meta tensor
        return False


def _check_overlap(spans: Mapping[int, Span]) -> None:
    for (i, first), (j, second) in pairwise(sorted(spans.items(), key=lambda item: item[1])):
        if second[0] < first[1]:
            raise InputError(
                f"document {i + 1} (characters {first[0]} to {first[1]}) and document {j + 1} ({second[0]} to "
                f"{second[1]}) overlap; every character may belong to one document only"
            )


def keep_places(text: str, segments: Sequence[Segment]) -> tuple[PlacedDocument, ...]:
    """The documents of a flow as `PlacedDocument`s; a plain segment becomes a document of the text in its place.

    A `PlacedDocument` keeps its `index`, even if documents before it were left out.
    """
    return tuple(
        segment if isinstance(segment, PlacedDocument) else _place_segment(text, segment, index)
        for index, segment in enumerate(segments)
    )


def _place_segment(text: str, segment: Segment, index: int) -> PlacedDocument:
    if not isinstance(segment, PlacedDocument):
        segment = PlacedDocument.of_span(text, segment.start, segment.stop, label=segment.label)
        if segment.label == f"document {index + 1}":  # what build_prompt calls a document without a title
            segment = replace(segment, source=replace(segment.source, title=""))
    return replace(segment, document=index, index=index)


def _place_document(source: Document, body: PromptText, start: int, index: int) -> PlacedDocument:
    return PlacedDocument(
        start=start,
        stop=start + len(body.text),
        text=body.text,
        label=source.title or None,
        document=index,
        source=source,
        index=index,
        body=start,
        boundaries=body.boundaries,
    )


def _form_in_text(document: Document, text: str) -> PromptText:
    """The body in the form that occurs in the text: normalised or original line ends, in any Unicode form."""
    bodies = (PromptText.of(document), PromptText.verbatim(document))
    in_forms = (body.in_form(form) for form in get_args(Form) for body in bodies)
    return next((body for body in chain(bodies, in_forms) if body.text in text), bodies[0])


def _find_places(text: str, contents: Mapping[int, str], taken: list[Span]) -> dict[int, int]:
    """Where each document begins, the longest ones first.

    Args:
        text: the prompt.
        contents: the documents' texts by number.
        taken: characters that belong to other documents.
    """
    places: dict[int, int] = {}
    for content in sorted(dict.fromkeys(contents.values()), key=len, reverse=True):
        same = [i for i, other in contents.items() if other == content]
        starts = _find_free(text, content, taken)
        if len(starts) != len(same):
            raise _count_error(content, same, starts, text)
        places |= dict(zip(same, starts, strict=True))
        taken = taken + [(start, start + len(content)) for start in starts]
    return places


def _find_free(text: str, content: str, taken: Sequence[Span]) -> list[int]:
    """Where the content occurs in the text outside of `taken`, from left to right, without overlap."""
    starts: list[int] = []
    at = text.find(content)
    while at >= 0:
        stop = at + len(content)
        free = all(stop <= a or b <= at for a, b in taken)
        starts += [at] if free else []
        at = text.find(content, stop if free else at + 1)
    return starts


def _count_error(content: str, same: Sequence[int], starts: Sequence[int], text: str) -> InputError:
    name = f"document {same[0] + 1}" if len(same) == 1 else f"documents {', '.join(str(i + 1) for i in same)}"
    quote = shorten_value(content, 60)
    advice = "give its (start, stop) characters of flow.text instead"
    if not starts:
        inside = ", except inside another document" if content in text else ""
        return InputError(f"{name} is not in the prompt's text{inside}: {quote}; {advice}")
    if len(same) == 1:
        return InputError(f"{name} is in the prompt's text more than once, at characters {starts}: {quote}; {advice}")
    return InputError(
        f"{name} have the same text, which stands in the prompt {len(starts)} times: {quote}; give their (start, stop) "
        "characters of flow.text instead"
    )
