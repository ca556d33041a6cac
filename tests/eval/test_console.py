"""Tables in a terminal name the columns without room and cut no cell."""

import io
import re

import pytest
from fake_cases import cases, write_run
from rich.console import Console

from attributor.eval.report import build_report, print_report, read_run
from attributor.eval.report.cells import Cell, Table
from attributor.eval.report.console import print_table

HEADER = ["Method", "Minus", "AP", "First is gold", "Full support@5", "n"]
NAMES = ("straight:retrieval", "flow:" + "a-long-name-" * 3)
TABLE = Table(
    "Paired differences",
    HEADER,
    [
        [Cell(NAMES[0]), Cell(NAMES[1]), *(Cell(f"+0.10{i}", f"−0.2{i} to +0.3{i}") for i in range(3)), Cell("1,234")],
        [Cell(NAMES[1]), Cell(NAMES[0]), *(Cell(f"−0.10{i}", f"−0.3{i} to +0.2{i}") for i in range(3)), Cell("1,234")],
    ],
    note="What the numbers are.",
    names=2,
)


def printed(width, table=TABLE):
    console = Console(file=io.StringIO(), width=width)
    print_table(console, table)
    assert console.width == width
    return console.file.getvalue()


def left_out(text):
    """Return the names of the omitted columns and the width that would show them."""
    found = re.search(r"Left out for want of room: (.*?)\. A terminal of (\d+) columns", " ".join(text.split()))
    return (found[1].split(", "), int(found[2])) if found else ([], None)


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (150, []),
        (130, ["Full support@5"]),
        (80, ["First is gold", "Full support@5"]),
        (60, ["First is gold", "Full support@5"]),
    ],
)
def test_columns_are_dropped_from_the_right_and_named(width, missing):
    text = printed(width)
    assert left_out(text)[0] == missing
    assert max(map(len, text.splitlines())) <= width
    for i, name in enumerate(HEADER[2:5]):
        numbers = (f"+0.10{i}", f"−0.10{i}", f"−0.2{i} to +0.3{i}", f"−0.3{i} to +0.2{i}")
        assert [number in text for number in numbers] == [name not in missing] * 4
    assert text.count("1,234") == 2, "how many rows is said always"


def test_the_named_width_is_the_smallest_that_fits():
    _, needed = left_out(printed(80))
    assert left_out(printed(needed)) == ([], None)
    assert left_out(printed(needed - 1)) == (["Full support@5"], needed)
    for name in NAMES:
        assert printed(needed).count(name) == 2, "names are whole"


@pytest.mark.parametrize("width", [12, 20, 30, 40])
def test_in_a_very_narrow_terminal_lines_wrap(width):
    text = printed(width)
    assert left_out(text)[0] == ["First is gold", "Full support@5"]
    for whole in ("+0.100", "−0.100", "−0.20 to +0.30", "−0.30 to +0.20", "1,234"):
        assert whole in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_comparison_of_runs_fits(tmp_path, width):
    records = cases(8, faithful=True)
    config = {"model": "some-organisation/a-model-with-a-long-name", "dataset": "hotpotqa", "limit": 1234}
    folders = [write_run(tmp_path / name, records, config) for name in ("first", "second", "third")]
    console = Console(file=io.StringIO(), width=width)
    report = build_report([read_run(folder) for folder in folders], resamples=50)
    print_report(console, report)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "model: some-organisation/a-model-with-a-long-name" in text, "facts are not broken where they fit on a line"
    for words in ("first", "second", "second minus the first", "third", "third minus the first"):
        assert set(words.split()) <= set(text.split())
    for method in report.methods:
        assert re.search(rf"^ {re.escape(method)} ", text, re.MULTILINE)
