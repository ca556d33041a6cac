"""Reads and checks the fields of an example; an error names the field."""

from collections.abc import Mapping
from typing import Any

from attributor.eval.data._question import Document

__all__ = [
    "Example",
    "FieldError",
    "build_documents",
    "check_list",
    "check_text",
    "read_id",
    "read_pairs",
    "read_text",
]

Example = Mapping[str, Any]


class FieldError(Exception):
    """A field of an example that cannot be used, and the reason. This package catches it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def check_text(field: str, value: Any, *, empty: bool = False) -> str:
    """Return the value if it is text that UTF-8 can encode, and neither empty nor blank unless `empty` is set.

    Raises:
        FieldError: it is not such text.
    """
    if not isinstance(value, str):
        raise FieldError(field, "is missing" if value is None else f"must be text, got {type(value).__name__}")
    if not empty and not value.strip():
        raise FieldError(field, "is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FieldError(field, f"holds a character that is no valid UTF-8, at {error.start}") from None
    return value


def read_text(example: Example, field: str, *, default: str | None = None) -> str:
    """Return a text field without surrounding white space; `default`, if given, for a missing, null or blank field.

    Raises:
        FieldError: it is not text, or missing without a default.
    """
    value = example.get(field)
    if default is not None and (value is None or (isinstance(value, str) and not value.strip())):
        return default
    return check_text(field, value).strip()


def read_id(example: Example, *names: str) -> str:
    """Return the example's id from the first of these fields that it has; a whole number is converted to text.

    Raises:
        FieldError: it has none of the fields, or the id is neither text nor a whole number.
    """
    name = next((name for name in names if example.get(name) is not None), names[0])
    value = example.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return check_text(name, value).strip()


def check_list(field: str, value: Any) -> list[Any]:
    """Return the value if it is a list.

    Raises:
        FieldError: it is not a list.
    """
    if not isinstance(value, list):
        raise FieldError(field, "is missing" if value is None else f"must be a list, got {type(value).__name__}")
    return value


def read_pairs(example: Example, field: str, first: str, second: str) -> list[tuple[Any, Any]]:
    """Return the pairs of a field: {first: [...], second: [...]} with equal lengths, or a list of [first, second].

    Raises:
        FieldError: the field has another form.
    """
    value = example.get(field)
    if isinstance(value, dict):
        left, right = (check_list(f"{field}.{name}", value.get(name)) for name in (first, second))
        if len(left) != len(right):
            raise FieldError(field, f"has {len(left)} of {first} but {len(right)} of {second}")
        return list(zip(left, right, strict=True))
    for number, item in enumerate(check_list(field, value)):
        if not isinstance(item, list) or len(item) != 2:
            raise FieldError(f"{field}[{number}]", f"must be [{first}, {second}], got {str(item)[:40]}")
    return [(a, b) for a, b in check_list(field, value)]


def build_documents(
    field: str, paragraphs: list[tuple[str, tuple[str, ...]]], notes: list[FieldError]
) -> tuple[tuple[Document, ...], list[int | None]]:
    """Build a document of each paragraph with text.

    The second result is the index of each paragraph's document: None for a paragraph without text, which is noted.

    Raises:
        FieldError: no paragraph has text.
    """
    documents: list[Document] = []
    places: list[int | None] = []
    for number, (title, pieces) in enumerate(paragraphs):
        if any(piece.strip() for piece in pieces):
            places.append(len(documents))
            documents.append(Document(title, pieces))
        else:
            places.append(None)
            notes.append(FieldError(f"{field}[{number}]", f"{title!r} has no text and was left out"))
    if not documents:
        raise FieldError(field, "has no paragraph with text")
    return tuple(documents), places
