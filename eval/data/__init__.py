"""The data sets by name, and their rows as questions. A new one is one file here; `_registry.py` says what it holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attributor._checks import check_path
from attributor._errors import InputError
from attributor.eval.data._fields import FieldError
from attributor.eval.data._hub import read_hub
from attributor.eval.data._question import Question
from attributor.eval.data._registry import DataSet, data_sets
from attributor.eval.data._rows import read_rows

__all__ = ["DataSet", "Loaded", "Problem", "Question", "data_sets", "load"]


@dataclass(frozen=True)
class Problem:
    """Something in a row that could not be used.

    Attributes:
        row: its line in a .jsonl file, its place in a list or in a split; from 1.
        id: the row's id, where it is known.
        field: where it is; "row" for all of the row.
        what: what is wrong with it.
    """

    row: int
    id: str | None
    field: str
    what: str

    def __str__(self) -> str:
        """One line, for people."""
        known = f" (id {self.id})" if self.id else ""
        where = "" if self.field == "row" else f" {self.field}:"
        return f"row {self.row}{known}:{where} {self.what}"


@dataclass(frozen=True)
class Loaded:
    """The questions of a data set.

    Attributes:
        questions: those that can be asked, in order; their ids are unique.
        problems: rows that could not be used.
        name: the data set's name in the registry.
        source: what to call the rows in reports: a file's name, or the public name with configuration and split.
        notes: what was left out of rows that are used: supporting facts that lead nowhere, paragraphs without text.
    """

    questions: tuple[Question, ...]
    problems: tuple[Problem, ...]
    name: str
    source: str
    notes: tuple[Problem, ...] = ()


def load(
    name: str,
    source: str | Path | None = None,
    *,
    config: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Loaded:
    """The questions of a data set, and which rows could not be used.

    Args:
        name: one of `data_sets()`.
        source: a local .json or .jsonl file; None for the data set on the hub, or the rows that are shipped.
        config: of the data set on the hub, such as "distractor"; None for its default.
        split: of the data set on the hub, such as "train"; None for its default.
        limit: how many rows to read, from the first; rows that cannot be used count.

    Raises:
        InputError: an unknown name, no source where one is needed, a file that is missing, empty or of another schema,
            a hub that cannot be reached, or no row that can be used.
    """
    known = data_sets()
    if not isinstance(name, str) or name not in known:
        raise InputError(f"unknown data set {name!r}; there are {', '.join(known)}")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise InputError(f"limit must be a whole number >= 1, or None for all rows, got {limit!r}")
    data_set = known[name]
    rows: Iterator[tuple[int, Any]]
    if data_set.file is not None:
        if source is not None:
            raise InputError(f"{name!r} is shipped and takes no source; for {source}, name the data set: hotpotqa ...")
        label, rows = name, read_rows(data_set.file)
    elif source is not None:
        path = check_path(source)
        label, rows = path.name, read_rows(path)
    elif not data_set.hub:
        raise InputError(f"{name} has no public name here: name its .json or .jsonl file (from {data_set.home})")
    else:
        first, second = data_set.default_split
        label, public = read_hub(data_set, config or first, split or second, limit)
        rows = enumerate(public, 1)
    return _collect(data_set, label, islice(rows, limit))


def _collect(data_set: DataSet, label: str, rows: Iterator[tuple[int, Any]]) -> Loaded:
    reader = data_set.reader()
    questions: dict[str, Question] = {}
    first_row: dict[str, int] = {}
    problems: list[Problem] = []
    notes: list[Problem] = []
    example: dict[str, Any] | None = None
    for number, row in rows:
        known = None
        try:
            if isinstance(row, FieldError):
                raise row
            if not isinstance(row, dict):
                raise FieldError("row", f"must be an object, got {type(row).__name__}")
            known = _known_id(row)
            if example is None:
                example = row
                _refuse_another(data_set, label, row)
            question, remarks = reader.question(row)
            if question.id in questions:
                raise FieldError("id", f"is that of row {first_row[question.id]} too")
        except FieldError as error:
            problems.append(Problem(number, known, error.field, error.what))
            continue
        questions[question.id] = question
        first_row[question.id] = number
        notes += [Problem(number, question.id, remark.field, remark.what) for remark in remarks]
    if not questions:
        raise InputError(_nothing(data_set, label, problems, example))
    return Loaded(tuple(questions.values()), tuple(problems), data_set.name, label, tuple(notes))


def _known_id(row: dict[str, Any]) -> str | None:
    value = row.get("id", row.get("_id"))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _refuse_another(data_set: DataSet, label: str, row: dict[str, Any]) -> None:
    """Raises InputError if the row is plainly one of another data set; two of one schema share its `recognises`."""
    own = data_set.reader().recognises
    for other in data_sets().values():
        recognises = other.reader().recognises
        if recognises is not own and recognises(row):
            raise InputError(f"{label} looks like {other.title}: use {other.name} instead of {data_set.name}")


def _nothing(data_set: DataSet, label: str, problems: list[Problem], example: dict[str, Any] | None) -> str:
    if not problems:
        return f"{label} holds no rows"
    wanted = f"a row of {data_set.name} needs {', '.join(data_set.fields)}"
    found = f"; the first has {', '.join(example)[:120] or 'no fields'}" if example is not None else ""
    return f"no row of {label} can be used, {len(problems)} tried; {problems[0]}; {wanted}{found}"
