"""Reads run folders for a report, including unfinished and slightly damaged ones."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attributor._errors import FileFormatError, InputError
from attributor._io import OLD_MAC, has_old_mac_lines
from attributor._io import shorten_path as shorten_for_message
from attributor.eval.metrics import are_indices
from attributor.eval.store import CASE_PARTS, CASES, FORMAT, RUN, VERSION

__all__ = ["Run", "read_run", "shorten_method_name", "shorten_path"]

# The fields of a case that are read. Fields with text of a data set are left out.
FIELDS = (
    *("id", "status", "kind", "level", "em", "says", "f1", "verified"),
    *("tokens", "answer_tokens", "gold", "gold_documents"),
)
MEASURED = ("methods", "seconds_read", "seconds_plain", "peak_bytes", "faithfulness", "removals")
PATH = re.compile(r"(?:(?<=:)|^)(?:~|\.{1,2}|[A-Za-z]:)?[\\/](?:.*[\\/])?([^\\/]+)[\\/]?$", re.DOTALL)


@dataclass
class Run:
    """One run.

    Attributes:
        folder: its path.
        name: name of the folder.
        settings: what run.json says about the model, the data and the options; paths are cut to their last part.
        cases: the records without text, one a case.
        notes: problems that were found while reading.
        finished: whether run.json says that the run is done.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    cases: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    finished: bool = True


def read_run(folder: str | Path) -> Run:
    """Read a run folder: cases.jsonl, the unmerged parts of a shared run, and run.json where there is one.

    An unfinished last line is left out and noted; a missing run.json is noted too. If a case has several records, the
    last one is used.

    Raises:
        InputError: the folder does not exist.
        FileFormatError: it is not the folder of a run, or a record is not readable; the error names the line.
    """
    path = Path(folder)
    if not os.path.isdir(path):  # also False for invalid names of files
        inside = f"; give its folder, {path.parent}" if path.name in (RUN, CASES) else ""
        what = "is a file, not the folder of a run" if os.path.exists(path) else "does not exist"
        raise InputError(f"{shorten_for_message(path)} {what}{inside}")
    run = Run(path, path.resolve().name, {}, [])
    _read_settings(run)
    files = [file for file in (path / CASES, *sorted(path.glob(CASE_PARTS))) if file.is_file()]
    if not files:
        raise FileFormatError(f"{path} holds no cases.jsonl: not the folder of a run, or of one that has just begun")
    cases: dict[str, dict[str, Any]] = {}
    for file in files:
        for record in _records(file, run.notes):
            cases[record["id"]] = record
    run.cases = list(cases.values())
    if len(files) > 1:
        run.notes.append(f"{len(files) - 1} parts of a shared run were not merged yet; they are read all the same")
    return run


def _read_settings(run: Run) -> None:
    file = run.folder / RUN
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        run.finished = False
        run.notes.append("there is no run.json: the run was stopped, and its settings are not known")
        return
    except (OSError, ValueError, RecursionError) as error:
        run.finished = False
        run.notes.append(f"run.json is not readable, so the settings are not known ({_one_line(error)})")
        return
    if not isinstance(content, dict) or content.get("format", FORMAT) != FORMAT:
        raise FileFormatError(f"{file} does not describe a run of attributor eval")
    version = content.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION:
        raise FileFormatError(f"{file} is of version {version}; this attributor reads up to {VERSION}")
    if content.get("status", "done") != "done":
        run.finished = False
        run.notes.append("the run has not ended")
    config = content.get("config")
    settings = dict(config) if isinstance(config, Mapping) else {}
    settings |= {name: content[name] for name in ("device", "processes") if name in content}
    run.settings = {str(name): _shorten(value) for name, value in settings.items()}


def _shorten(value: Any) -> Any:
    if isinstance(value, str):
        return shorten_path(value)
    return [_shorten(item) for item in value] if isinstance(value, list) else value


