"""Make `Document`s of what users have."""

from collections.abc import Iterable, Mapping
from typing import Any

from attributor._checks import shorten_value
from attributor._documents.document import Document
from attributor._errors import InputError

__all__ = ["parse_documents"]

ACCEPTED = "a text, a (title, text) pair or a Document"


def parse_documents(documents: Any) -> tuple[Document, ...]:
    """The documents in the order given.

    Args:
        documents: texts, (title, text) pairs or `Document`s.

    Raises:
        InputError: no list of documents, or something in it that is none.
    """
    if isinstance(documents, str | Mapping) or not isinstance(documents, Iterable):
        raise InputError(f"documents must be a list, got {shorten_value(documents)}")
    return tuple(_parse_document(document, f"document {number}") for number, document in enumerate(documents, 1))


def _parse_document(document: Any, name: str) -> Document:
    match document:
        case Document():
            return document
        case str():
            return Document(document)
        case (str(title), str(text)):
            return Document(text, title)
    raise InputError(f"{name} must be {ACCEPTED}, got {shorten_value(document)}")
