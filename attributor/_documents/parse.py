"""Convert the documents of users, in any accepted form, to `Document`s."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from attributor._checks import check_path, shorten_value
from attributor._documents.document import Document
from attributor._documents.files import DOCUMENT_FILES, read_files
from attributor._errors import InputError
from attributor._text import is_segment_list

__all__ = ["ACCEPTED", "list_documents", "parse_document", "parse_documents"]

ACCEPTED = (
    "a text, a (title, text) pair, a dict with its text under 'text', a Document, a document of LangChain or "
    "LlamaIndex, or a Path"
)
TEXT_KEYS = ("text", "content", "page_content", "snippet")


def parse_documents(documents: Any) -> tuple[Document, ...]:
    """The documents in the order given.

    Args:
        documents: a list of documents, or one by itself. A document is

            - a text, or a (title, text) pair;
            - a `Document`;
            - a dict with its text under "text", "content", "page_content" or "snippet", its title under "title" and the
              owner's data under "metadata", else under all other keys; or in the form of Cohere's or Anthropic's
              interface: {"id": ..., "data": {"text": ...}}, or {"type": "document", "source": {"type": "text", "data":
              ...}};
            - an object with the text `page_content` (LangChain) or the method `get_content` (LlamaIndex), and
              `metadata`, whose "title" is the title;
            - a path object (not a str) of a file, or of a folder whose .txt, .md and .pdf files are documents. Files of
            a folder
              that are not read are named in a warning.

    Raises:
        InputError: not a list of documents, or an item that is not a document; an empty document; a file that cannot be
            read.
    """
    items = enumerate(list_documents(documents), 1)
    return tuple(document for number, item in items for document in parse_document(item, f"document {number}"))


def list_documents(documents: Any) -> list[Any]:
    """The items of a list of documents; a single document becomes a list of one.

    Raises:
        InputError: neither a list nor a document; a set, which has no order; a table.
    """
    if isinstance(documents, str | Mapping | Document | os.PathLike) or _text_getter(documents):
        return [documents]
    if isinstance(documents, set | frozenset):
        raise InputError(f"documents must be a list, for a set has no order, got {shorten_value(documents)}")
    if hasattr(documents, "iterrows"):  # a pandas DataFrame, whose items are its column names
        raise InputError("documents must be a list, got a DataFrame; give its df.to_dict('records')")
    if not is_segment_list(documents):
        raise InputError(f"documents must be a list, got {shorten_value(documents)}")
    return list(documents)


def parse_document(item: Any, name: str, accepted: str = ACCEPTED) -> tuple[Document, ...]:
    """The document of one list item; all documents of a folder.

    Args:
        item: as in `parse_documents`.
        name: of the item, for errors.
        accepted: what the item may be, for errors.

    Raises:
        InputError: as `parse_documents`.
    """
    if isinstance(item, os.PathLike):
        documents, notes = read_files([check_path(item)])
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return documents
    document = _make_document(item, name)
    if document is None:
        raise InputError(f"{name} must be {accepted}, got {shorten_value(item)}")
    for part, value in (("text", document.text), ("title", document.title)):
        if not isinstance(value, str):
            raise InputError(f"the {part} of {name} must be a str, got {shorten_value(value)}")
    if not 0 <= document.body_start <= len(document.text):
        raise InputError(f"the body of {name} must begin in its text, got body_start {document.body_start}")
    if not isinstance(document.metadata, Mapping):
        raise InputError(f"the metadata of {name} must be a dict, got {shorten_value(document.metadata)}")
    if not document.text[document.body_start :].strip():
        raise InputError(f"{name}{f' ({document.title})' if document.title else ''} is empty")
    if _names_a_file(document.text):
        raise InputError(f"{name} is the name of a file or folder; give pathlib.Path({document.text!r}) instead")
    return (document,)


def _make_document(item: Any, name: str) -> Document | None:
    """The document, not checked yet; None if the item is not a document."""
    match item:
        case Document():
            return item
        case str():
            return Document(item)
        case tuple((str() | None as title, str(text))):
            return Document(text, title or "")
        case Mapping():
            return _of_dict(item, name)
    get_text = _text_getter(item)
    if get_text is None:
        return None
    metadata = getattr(item, "metadata", None)
    return Document(get_text(), _title_in(metadata), {} if metadata is None else metadata)


def _text_getter(item: Any) -> Callable[[], Any] | None:
    """The function that returns the text of an object of LangChain or LlamaIndex; None for other objects."""
    if isinstance(item, type):
        return None
    if isinstance(getattr(item, "page_content", None), str):
        return lambda: item.page_content
    get_content = getattr(item, "get_content", None)
    return get_content if callable(get_content) else None


def _of_dict(item: Mapping[Any, Any], name: str) -> Document:
    fields = _unwrap(item, name)
    keys = [key for key in TEXT_KEYS if fields.get(key) is not None]
    if not keys:
        names = ", ".join(sorted(map(repr, item))) or "no keys"
        names = names if len(names) <= 80 else f"{names[:79]}…"
        raise InputError(f"{name} is a dict without text: give it under 'text'; it has {names}")
    if len(keys) > 1:
        raise InputError(f"{name} has text under {' and '.join(map(repr, keys))}; give it under one of them")
    metadata = fields.get("metadata")
    title = fields["title"] if "title" in fields else _title_in(metadata)
    if metadata is None:
        metadata = {key: value for key, value in fields.items() if key not in (*TEXT_KEYS, "title", "metadata")}
    return Document(fields[keys[0]], "" if title is None else title, metadata)


def _unwrap(item: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    """Flatten the nested dicts of Cohere's and Anthropic's documents."""
    data, source = item.get("data"), item.get("source")
    if item.get("type") == "document" and isinstance(source, Mapping):
        if source.get("type") != "text":
            raise InputError(f"{name} has a source of type {shorten_value(source.get('type'))}; only 'text' is read")
        return {**{key: value for key, value in item.items() if key != "source"}, "text": source.get("data")}
    if isinstance(data, Mapping) and not any(key in item for key in TEXT_KEYS):
        return {**data, **{key: value for key, value in item.items() if key != "data"}}
    return item


def _title_in(metadata: Any) -> str:
    """The title in the metadata; "" if there is none."""
    title = metadata.get("title") if isinstance(metadata, Mapping) else None
    return title if isinstance(title, str) else ""


def _names_a_file(text: str) -> bool:
    """Whether the text is only the name of a file or folder that exists."""
    if len(text) >= 256 or "\n" in text:
        return False
    return (text.lower().endswith(DOCUMENT_FILES) and os.path.isfile(text)) or (os.sep in text and os.path.isdir(text))
