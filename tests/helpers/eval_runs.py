"""Evaluation runs with a tiny model: fixtures, settings, records, and the comparison of two runs."""

import json
from pathlib import Path

import pytest
import tiny_chat
from eval_examples import make_example, write_examples

from attributor.eval.config import Config
from attributor.eval.run import run_evaluation

METHODS = ("flow", "max-attention", "length", "random")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A file of six examples."""
    return write_examples(tmp_path_factory.mktemp("data") / "rows.jsonl", [make_example(i) for i in range(6)])


@pytest.fixture
def evaluate(model, tokenizer, tmp_path):
    """Run with the tiny model, by default into `tmp_path / "run"`."""

    def run(config, out=None, **options):
        return run_evaluation(config, out or tmp_path / "run", model=model, tokenizer=tokenizer, **options)

    return run


def settings(source, **changes):
    fields = {"methods": METHODS, "max_new_tokens": 4, "check_answer": False, "cost_rows": 0, **changes}
    return Config(source=str(source), **fields)


def read_records(folder):
    return [json.loads(line) for line in (Path(folder) / "cases.jsonl").read_text("ascii").splitlines()]


def without_times(found):
    """Return metrics or records without fields that depend on a clock or on the machine's memory."""
    if isinstance(found, dict):
        timed = ("costs", "seconds", "seconds_read", "seconds_plain", "peak_bytes")
        return {name: without_times(value) for name, value in found.items() if name not in timed}
    return [without_times(entry) for entry in found] if isinstance(found, list) else found


def assert_same(one, other):
    assert without_times(one.run["metrics"]) == without_times(other.run["metrics"])
    assert one.run["counts"] == other.run["counts"]
    assert without_times(read_records(one.folder)) == without_times(read_records(other.folder))


def measure_rounding(one, exact):
    """Return the largest distance of each field of float32 records from the same run in float64."""
    budget = {}
    for record, truth in zip(_numbers(one), _numbers(exact), strict=True):
        for path, value in record.items():
            if isinstance(value, float):
                budget[_field(path)] = max(budget.get(_field(path), 0.0), abs(value - truth[path]))
    return budget


def assert_near(one, other, budget):
    """Check that two float32 runs of the same rows agree.

    Text, structure and the rank metrics must be equal. Two numbers may differ by twice their `budget` (from
    `measure_rounding`), because each may be as far from float64 as in the run that measured the budget. A field that
    is equal in float64 has no budget. Threads and processes change the order of float32 sums and so the last bits.
    """
    assert without_times(one.run["metrics"]) == without_times(other.run["metrics"])
    assert one.run["counts"] == other.run["counts"]
    for mine, theirs in zip(_numbers(one), _numbers(other), strict=True):
        assert mine.keys() == theirs.keys()
        for path, value in mine.items():
            assert type(value) is type(theirs[path]), path
            if isinstance(value, float):
                distance, limit = abs(value - theirs[path]), 2 * budget[_field(path)]
                assert distance <= limit, (path, value, theirs[path], limit)
            else:
                assert value == theirs[path], path


def _numbers(run):
    """Return each record as a flat dictionary: path -> value."""
    return [dict(_leaves(record, ())) for record in without_times(read_records(run.folder))]


def _leaves(value, path):
    if isinstance(value, (dict, list)) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, (*path, key))
    else:
        yield path, value


def _field(path):
    """Return the path without positions in lists."""
    return tuple(key for key in path if isinstance(key, str))


class ObserverLog:
    """A run observer that stores what it receives."""

    def __init__(self, notes):
        self.notes, self.stages, self.cases, self.before = notes, [], [], None

    def note(self, text):
        self.notes.append(text)

    def start_stage(self, text):
        self.stages.append(text)

    def start_cases(self, total, earlier):
        self.before = (total, len(earlier))

    def add_case(self, record):
        self.cases.append(record["id"])

    def end(self):
        pass
