"""Read or generate the questions of a data set. A new data set is one file here; `_registry.py` describes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attributor._checks import check_path
from attributor._errors import InputError
from attributor.eval.data._fields import FieldError
from attributor.eval.data._hub import read_hub
from attributor.eval.data._local_file import read_examples
from attributor.eval.data._question import GeneratedQuestion, Question
from attributor.eval.data._registry import DataSet, data_sets

__all__ = ["DataSet", "GeneratedQuestion", "Problem", "Question", "QuestionSet"]
__all__ += ["data_sets", "generate_questions", "lengthen", "load_questions"]


@dataclass(frozen=True)
class Problem:
    """A part of an example that cannot be used.

    Attributes:
        number: line in a .jsonl file, or place in a list or split; from 1.
        id: the example's id; None if unknown.
        field: name of the field; "row" for the whole example.
        reason: what is wrong with it.
    """

    number: int
    id: str | None
    field: str
    reason: str

    def __str__(self) -> str:
        """Format the problem in one line."""
        known = f" (id {self.id})" if self.id else ""
        where = "" if self.field == "row" else f" {self.field}:"
        return f"row {self.number}{known}:{where} {self.reason}"


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a data set.

    Attributes:
        questions: the usable ones, in order, with unique ids.
        problems: examples that cannot be used.
        name: the data set's name in the registry.
        source: name of the examples in reports: a file's name, or the public name with configuration and split.
        notes: parts that were left out of usable examples: supporting facts without a sentence, paragraphs without
            text.
    """

    questions: tuple[Question, ...]
    problems: tuple[Problem, ...]
    name: str
    source: str
    notes: tuple[Problem, ...] = ()


def load_questions(
    name: str,
    source: str | Path | None = None,
    *,
    config: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> QuestionSet:
    """Read the questions of a data set, and list the examples that cannot be used.

    Args:
        name: one of `data_sets()`.
        source: a local .json or .jsonl file; None: the data set on the hub, or the shipped examples.
        config: configuration on the hub, such as "distractor"; None: the default.
        split: split on the hub, such as "train"; None: the default.
        limit: read only the first `limit` examples, usable or not; None: all.

    Raises:
        InputError: the name is unknown, a needed source is missing, the file is missing, empty or of another schema,
            the hub cannot be reached, or no example is usable.
    """
    known = data_sets()
    if not isinstance(name, str) or name not in known:
        raise InputError(f"unknown data set {name!r}; there are {', '.join(known)}")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise InputError(f"limit must be a whole number >= 1, or None for all rows, got {limit!r}")
    data_set = known[name]
    if data_set.kinds:
        raise InputError(f"the rows of {name!r} are generated, not read; use generate_questions({name!r})")
    examples: Iterator[tuple[int, Any]]
    if data_set.file is not None:
        if source is not None:
            raise InputError(f"{name!r} is shipped and takes no source; for {source}, name the data set: hotpotqa ...")
        label, examples = name, read_examples(data_set.file)
    elif source is not None:
        path = check_path(source)
        label, examples = path.name, read_examples(path)
    elif not data_set.hub:
        raise InputError(f"{name} has no public name here: name its .json or .jsonl file (from {data_set.home})")
    else:
        first, second = data_set.default_split
        label, public = read_hub(data_set, config or first, split or second, limit)
        examples = enumerate(public, 1)
    return _collect(data_set, label, islice(examples, limit))


def generate_questions(
    name: str, *, rows: int | None = None, seed: int = 0, kinds: Sequence[str] | None = None
) -> QuestionSet:
    """Generate the questions of a data set that is not read from a file.

    Args:
        name: one of `data_sets()` that has kinds.
        rows: number of rows of each kind; None: the data set's default.
        seed: another seed gives other names, facts and questions.
        kinds: some of the data set's kinds; None: all.

    Raises:
        InputError: the data set is read from a file, a kind is unknown or given twice, or rows < 1.
    """
    data_set = data_sets().get(name)
    if data_set is None or not data_set.kinds:
        raise InputError(f"{name!r} generates no rows; {', '.join(_list_generated())} does")
    chosen = data_set.kinds if kinds is None else tuple(kinds)
    if not chosen or not set(chosen) <= set(data_set.kinds) or len(set(chosen)) < len(chosen):
        raise InputError(
            f"kinds must be some of {', '.join(data_set.kinds)}, each once, got {', '.join(map(str, chosen)) or 'none'}"
        )
    count = data_set.rows if rows is None else rows
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"rows must be a whole number >= 1, got {rows!r}")
    questions = tuple(data_set.generator().generate(count, seed, chosen))
    return QuestionSet(questions, (), name, f"generated from seed {seed}, {count} rows of each kind")


def lengthen(name: str, question: GeneratedQuestion, distractors: int) -> GeneratedQuestion:
    """Return the question with this number of distractors; its other documents and their order stay."""
    return data_sets()[name].generator().lengthen(question, distractors)


def _list_generated() -> list[str]:
    return [name for name, data_set in data_sets().items() if data_set.kinds]


def _collect(data_set: DataSet, label: str, examples: Iterator[tuple[int, Any]]) -> QuestionSet:
    reader = data_set.reader()
    questions: dict[str, Question] = {}
    first_number: dict[str, int] = {}
    problems: list[Problem] = []
    notes: list[Problem] = []
    first_example: dict[str, Any] | None = None
    for number, example in examples:
        known_id = None
        try:
            if isinstance(example, FieldError):
                raise example
            if not isinstance(example, dict):
                raise FieldError("row", f"must be an object, got {type(example).__name__}")
            known_id = _id_of(example)
            if first_example is None:
                first_example = example
                _refuse_other_data_set(data_set, label, example)
            question, remarks = reader.question(example)
            if question.id in questions:
                raise FieldError("id", f"is that of row {first_number[question.id]} too")
        except FieldError as error:
            problems.append(Problem(number, known_id, error.field, error.reason))
            continue
        questions[question.id] = question
        first_number[question.id] = number
        notes += [Problem(number, question.id, remark.field, remark.reason) for remark in remarks]
    if not questions:
        raise InputError(_explain_failure(data_set, label, problems, first_example))
    return QuestionSet(tuple(questions.values()), tuple(problems), data_set.name, label, tuple(notes))


def _id_of(example: dict[str, Any]) -> str | None:
    value = example.get("id", example.get("_id"))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _refuse_other_data_set(data_set: DataSet, label: str, example: dict[str, Any]) -> None:
    """Raise InputError if another data set recognises the example, unless both share one `recognises` function."""
    own = data_set.reader().recognises
    for other in data_sets().values():
        if other.kinds:
            continue
        recognises = other.reader().recognises
        if recognises is not own and recognises(example):
            raise InputError(f"{label} looks like {other.title}: use {other.name} instead of {data_set.name}")


def _explain_failure(
    data_set: DataSet, label: str, problems: list[Problem], first_example: dict[str, Any] | None
) -> str:
    if not problems:
        return f"{label} holds no rows"
    required = f"a row of {data_set.name} needs {', '.join(data_set.fields)}"
    present = f"; the first has {', '.join(first_example)[:120] or 'no fields'}" if first_example is not None else ""
    return f"no row of {label} can be used, {len(problems)} tried; {problems[0]}; {required}{present}"
