"""Runs of the evaluation with a tiny model: their settings, their records, and when two of them are the same."""

import json
from pathlib import Path

from attributor.eval.config import Config

METHODS = ("flow", "max-attention", "length", "random")


def settings(source, **changes):
    fields = {"methods": METHODS, "max_new_tokens": 4, "check_answer": False, "cost_rows": 0, **changes}
    return Config(source=str(source), **fields)


def records(folder):
    return [json.loads(line) for line in (Path(folder) / "cases.jsonl").read_text("ascii").splitlines()]


def without_times(found):
    """Metrics or records without what a clock, or a machine's memory, had a part in."""
    if isinstance(found, dict):
        timed = ("costs", "seconds", "seconds_read", "seconds_plain", "peak_bytes")
        return {name: without_times(value) for name, value in found.items() if name not in timed}
    return [without_times(entry) for entry in found] if isinstance(found, list) else found


def same(one, other):
    assert without_times(one.run["metrics"]) == without_times(other.run["metrics"])
    assert one.run["counts"] == other.run["counts"]
    assert without_times(records(one.folder)) == without_times(records(other.folder))


def rounding(one, exact):
    """The largest distance of each field of float32 records from the same run in float64."""
    budget = {}
    for record, truth in zip(_numbers(one), _numbers(exact), strict=True):
        for path, value in record.items():
            if isinstance(value, float):
                budget[_field(path)] = max(budget.get(_field(path), 0.0), abs(value - truth[path]))
    return budget


def near(one, other, budget):
    """Two float32 runs of the same rows agree.

    Text, structure, and the metrics, which are of ranks, exactly. A number may lie twice its `budget` (of `rounding`)
    from the other one: each of the two may be as far from float64 as the run that the budget was measured with. A field
    that float64 does not change has none. Threads and processes change the order of float32 sums, and so the last bits.
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
    """Each record as a flat dictionary: path -> value."""
    return [dict(_leaves(record, ())) for record in without_times(records(run.folder))]


def _leaves(value, path):
    if isinstance(value, (dict, list)) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, (*path, key))
    else:
        yield path, value


def _field(path):
    """The path without the positions in lists."""
    return tuple(key for key in path if isinstance(key, str))


class Listener:
    """A watcher that keeps what it is told."""

    def __init__(self, notes):
        self.notes, self.stages, self.cases, self.before = notes, [], [], None

    def say(self, text):
        self.notes.append(text)

    def stage(self, text):
        self.stages.append(text)

    def begin(self, total, before):
        self.before = (total, len(before))

    def case(self, record):
        self.cases.append(record["id"])

    def end(self):
        pass
