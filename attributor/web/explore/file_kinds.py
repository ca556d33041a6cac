"""What a file or a folder is, told by its beginning: a run of `attributor eval`, a flow, the ancestor's JSON list."""

import json
from pathlib import Path
from typing import Any, Literal

from attributor._errors import AttributorError, FileFormatError
from attributor._io import FLOW, check_kind
from attributor.eval.store import CASES, FORMAT, RUN, VERSION
from attributor.web.http import ApiError, Place, opened

__all__ = ["OPENS", "Kind", "case_files", "kind_of_file", "kind_of_folder"]

Kind = Literal["run", "flow", "list"]
LONGEST_HEADER = 16_000_000  # bytes; safetensors itself allows 100 MB, and 100,000 documents take 5
BEGINNING = 8_000_000  # bytes of a list, for its first entry
RUN_BYTES = 64_000_000
OPENS = (
    "the explorer opens the folder of a run (attributor eval --out), a flow (.safetensors, from flow.save or "
    "attributor flow --save), and a JSON list of cases"
)


def kind_of_file(place: Place) -> tuple[Kind | None, str]:
    """What a file is; None with the reason where it is nothing that can be shown.

    Only its beginning is read, and no more of it than a bound, whatever lengths it claims.
    """
    try:
        with opened(place) as file:
            start = file.read(8)
            if not start:
                return None, "it is empty"
            if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
                return _list(start + file.read(BEGINNING))
            if start.lstrip().lower().startswith((b"<!doct", b"<html")):
                return None, "it is a web page, which any browser opens by itself"
            length = int.from_bytes(start, "little")
            size = file.seek(0, 2)
            if place.path.suffix != ".safetensors" and length > size - 8:
                return None, "it is of an unknown kind"
            if len(start) < 8 or length > min(LONGEST_HEADER, size - 8):
                return None, "it is not a flow file, or only the beginning of one"
            file.seek(8)
            return _flow(file.read(length))
    except ApiError as error:
        return None, error.message
    except OSError as error:
        return None, f"it cannot be read ({error.strerror or error})"


def _flow(header: bytes) -> tuple[Kind | None, str]:
    try:
        found = json.loads(header)
        metadata = found.get("__metadata__")
    except (ValueError, AttributeError, RecursionError):
        return None, "its safetensors header cannot be read"
    if not isinstance(metadata, dict) or metadata.get("format") != FLOW.format:
        return None, "it is a safetensors file without a flow in it, weights of a model perhaps"
    try:
        check_kind("it", {**metadata, "version": str(metadata.get("version"))})
    except FileFormatError as error:
        return None, str(error)
    return "flow", ""


def _list(beginning: bytes) -> tuple[Kind | None, str]:
    """The ancestor's list, [{case: {documents, ...}, generated_output, ...}, ...], by its first entry."""
    text = beginning.decode("utf-8-sig", "ignore").lstrip()[1:].lstrip()
    if text.startswith("]"):
        return None, "it is a JSON list without any case"
    try:
        first: Any = json.JSONDecoder().raw_decode(text)[0]
    except RecursionError:
        first = None
    except ValueError:
        whole = len(beginning) < BEGINNING
        return (None, "it is not whole, or not JSON") if whole else (None, "its first entry is too long to be a case")
    if isinstance(first, dict) and isinstance(first.get("case"), dict):
        return "list", ""
    return None, 'it is a JSON list of something other than cases, {"case": {"documents": ...}, ...}'


def kind_of_folder(place: Place) -> tuple[Literal["run"] | None, str]:
    """Whether a folder is that of a run; None with the reason, which is "" for a folder of something else."""
    there = Place.of(place.path / RUN, place.root)
    if there is None:
        return ("run", "") if case_files(place) else (None, "")
    try:
        with opened(there) as file:
            found = json.loads(file.read(RUN_BYTES))
    except (ApiError, OSError, ValueError, RecursionError):
        return None, f"its {RUN} cannot be read"
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None, f"its {RUN} does not describe a run of attributor eval"
    version = found.get("version", 0)
    if not isinstance(version, int) or version > VERSION:
        return None, f"its {RUN} is of version {str(version)[:20]}; this attributor reads up to {VERSION}"
    return "run", ""


def case_files(place: Place) -> list[Place]:
    """The files of a run's cases: cases.jsonl, and the parts of processes whose records nobody merged yet."""
    names = [CASES, *sorted(path.name for path in place.path.glob("cases.*.jsonl"))]
    found = [Place.of(place.path / name, place.root) for name in names]
    return [one for one in found if one is not None and one.path.is_file()]


def refuse(path: Path, why: str) -> AttributorError:
    """The sentence of the command line for what cannot be opened."""
    return AttributorError(f"cannot open {path}: {why}; {OPENS}")
