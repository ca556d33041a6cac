"""The files of a report: Markdown, CSV, one HTML page, and the plots on their own."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attributor._errors import OutputError
from attributor._io import write_atomically
from attributor._result import visible
from attributor.eval.metrics import DROPS, METRICS
from attributor.eval.report.build import Part, Report
from attributor.eval.report.page import CAPTIONS, EXPLAINED, page
from attributor.eval.report.plots import plots, to_png, to_svg
from attributor.eval.report.tables import Cell, Table, across_table, facts, part_tables

__all__ = ["COLUMNS", "to_csv", "to_markdown", "write"]

COLUMNS = ("run", "method", "other", "unit", "aggregation", "stratum", "metric", "value", "low", "high", "n")
INTERVAL = ("value", "low", "high", "n")


def write(report: Report, folder: str | Path) -> tuple[list[Path], list[str]]:
    """Write report.md, report.csv, report.html and, where matplotlib is installed, every plot as .svg and .png.

    Args:
        report: what `build_report` made.
        folder: where to; made where it is not there. Files of an earlier report are replaced.

    Returns:
        The files, and notes for the user.

    Raises:
        OutputError: the folder cannot be made, or a file not written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {target}: {error.strerror or error}") from error
    notes: list[str] = []
    try:
        figures = plots(report)
    except ImportError as error:
        figures = {}
        notes.append(f"there are no plots: they need matplotlib, pip install 'attributor[eval]' ({error})")
    drawn = {name: to_svg(figure) for name, figure in figures.items()}
    contents = {f"{name}.svg": svg.encode("utf-8") for name, svg in drawn.items()}
    contents |= {f"{name}.png": to_png(figure) for name, figure in figures.items()}
    transparent = {name: to_svg(figure, "none") for name, figure in figures.items()}
    contents["report.md"] = to_markdown(report, list(figures)).encode("utf-8")
    contents["report.csv"] = to_csv(report).encode("utf-8")
    contents["report.html"] = page(report, transparent).encode("utf-8")
    for name, content in contents.items():
        write_atomically(target / name, content)
    return [target / name for name in reversed(contents)], notes


def to_csv(report: Report) -> str:
    """Every number, one a row: the columns are COLUMNS.

    The metrics of a method, what it costs and how faithful it is; differences, where `other` is what was subtracted (a
    method, or after "run:" another run). Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part in report.parts:
        for row in _numbers(part):
            writer.writerow([guarded(cell) for cell in row])
    for found in report.across:
        names = [found["run"], found["method"], f"run:{found['other']}", "sentence", "", "all", found["metric"]]
        writer.writerow([guarded(cell) for cell in (*names, *(found[key] for key in INTERVAL))])
    return buffer.getvalue()


def _numbers(part: Part) -> Iterator[list[Any]]:
    methods = part.summary["methods"]
    for name in part.order:
        method = methods[name]
        for unit in ("sentence", "document"):
            for how, by in method[unit].items():
                for stratum, metrics in by.items():
                    for metric in METRICS:
                        if metric in metrics:
                            yield [part.name, name, "", unit, how, stratum, metric, *_interval(metrics[metric])]
        measured = dict(method["faithfulness"] or {})
        measured |= {key: value for key, value in method["costs"].items() if isinstance(value, Mapping)}
        for metric, interval in measured.items():
            faithful = metric == "lds" or metric in {f"drop@{k}" for k in DROPS}
            how = method["main"] if faithful else ""
            yield [part.name, name, "", "sentence" if faithful else "", how, "all", metric, *_interval(interval)]
    for found in part.summary["differences"]:
        how = methods[found["method"]]["main"]
        yield [
            *(part.name, found["method"], found["other"], "sentence", how, "all", found["metric"]),
            *_interval(found),
        ]


def _interval(found: Mapping[str, Any]) -> list[Any]:
    return [found[key] for key in INTERVAL]


def guarded(cell: Any) -> Any:
    """The cell, with an apostrophe in front of text that a spreadsheet would take for a formula."""
    if isinstance(cell, str):
        plain = visible(cell)
        formula = cell.lstrip().startswith(("=", "+", "-", "@")) or cell.startswith(("\t", "\r", "\n"))
        return f"'{plain}" if formula else plain
    return "" if cell is None else cell


def to_markdown(report: Report, drawn: list[str] | None = None) -> str:
    """The report in Markdown; `drawn` are the names of plots that lie beside it as .svg."""
    there = drawn or []
    lines = [f"# Attribution: {_md(', '.join(part.name for part in report.parts))}", ""]
    lines += [f"> {_md(note)}.\n" for note in report.notes]
    across = across_table(report)
    if across is not None:
        lines += _images(["runs"], there) + _table(across, 2)
    for i, part in enumerate(report.parts, 1):
        prefix = "" if len(report.parts) == 1 else f"run-{i}-"
        lines += [f"## {_md(part.name)}", ""]
        lines += [f"- {_md(name)}: {_md(value)}" for name, value in facts(part)] + [""]
        lines += [f"> {_md(note)}.\n" for note in part.run.notes]
        tables = part_tables(part)
        for table in tables[:1]:
            lines += _table(table, 3)
        lines += _images([prefix + name for name in CAPTIONS if name != "runs"], there)
        for table in tables[1:]:
            lines += _table(table, 3)
    lines += ["## What the numbers mean", ""]
    lines += [f"- **{_md(name)}**: {_md(words)}" for name, words in EXPLAINED.items()]
    return "\n".join(lines) + "\n"


def _images(names: list[str], there: list[str]) -> list[str]:
    found = [name for name in names if name in there]
    return [f"![{CAPTIONS[re.sub(r'^run-[0-9]+-', '', name)]}]({name}.svg)" for name in found] + [""] * bool(found)


def _table(table: Table, level: int) -> list[str]:
    rule = ["---" if i < table.names else "---:" for i in range(len(table.header))]
    lines = [f"{'#' * level} {_md(table.title)}", "", _row([_md(name) for name in table.header]), _row(rule)]
    lines += [_row([_cell(cell) for cell in row]) for row in table.rows]
    return [*lines, "", *([_md(table.note), ""] if table.note else [])]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = f"**{_md(cell.text)}**" if cell.strong else _md(cell.text)
    return f"{text} ({_md(cell.sub)})" if cell.sub else text


def _md(text: str) -> str:
    """Text in which Markdown and HTML find nothing to do."""
    plain = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!$])", r"\\\1", plain)
