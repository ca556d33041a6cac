"""The data sets by name, and their rows as questions. A new one is one file: a row -> a Question, and a line here."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attributor._checks import check_path
from attributor._errors import InputError
from attributor.eval.data import hotpotqa, musique, two_wiki
from attributor.eval.data._rows import read_rows
from attributor.eval.data._schema import FieldError, Schema
from attributor.eval.question import Question

__all__ = ["NAMES", "Loaded", "Problem", "load"]

SCHEMAS: dict[str, Schema] = {
    "hotpotqa": hotpotqa.SCHEMA,
    "2wiki": two_wiki.SCHEMA,
    "musique": musique.SCHEMA,
    "sample": hotpotqa.SCHEMA,
}
NAMES = tuple(SCHEMAS)
SAMPLE = Path(__file__).parent / "sample.jsonl"


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
    config: str = "distractor",
    split: str = "validation",
    limit: int | None = None,
) -> Loaded:
    """The questions of a data set, and which rows could not be used.

    Args:
        name: one of `NAMES`.
        source: a local .json or .jsonl file; None for the public data set (HotPotQA), or the sample that is shipped.
        config: of the public data set: "distractor" or "fullwiki".
        split: of the public data set: "train", "validation" ...
        limit: how many rows to read, from the first; rows that cannot be used count.

    Raises:
        InputError: an unknown name, no source where one is needed, a file that is missing, empty or of another schema,
            a hub that cannot be reached, or no row that can be used.
    """
    if not isinstance(name, str) or name not in SCHEMAS:
        raise InputError(f"unknown data set {name!r}; there are {', '.join(NAMES)}")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise InputError(f"limit must be a whole number >= 1, or None for all rows, got {limit!r}")
    schema = SCHEMAS[name]
    rows: Iterator[tuple[int, Any]]
    if name == "sample":
        if source is not None:
            raise InputError(f"'sample' is shipped and takes no source; for {source}, name the data set: hotpotqa ...")
        label, rows = "sample", read_rows(SAMPLE)
    elif source is not None:
        path = check_path(source)
        label, rows = path.name, read_rows(path)
    elif schema.hub is None:
        raise InputError(f"{name} has no public name here: name its .json or .jsonl file (from {schema.home})")
    else:
        label, public = schema.hub(config, split, limit)
        rows = enumerate(public, 1)
    return _collect(name, label, islice(rows, limit))


def _collect(name: str, label: str, rows: Iterator[tuple[int, Any]]) -> Loaded:
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
                _refuse_another(name, label, row)
            question, remarks = SCHEMAS[name].question(row)
            if question.id in questions:
                raise FieldError("id", f"is that of row {first_row[question.id]} too")
        except FieldError as error:
            problems.append(Problem(number, known, error.field, error.what))
            continue
        questions[question.id] = question
        first_row[question.id] = number
        notes += [Problem(number, question.id, remark.field, remark.what) for remark in remarks]
    if not questions:
        raise InputError(_nothing(name, label, problems, example))
    return Loaded(tuple(questions.values()), tuple(problems), name, label, tuple(notes))


def _known_id(row: dict[str, Any]) -> str | None:
    value = row.get("id", row.get("_id"))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _refuse_another(name: str, label: str, row: dict[str, Any]) -> None:
    """Raises InputError if the row is plainly one of another data set."""
    for other, schema in SCHEMAS.items():
        if schema is not SCHEMAS[name] and schema.recognises(row):
            raise InputError(f"{label} looks like {schema.title}: use {other} instead of {name}")


def _nothing(name: str, label: str, problems: list[Problem], example: dict[str, Any] | None) -> str:
    if not problems:
        return f"{label} holds no rows"
    wanted = f"a row of {name} needs {', '.join(SCHEMAS[name].fields)}"
    found = f"; the first has {', '.join(example)[:120] or 'no fields'}" if example is not None else ""
    return f"no row of {label} can be used, {len(problems)} tried; {problems[0]}; {wanted}{found}"
