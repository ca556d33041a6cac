"""Reads the examples of a local file: a JSON list, {"data": [...]} or JSON lines, detected from its first bytes."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from attributor._errors import InputError
from attributor._io import OLD_MAC, describe_special_file, has_old_mac_lines, shorten_path
from attributor.eval.data._fields import FieldError

__all__ = ["read_examples"]

CHUNK = 1 << 20  # characters of a JSON list that are read at once; with a limit the rest is not read
WHITE = re.compile(r"[ \t\r\n]*")
BOM = b"\xef\xbb\xbf"
WORKS = 'a .json file (a list of rows, or {"data": [...]}) or a .jsonl file (one row a line), in UTF-8'
KNOWN = {
    b"\x1f\x8b": "is compressed (gzip); unpack it first",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"PAR1": "is a Parquet file",
    b"\xff\xfe": "is not UTF-8 but looks like UTF-16",
    b"\xfe\xff": "is not UTF-8 but looks like UTF-16",
}


def read_examples(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (number, example): the line of a .jsonl file or the place in a list, from 1; blank lines are skipped.

    If an example cannot be read, a FieldError with the reason is yielded instead of it, and the next examples follow.
    After a broken place of a JSON list nothing can be read, and the last FieldError says so.

    Raises:
        InputError: the file is missing, a folder or empty, or holds nothing that looks like examples.
    """
    shown = shorten_path(path)
    try:
        problem = describe_special_file(path)
        if problem == "is a folder":
            inside = sorted(p.name for p in path.iterdir() if p.suffix in (".json", ".jsonl"))
            listing = f"; in it: {', '.join(inside[:5])}" if inside else ""
            raise InputError(f"{shown} is a folder; name {WORKS}{listing}")
        if problem is not None:
            raise InputError(f"{shown} {problem}; name {WORKS}")
        head = _head(path)
        for magic, reason in KNOWN.items():
            if head.startswith(magic):
                raise InputError(f"{path} {reason}; what works is {WORKS}")
        head = head.removeprefix(BOM).lstrip()
        if b"\0" in head[:4]:  # ASCII in UTF-16 has a 0 in every second byte
            raise InputError(f"{path} is not UTF-8 but looks like UTF-16 or UTF-32; what works is {WORKS}")
        if not head:
            raise InputError(f"{path} is empty; name {WORKS}")
        if head.startswith(b"["):
            yield from _list(path)
        elif path.suffix.lower() == ".jsonl" or head.startswith(b"{"):
            yield from _objects(path)
        else:
            raise InputError(f"{path} begins with {head[:20]!r}, which is not JSON; name {WORKS}")
    except FileNotFoundError:
        raise InputError(f"there is no file {shown}; name {WORKS}") from None
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror or error}") from error


def _head(path: Path) -> bytes:
    """Read the beginning of the file, up to the first block with more than white space."""
    with path.open("rb") as file:
        head = file.read(4096)
        while not head.removeprefix(BOM).strip() and (more := file.read(4096)):
            head = more
    return head


def _list(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON list, read in pieces; bytes that are not UTF-8 become lone surrogates."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        buffer, size, number = file.read(CHUNK), CHUNK, 1
        at = buffer.find("[") + 1  # white space may fill the first piece
        while not at:
            buffer = file.read(CHUNK)
            at = buffer.find("[") + 1
        while True:
            start = _skip(buffer, at)
            try:
                if number == 1 and buffer[start] == "]":
                    return
                example, stop = decode(buffer, start)
                stop = _skip(buffer, stop)
                mark = buffer[stop]
                if mark not in ",]":
                    raise json.JSONDecodeError("Expecting ',' delimiter", buffer, stop)
            except (ValueError, IndexError, RecursionError) as error:  # broken, or not read completely yet
                more = file.read(size)
                if not more:
                    reason = "the file ends too early" if isinstance(error, IndexError) else _explain(error, start)
                    yield number, FieldError("row", f"{reason}; the rest of the list cannot be read")
                    return
                buffer, at, size = buffer[start:] + more, 0, 2 * size
                continue
            yield number, example
            if mark == "]":
                return
            at, size, number = stop + 1, CHUNK, number + 1


def _skip(buffer: str, at: int) -> int:
    match = WHITE.match(buffer, at)
    return match.end() if match else at


def _objects(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the examples of JSON lines, or of one object with the list under "data"."""
    first = [example for _, example in islice(_lines(path), 2)]
    if len(first) == 1 and isinstance(first[0], dict) and isinstance(first[0].get("data"), list):
        yield from enumerate(first[0]["data"], 1)
    elif path.suffix.lower() == ".jsonl" or any(isinstance(example, dict) for example in first):
        yield from _lines(path)
    else:  # an object over several lines
        try:
            content = json.loads(path.read_bytes().decode("utf-8-sig", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} cannot be read: it {_explain(error)}; name {WORKS}") from None
        examples = content.get("data") if isinstance(content, dict) else None
        if not isinstance(examples, list):
            raise InputError(f"{path} holds one object with {', '.join(content)[:80]}; name {WORKS}")
        yield from enumerate(examples, 1)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(BOM).strip() if number == 1 else line.strip()
            if line:
                example = _parse(line)
                if isinstance(example, FieldError) and has_old_mac_lines(line):
                    raise InputError(f"{path}, line {number}: {OLD_MAC}")
                yield number, example


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return FieldError("row", f"is not UTF-8, at byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return FieldError("row", _explain(error))


def _explain(error: Exception, start: int = 0) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is broken JSON, {error.pos - start} characters in ({error.msg})"
    return f"is JSON that cannot be read ({error})"
