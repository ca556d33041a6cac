"""Read documents from files and folders."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from attributor._documents.document import FORM_FEED, Document
from attributor._documents.pdf import read_pages
from attributor._errors import InputError

__all__ = ["DOCUMENT_FILES", "make_document", "read_files", "read_text"]

STDIN = Path("-")
DOCUMENT_FILES = (".txt", ".md", ".pdf")
PDF = b"%PDF"
UTF_16 = "is not UTF-8 text but looks like UTF-16; convert it first, for example by iconv -f utf-16 -t utf-8"
NO_TEXT = {  # by the first bytes of a file
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    PDF: "is a PDF, not text; extract its text first, for example by pdftotext",
    b"PK\x03\x04": "is a zip archive or an office document, not text; save it as plain text first",
}
LINE_END = re.compile(r"\r\n?|\n")
NAMES_SHOWN = 10
Kind = Literal["document", "folder", "other"]


def read_files(paths: Iterable[Path], *, stdin: bool = False) -> tuple[tuple[Document, ...], tuple[str, ...]]:
    """The documents that files hold, and notes on what was not read.

    Text is decoded and a byte order mark is dropped; nothing else changes. Pages of a PDF are joined by form feeds.
    Titles are those of `make_document`; of a PDF, the file's name.

    Args:
        paths: of files, and of folders, whose .txt, .md and .pdf files are read in the order of their names. Subfolders
            are not read.
        stdin: whether "-" is standard input.

    Returns:
        The documents, each with the metadata {"path": ...}; and notes that name the files of a folder that were not
        read, and the pages of a PDF without text. Hidden files are not named.

    Raises:
        InputError: a file that cannot be read, is empty or holds no text; a folder without documents.
    """
    documents: list[Document] = []
    notes: list[str] = []
    for path in paths:
        files, folder_notes = _list_folder(path) if os.path.isdir(path) else ([path], [])
        notes += folder_notes
        for file in files:
            document, file_notes = _read_file(file, stdin)
            documents.append(document)
            notes += file_notes
    return tuple(documents), tuple(notes)


def read_text(path: Path, *, stdin: bool = False) -> str:
    """The unchanged text of a file, without a byte order mark.

    Args:
        path: of the file.
        stdin: whether "-" is standard input.

    Raises:
        InputError: a file that cannot be read, is empty, or is not UTF-8 text.
    """
    return _decode(_read_bytes(path, stdin), _name(path, stdin))


def make_document(text: str, path: Path, name: str | None = None) -> Document:
    """The document of a text file; its title is the first line if that ends in a colon and more text follows.

    Args:
        text: of the file.
        path: of the file.
        name: the title of a file without a title line; None: the file's name without its suffix.
    """
    metadata = {"path": str(path)}
    start = len(text) - len(text.lstrip())
    if line_end := LINE_END.search(text, start):
        line = text[start : line_end.start()].rstrip()
        if len(line) > 1 and line.endswith(":") and text[line_end.end() :].strip():
            return Document(text, line[:-1].rstrip(), metadata, line_end.end())
    return Document(text, name or _title_of(path), metadata)


def _list_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that are documents, and notes on the other ones."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from error
    by_kind: dict[Kind, list[Path]] = {"document": [], "folder": [], "other": []}
    for entry in entries:
        by_kind[_kind_of(entry)].append(entry)
    files, folders, others = by_kind["document"], by_kind["folder"], by_kind["other"]
    suffixes = f"{', '.join(DOCUMENT_FILES[:-1])} or {DOCUMENT_FILES[-1]}"
    if not files:
        inside = f"; it holds {_names(others + folders)}" if others or folders else ""
        raise InputError(f"{folder} is a folder without {suffixes} files{inside}")
    notes = []
    if others:
        what = "1 file" if len(others) == 1 else f"{len(others)} files"
        verbs = "was not read, it is" if len(others) == 1 else "were not read, they are"
        notes.append(f"{what} in {folder} {verbs} no {suffixes}: {_names(others)}")
    if folders:
        what = "1 folder in" if len(folders) == 1 else f"{len(folders)} folders in"
        notes.append(f"{what} {folder} {'was' if len(folders) == 1 else 'were'} not read: {_names(folders)}")
    return files, notes


def _kind_of(entry: Path) -> Kind:
    if os.path.isdir(entry):
        return "folder"
    readable = os.path.isfile(entry) or os.path.islink(entry)  # reading a broken link raises an error
    return "document" if readable and entry.suffix.lower() in DOCUMENT_FILES else "other"


def _names(entries: Sequence[Path]) -> str:
    names = [entry.name for entry in entries[:NAMES_SHOWN]]
    more = len(entries) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _read_file(path: Path, stdin: bool) -> tuple[Document, list[str]]:
    data, name = _read_bytes(path, stdin), _name(path, stdin)
    title = "document" if stdin and path == STDIN else _title_of(path)
    if not data.startswith(PDF) and path.suffix.lower() != ".pdf":
        return make_document(_decode(data, name), path, title), []
    pages = read_pages(data, name)
    blank = [str(number) for number, page in enumerate(pages, 1) if not page.strip()]
    notes = [f"{len(blank)} of {len(pages)} pages of {name} hold no text: {', '.join(blank)}"] if blank else []
    return Document(FORM_FEED.join(pages), title, {"path": str(path)}), notes


def _title_of(path: Path) -> str:
    return path.stem.replace("_", " ")


def _name(path: Path, stdin: bool) -> str:
    return "standard input" if stdin and path == STDIN else str(path)


def _read_bytes(path: Path, stdin: bool) -> bytes:
    try:
        return sys.stdin.buffer.read() if stdin and path == STDIN else path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {_name(path, stdin)}: {error.strerror or error}") from error


def _decode(data: bytes, name: str) -> str:
    for magic, reason in NO_TEXT.items():
        if data.startswith(magic):
            raise InputError(f"{name} {reason}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{data[error.start]:02x}"
        raise InputError(
            f"{name} is not UTF-8 text ({byte}); convert it first, for example by iconv -f latin1 -t utf-8"
        ) from None
    if "\0" in text[:4]:  # every second byte of ASCII in UTF-16
        raise InputError(f"{name} {UTF_16}")
    if not text.strip():
        raise InputError(f"{name} is empty")
    return text
