"""Find documents in the text of a prompt that somebody else built."""

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from attributor._checks import shorten_value
from attributor._documents.document import Document, PlacedDocument, PromptText
from attributor._documents.parse import parse_documents
from attributor._errors import InputError
from attributor._text import Segment, find_segments, is_segment_list

__all__ = ["place_documents"]

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
Span = tuple[int, int]


def place_documents(text: str, documents: Any) -> tuple[PlacedDocument, ...]:
    """The places of documents in a prompt's text, in the order of the documents.

    Each document's text must stand in the prompt as often as it is in the list: equal documents are placed in order,
    and a document that also stands inside a longer one is found where it stands by itself.

    Args:
        text: the prompt.
        documents: as `parse_documents` takes them; or (start, stop) characters of `text`, or `Segment`s.

    Raises:
        InputError: a document that is empty, is not in the text, or is in it more often than in the list.
    """
    if is_segment_list(documents):
        documents = list(documents)
        if documents and all(_is_span(document) for document in documents):
            return tuple(
                segment if isinstance(segment, PlacedDocument) else _of_segment(text, segment, index)
                for index, segment in enumerate(find_segments(text, documents, what="document"))
            )
    sources = parse_documents(documents)
    bodies = [PromptText.of(source) for source in sources]
    for number, body in enumerate(bodies, 1):
        if not body.text:
            raise InputError(f"document {number} is empty")
    shown = [_in_text(body, text) for body in bodies]
    places: dict[int, int] = {}
    taken: list[Span] = []
    for content in sorted({body.text for body in shown}, key=len, reverse=True):
        same = [i for i, body in enumerate(shown) if body.text == content]
        starts = _find_free(text, content, taken)
        if len(starts) != len(same):
            raise _count_error(content, same, starts, text)
        places |= dict(zip(same, starts, strict=True))
        taken += [(start, start + len(content)) for start in starts]
    return tuple(
        PlacedDocument(
            start=places[index],
            stop=places[index] + len(body.text),
            text=body.text,
            label=source.title or None,
            document=index,
            source=source,
            index=index,
            body=places[index],
            boundaries=body.boundaries,
        )
        for index, (source, body) in enumerate(zip(sources, shown, strict=True))
    )


def _is_span(document: Any) -> bool:
    if isinstance(document, Segment):
        return True
    if isinstance(document, str | Document) or not isinstance(document, Sequence) or len(document) != 2:
        return False
    try:
        return all(isinstance(operator.index(bound), int) for bound in document)
    except TypeError:
        return False


def _of_segment(text: str, segment: Segment, index: int) -> PlacedDocument:
    return replace(PlacedDocument.of_span(text, segment.start, segment.stop, label=segment.label), index=index)


def _in_text(body: PromptText, text: str) -> PromptText:
    """The body as it stands in the text: as it is, else in the Unicode form that the tokenizer brings text to."""
    if body.text in text:
        return body
    forms = (body.in_form(form) for form in get_args(Form))
    return next((form for form in forms if form.text in text), body)


def _find_free(text: str, content: str, taken: Sequence[Span]) -> list[int]:
    """Where the content stands in the text outside of `taken`, from left to right, without overlap."""
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
        inside = ", except inside a longer document" if content in text else ""
        return InputError(f"{name} is not in the prompt's text{inside}: {quote}; {advice}")
    if len(same) == 1:
        return InputError(f"{name} is in the prompt's text more than once, at characters {starts}: {quote}; {advice}")
    return InputError(
        f"{name} have the same text, which stands in the prompt {len(starts)} times: {quote}; give their (start, stop) "
        "characters of flow.text instead"
    )
