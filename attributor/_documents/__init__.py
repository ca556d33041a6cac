"""Documents as users have them: a text with a title and metadata, and its place in a prompt.

`parse_documents` makes `Document`s of strings, pairs, dicts, objects of other libraries, files and folders. A
`PlacedDocument` is a `Document` in a prompt's text: it maps characters of the prompt back to the document's own.
"""

from attributor._documents.document import Document, PlacedDocument, PromptText, page_of
from attributor._documents.files import make_document, read_files, read_text
from attributor._documents.parse import parse_documents
from attributor._documents.place import keep_places, place_documents

__all__ = [
    "Document",
    "PlacedDocument",
    "PromptText",
    "keep_places",
    "make_document",
    "page_of",
    "parse_documents",
    "place_documents",
    "read_files",
    "read_text",
]