def shorten_path(text: str) -> str:
    """Cut a path in the text, or at its end, to its last part, so that a report contains no paths."""
    if text.startswith(("http://", "https://")):
        return text
    return PATH.sub(lambda match: str(match[1]), text)


def shorten_method_name(name: str) -> str:
    """Cut a weights file in a method's name to its stem: flow:runs/heads.safetensors -> flow:heads."""
    kind, colon, argument = name.partition(":")
    if argument.endswith(".safetensors"):
        return kind + colon + argument.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors")
    return shorten_path(name)


def _records(file: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if has_old_mac_lines(line):
                        raise FileFormatError(f"{file}, line {number}: {OLD_MAC}") from error
                    if not line.endswith(b"\n"):  # only the last line can lack its end, when the run was killed
                        notes.append(f"the last line of {file.name} was not finished; that case is left out")
                        return
                    raise FileFormatError(f"{file}, line {number}: not JSON ({_one_line(error)})") from error
                yield _select_numbers(record, f"{file}, line {number}")
    except OSError as error:
        raise FileFormatError(f"{file} is not readable: {error.strerror or error}") from error


def _select_numbers(record: Any, where: str) -> dict[str, Any]:
    """Select the numbers of a record.

    Raises:
        FileFormatError: it is not a record; the error names the field.
    """
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise FileFormatError(f"{where}: not the record of a case: an object with an id is due")
    if record.get("status") not in ("done", "skipped", "failed"):
        raise FileFormatError(f"{where}: status must be done, skipped or failed, got {record.get('status')!r}")
    numbers = {name: record.get(name) for name in FIELDS + MEASURED}
    for name in ("segments", "documents"):
        spans = record.get(name) or []
        if not isinstance(spans, list):
            raise FileFormatError(f"{where}: {name} must be a list, got {type(spans).__name__}")
        numbers[name] = [None] * len(spans)  # only their number, because the titles are text
    for name in ("gold", "gold_documents"):
        if not isinstance(numbers[name] or [], list) or not are_indices(numbers[name] or [], 2**31):
            raise FileFormatError(f"{where}: {name} must be a list of different indices")
    numbers["methods"], names = _methods(numbers["methods"] or {}, where)
    _check_removals(numbers["removals"], len(numbers["documents"] or ()), where)
    measured = numbers["faithfulness"]
    if measured is not None:
        fits = isinstance(measured, dict) and all(isinstance(measured.get(k) or {}, dict) for k in ("drops", "lds"))
        if not fits:
            raise FileFormatError(f"{where}: faithfulness must be null or hold the objects drops and lds")
        numbers["faithfulness"] = measured | {
            key: {names.get(name, name): value for name, value in (measured.get(key) or {}).items()}
            for key in ("drops", "lds")
        }
    return numbers


def _check_removals(removals: Any, documents: int, where: str) -> None:
    """Raise FileFormatError if these are not the removals of a case."""
    if removals is None:
        return
    try:
        sets, log_probs = removals["sets"], removals["log_probs"]
        numbers = [*log_probs, removals["full"], removals["without_documents"]]
        fits = len(sets) == len(log_probs) and all(isinstance(number, int | float) for number in numbers)
        fits = fits and all(are_indices(indices, documents) for indices in (*sets, removals["planted"]))
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise FileFormatError(
            f"{where}: removals must be null or hold planted, sets of documents, a log-probability for each set, full "
            "and without_documents"
        )


def _methods(methods: Any, where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the methods by the names of the report, and the report's name for each original name."""
    fits = isinstance(methods, dict) and all(
        isinstance(record, dict) and all(isinstance(record.get(key) or {}, dict) for key in ("scores", "documents"))
        for record in methods.values()
    )
    if not fits:
        raise FileFormatError(f"{where}: methods must hold an object with scores and documents for every method")
    names = {name: shorten_method_name(name) for name in methods}
    if len(set(names.values())) < len(names):  # two files with the same name in two folders
        names = {name: name for name in methods}
    return {names[name]: record for name, record in methods.items()}, names


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
