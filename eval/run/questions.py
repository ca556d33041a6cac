"""Read the questions of a run; make records of unusable examples, and a digest of both."""

import hashlib
from dataclasses import replace
from typing import Any

from attributor.eval.config import Config
from attributor.eval.data import QuestionSet, data_sets, generate_questions, load_questions
from attributor.eval.run.case import unusable_record

__all__ = ["describe_data", "list_case_ids", "make_notes", "make_unusable_records", "read_questions"]

Record = dict[str, Any]


def read_questions(config: Config) -> QuestionSet:
    """Read or generate the questions of the data set of the settings.

    Raises:
        InputError: there are no questions, or they cannot be read.
    """
    data_set = data_sets().get(config.dataset)
    if data_set is not None and data_set.kinds:
        return generate_questions(config.dataset, rows=config.rows, seed=config.seed or 0, kinds=config.kinds)
    return load_questions(config.dataset, config.source, config=config.config, split=config.split, limit=config.limit)


def list_case_ids(data: QuestionSet) -> list[str]:
    """Return the ids of all records of a run, in order: first the questions, then the unusable examples."""
    return [*(question.id for question in data.questions), *(record["id"] for record in make_unusable_records(data))]


def describe_data(data: QuestionSet) -> Record:
    """Describe the data for run.json; its digest shows whether a resumed run has the same examples."""
    digest = hashlib.sha256()
    for question in data.questions:
        digest.update(repr(replace(question, gold=frozenset())).encode("utf-8", "surrogatepass"))
        digest.update(repr(sorted(question.gold)).encode())
    for problem in data.problems:
        digest.update(str(problem).encode("utf-8", "surrogatepass"))
    return {
        "name": data.name,
        "source": data.source,
        "rows": len(data.questions) + len(data.problems),
        "sha256": digest.hexdigest(),
    }


def make_unusable_records(data: QuestionSet) -> list[Record]:
    """Make the records of unusable examples, with unique ids."""
    taken = {question.id for question in data.questions}
    records = []
    for problem in data.problems:
        name = problem.id or f"row {problem.number}"
        if name in taken:
            name = f"{name} (row {problem.number})"
        taken.add(name)
        records.append(unusable_record(name, str(problem)))
    return records


def make_notes(data: QuestionSet) -> list[str]:
    """Return a sentence on the unusable examples, and one on the examples with parts left out."""
    sentences = []
    for what, problems in (("cannot be used", data.problems), ("used with something left out", data.notes)):
        if problems:
            count = len({problem.number for problem in problems})
            sentences.append(
                f"{data.source}: {count} row{'s' * (count > 1)} {what}: {problems[0]}{' ...' * (count > 1)}"
            )
    return sentences
