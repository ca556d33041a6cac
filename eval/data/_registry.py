"""Find the data sets in this folder, and list them by name.

A data set is one public file. It has constants at its top level. They must be literals, because they are read without
running the file:

    NAME           the name of its command: "musique"
    TITLE          its name in messages: "MuSiQue"
    SUMMARY        one line for the list of commands
    DESCRIPTION    a paragraph for the help of its command
    COMMANDS       command lines for this help; text after two spaces is a remark
    HOME           where its files are found
    FIELDS         the fields that an example must have, for messages
    ORDER          its place in lists, smallest first; optional, files without it come last

and holds two functions:

    question(example) -> (Question, notes)   convert the example; notes on what is left out; raises FieldError
    recognises(example) -> bool              whether the example is of this data set and of no other

A data set on the Hugging Face hub also has HUB, its id there; SPLITS, {config: (split, ...)}; and DEFAULT_SPLIT,
(config, split). WITHOUT_DATA names the data set that its command uses without DATA and without a split.

Shipped rows are in a file next to the module, FILE. They have no command of their own, so no SUMMARY, DESCRIPTION,
COMMANDS, HOME or FIELDS. NOTE is printed when they are used.

A generated data set reads no file. Instead of HOME and FIELDS it has GENERATES, the kinds of its rows; ROWS, the
default number of rows of each kind; and TOKENS, the longest prompt by default. Instead of the two functions it has

    generate(rows, seed, kinds) -> questions   `rows` rows of each kind
    lengthen(question, distractors) -> question   the same row with this number of distractors
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from attributor._literals import LAST, SourceFile, index_by_name, read_package
from attributor.eval.data._fields import Example, FieldError
from attributor.eval.data._question import GeneratedQuestion, Question

__all__ = ["DataSet", "Generator", "Reader", "data_sets"]

PACKAGE = "attributor.eval.data"


class Reader(Protocol):
    """The functions of a data set's file."""

    def question(self, example: Example) -> tuple[Question, list[FieldError]]:
        """Convert an example to a question; the notes say what was left out of it.

        Raises:
            FieldError: a field cannot be used.
        """

    def recognises(self, example: Example) -> bool:
        """Return whether an example is of this data set and of no other."""


class Generator(Protocol):
    """The functions of a file that generates its rows."""

    def generate(self, rows: int, seed: int, kinds: Sequence[str]) -> Iterator[GeneratedQuestion]:
        """Yield `rows` rows of each kind."""

    def lengthen(self, question: GeneratedQuestion, distractors: int) -> GeneratedQuestion:
        """Return the same row with this number of distractors, or with the fewest that the row needs."""


@dataclass(frozen=True)
class DataSet:
    """A data set as its file declares it: the constants above, in lower case.

    Attributes:
        module: the full name of its module.
        file: the shipped examples, or None.
        hub: its id on the hub, or "".
        kinds: the kinds of its rows; () for a data set that is read.
        rows: default number of generated rows of each kind.
        tokens: the longest prompt of a generated row by default.
    """

    name: str
    title: str
    module: str
    order: int
    summary: str
    description: str
    commands: tuple[str, ...]
    home: str
    fields: tuple[str, ...]
    hub: str
    splits: dict[str, tuple[str, ...]]
    default_split: tuple[str, str]
    without_data: str
    file: Path | None
    note: str
    kinds: tuple[str, ...]
    rows: int
    tokens: int

    @classmethod
    def of(cls, source: SourceFile) -> DataSet:
        """Read the constants of one file.

        Raises:
            ImportError: a constant is missing or of another type.
        """
        shipped = source.constant("FILE", str, "")
        hub = source.constant("HUB", str, "")
        kinds = source.constant("GENERATES", tuple, ())
        without = "" if shipped else None  # shipped examples have no command, so they need no help
        home = "" if shipped or kinds else None
        return cls(
            name=source.constant("NAME", str),
            title=source.constant("TITLE", str),
            module=f"{PACKAGE}.{source.module}",
            order=source.constant("ORDER", int, LAST),
            summary=source.constant("SUMMARY", str, without),
            description=source.constant("DESCRIPTION", str, without),
            commands=source.constant("COMMANDS", tuple, () if shipped else None),
            home=source.constant("HOME", str, home),
            fields=source.constant("FIELDS", tuple, () if shipped or kinds else None),
            hub=hub,
            splits=source.constant("SPLITS", dict, None if hub else {}),
            default_split=source.constant("DEFAULT_SPLIT", tuple, None if hub else ("", "")),
            without_data=source.constant("WITHOUT_DATA", str, ""),
            file=source.path.parent / shipped if shipped else None,
            note=source.constant("NOTE", str, ""),
            kinds=kinds,
            rows=source.constant("ROWS", int, None if kinds else 0),
            tokens=source.constant("TOKENS", int, None if kinds else 0),
        )

    def reader(self) -> Reader:
        """Import the file and return its functions."""
        return cast(Reader, import_module(self.module))

    def generator(self) -> Generator:
        """Import the file of a generated data set and return its functions."""
        return cast(Generator, import_module(self.module))


@cache
def data_sets() -> dict[str, DataSet]:
    """Return every data set by its name, in the order of lists."""
    return index_by_name(DataSet.of(file) for file in read_package(PACKAGE))
