"""Detects what a file or a folder holds: a run of `attributor eval`, a flow, or a JSON list of cases.

`ENDINGS` lists the endings of the files that the explorer opens.
"""

import json
from pathlib import Path
from typing import Any, Literal

from attributor._errors import FileFormatError
from attributor._io import FLOW_FILE, check_kind
from attributor.eval.store import CASE_PARTS, CASES, FORMAT, RUN, VERSION
from attributor.web.http import ApiError, RootedPath, open_file

__all__ = ["ENDINGS", "OPENS", "Kind", "detect_file_kind", "detect_folder_kind", "find_case_files", "is_run_file"]

Kind = Literal["run", "flow", "list"]
# webapp/src/open/endings.json has the same, for files that the page opens itself; tests/web/test_explore.py compares
ENDINGS: dict[Kind, tuple[str, ...]] = {"run": (".jsonl", ".json"), "flow": (".safetensors",), "list": (".json",)}
LONGEST_HEADER = 16_000_000  # bytes; safetensors itself allows 100 MB, and 100,000 documents take 5 MB
BEGINNING = 8_000_000  # bytes of a list that are read for its first entry
RUN_BYTES = 64_000_000
OPENS = (
    "the explorer opens the folder of a run (attributor eval --out), a flow (.safetensors, from flow.save or "
    "attributor flow --save), and a JSON list of cases"
)


def is_run_file(name: str) -> bool:
    """Whether a file of this name belongs to a run, whose folder is then opened: run.json, cases.jsonl, or a part."""
    return name == RUN or (name.startswith("cases") and name.endswith(Path(CASES).suffix))


def detect_file_kind(rooted_path: RootedPath) -> tuple[Kind | None, str]:
    """The kind of a file; None with the reason if it cannot be shown.

    Only its beginning is read, up to a fixed bound, whatever lengths the file states.
    """
    try:
        with open_file(rooted_path) as file:
            start = file.read(8)
            if not start:
                return None, "it is empty"
            if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
                return _detect_case_list(start + file.read(BEGINNING))
            if start.lstrip().lower().startswith((b"<!doct", b"<html")):
                return None, "it is a web page, which any browser opens by itself"
            length = int.from_bytes(start, "little")
            size = file.seek(0, 2)
            if rooted_path.path.suffix not in ENDINGS["flow"] and length > size - 8:
                return None, "it is of an unknown kind"
            if len(start) < 8 or length > min(LONGEST_HEADER, size - 8):
                return None, "it is not a flow file, or only the beginning of one"
            file.seek(8)
            return _detect_flow(file.read(length))
    except ApiError as error:
        return None, error.message
    except OSError as error:
        return None, f"it cannot be read ({error.strerror or error})"


def _detect_flow(header: bytes) -> tuple[Kind | None, str]:
    try:
        fields = json.loads(header)
        metadata = fields.get("__metadata__")
    except (ValueError, AttributeError, RecursionError):
        return None, "its safetensors header cannot be read"
    if not isinstance(metadata, dict) or metadata.get("format") != FLOW_FILE.format:
        return None, "it is a safetensors file without a flow in it, weights of a model perhaps"
    try:
        check_kind("it", {**metadata, "version": str(metadata.get("version"))})
    except FileFormatError as error:
        return None, str(error)
    return "flow", ""


def _detect_case_list(beginning: bytes) -> tuple[Kind | None, str]:
    """Detect a case list, [{case: {documents, ...}, generated_output, ...}, ...], by its first entry."""
    text = beginning.decode("utf-8-sig", "ignore").lstrip()[1:].lstrip()
    if text.startswith("]"):
        return None, "it is a JSON list without any case"
    try:
        first: Any = json.JSONDecoder().raw_decode(text)[0]
    except RecursionError:
        first = None
    except ValueError:
        is_all = len(beginning) < BEGINNING
        return None, "it is not whole, or not JSON" if is_all else "its first entry is too long to be a case"
    if isinstance(first, dict) and isinstance(first.get("case"), dict):
        return "list", ""
    return None, 'it is a JSON list of something other than cases, {"case": {"documents": ...}, ...}'


def detect_folder_kind(rooted_path: RootedPath) -> tuple[Literal["run"] | None, str]:
    """The kind of a folder: "run", or None with the reason, which is "" if the folder holds no run at all."""
    run_file = RootedPath.of(rooted_path.path / RUN, rooted_path.root)
    if run_file is None:
        return ("run", "") if find_case_files(rooted_path) else (None, "")
    try:
        with open_file(run_file) as file:
            run = json.loads(file.read(RUN_BYTES))
    except (ApiError, OSError, ValueError, RecursionError):
        return None, f"its {RUN} cannot be read"
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        return None, f"its {RUN} does not describe a run of attributor eval"
    version = run.get("version", 0)
    if not isinstance(version, int) or version > VERSION:
        return None, f"its {RUN} is of version {str(version)[:20]}; this attributor reads up to {VERSION}"
    return "run", ""


def find_case_files(rooted_path: RootedPath) -> list[RootedPath]:
    """The files of a run's cases: cases.jsonl, and the parts of several processes that are not merged into it yet."""
    names = [CASES, *sorted(path.name for path in rooted_path.path.glob(CASE_PARTS))]
    files = [RootedPath.of(rooted_path.path / name, rooted_path.root) for name in names]
    return [file for file in files if file is not None and file.path.is_file()]
