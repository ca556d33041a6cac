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
