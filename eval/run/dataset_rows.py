"""The rows of a run: what the data set gave, what could not be used, and a digest that tells them from others."""

import hashlib
from dataclasses import replace
from typing import Any

from attributor.eval.config import Config
from attributor.eval.data import Loaded, load
from attributor.eval.run.case import unusable_record

__all__ = ["describe", "notes", "order", "read", "unusable"]

Record = dict[str, Any]


def read(config: Config) -> Loaded:
    """The rows that the settings name.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    return load(config.dataset, config.source, config=config.config, split=config.split, limit=config.limit)


def order(loaded: Loaded) -> list[str]:
    """The ids of all records of a run, in their order: the questions, then what could not be used."""
    return [*(question.id for question in loaded.questions), *(record["id"] for record in unusable(loaded))]


def describe(loaded: Loaded) -> Record:
    """What run.json says about the rows; the digest tells whether a resumed run has the same ones."""
    digest = hashlib.sha256()
    for question in loaded.questions:
        digest.update(repr(replace(question, gold=frozenset())).encode("utf-8", "surrogatepass"))
        digest.update(repr(sorted(question.gold)).encode())
    for problem in loaded.problems:
        digest.update(str(problem).encode("utf-8", "surrogatepass"))
    return {
        "name": loaded.name,
        "source": loaded.source,
        "rows": len(loaded.questions) + len(loaded.problems),
        "sha256": digest.hexdigest(),
    }


def unusable(loaded: Loaded) -> list[Record]:
    """Records of the rows that no question could be made of, with ids of their own."""
    taken = {question.id for question in loaded.questions}
    found = []
    for problem in loaded.problems:
        name = problem.id or f"row {problem.row}"
        if name in taken:
            name = f"{name} (row {problem.row})"
        taken.add(name)
        found.append(unusable_record(name, str(problem)))
    return found


def notes(loaded: Loaded) -> list[str]:
    """What to say about the data, in short."""
    found = []
    for what, problems in (("cannot be used", loaded.problems), ("used with something left out", loaded.notes)):
        if problems:
            count = len({problem.row for problem in problems})
            found.append(f"{loaded.source}: {count} row{'s' * (count > 1)} {what}: {problems[0]}{' ...' * (count > 1)}")
    return found
