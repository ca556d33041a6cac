"""The data sets by name, found by walking this folder.

A data set is one public file. It declares itself with literal constants at its top level, which are read without
running the file:

    NAME           the name of its command: "musique"
    TITLE          its name in messages: "MuSiQue"
    SUMMARY        one line for the list of commands
    DESCRIPTION    a paragraph for the help of its command
    COMMANDS       command lines for that help; what follows two spaces is a remark
    HOME           where its files are found
    FIELDS         the fields that an example must have, for messages
    ORDER          its place in lists, smallest first; left out: after those that have one

and holds two functions:

    question(example) -> (Question, notes)   the example as a question, and what was left out of it; raises FieldError
    recognises(example) -> bool              whether an example is of this data set and of no other

A data set on the Hugging Face hub also has HUB, its id there; SPLITS, {config: (split, ...)}; and DEFAULT_SPLIT,
(config, split). WITHOUT_DATA names the data set that its command uses where neither DATA nor a split is given.
Rows that are shipped beside the file (FILE) have no command of their own, so no SUMMARY, DESCRIPTION, COMMANDS, HOME
or FIELDS; NOTE is printed when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from attributor._literals import LAST, SourceFile, index_by_name, read_package
from attributor.eval.data._fields import Example, FieldError
from attributor.eval.data._question import Question

__all__ = ["DataSet", "Reader", "data_sets"]

PACKAGE = "attributor.eval.data"


class Reader(Protocol):
    """The functions of a data set's file."""

    def question(self, example: Example) -> tuple[Question, list[FieldError]]:
        """An example as a question, and what was left out of it.

        Raises:
            FieldError: a field that cannot be used.
        """

    def recognises(self, example: Example) -> bool:
        """Whether an example is of this data set and of no other."""


@dataclass(frozen=True)
class DataSet:
    """A data set as its file declares it: the constants above, in lower case.

    Attributes:
        module: the full name of its module.
        file: the shipped examples, or None.
        hub: its id on the hub, or "".
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

    @classmethod
    def of(cls, source: SourceFile) -> DataSet:
        """The declaration of one file.

        Raises:
            ImportError: a constant that is missing or of another type.
        """
        shipped = source.constant("FILE", str, "")
        hub = source.constant("HUB", str, "")
        without = "" if shipped else None  # shipped examples have no command, so they need no help
        return cls(
            name=source.constant("NAME", str),
            title=source.constant("TITLE", str),
            module=f"{PACKAGE}.{source.module}",
            order=source.constant("ORDER", int, LAST),
            summary=source.constant("SUMMARY", str, without),
            description=source.constant("DESCRIPTION", str, without),
            commands=source.constant("COMMANDS", tuple, () if shipped else None),
            home=source.constant("HOME", str, without),
            fields=source.constant("FIELDS", tuple, () if shipped else None),
            hub=hub,
            splits=source.constant("SPLITS", dict, None if hub else {}),
            default_split=source.constant("DEFAULT_SPLIT", tuple, None if hub else ("", "")),
            without_data=source.constant("WITHOUT_DATA", str, ""),
            file=source.path.parent / shipped if shipped else None,
            note=source.constant("NOTE", str, ""),
        )

    def reader(self) -> Reader:
        """The functions of its file, which is imported."""
        return cast(Reader, import_module(self.module))


@cache
def data_sets() -> dict[str, DataSet]:
    """Every data set by its name, in the order of lists."""
    return index_by_name(DataSet.of(file) for file in read_package(PACKAGE))
