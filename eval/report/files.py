"""Writes the files of a report: Markdown, CSV, one HTML page, and the plots on their own."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attributor._errors import OutputError
from attributor._io import write_atomically
from attributor._result import escape_invisible
from attributor.eval.metrics import DROPS, METRICS, MODEL, SCORED
from attributor.eval.report.build import Part, Report
from attributor.eval.report.cells import Cell, Table
from attributor.eval.report.page import CAPTIONS, build_page, list_terms
from attributor.eval.report.plots import draw_plots, to_png, to_svg
from attributor.eval.report.tables import build_runs_table, build_tables, list_facts

__all__ = ["COLUMNS", "to_csv", "to_markdown", "write_report"]

COLUMNS = ("run", "method", "other", "unit", "aggregation", "stratum", "metric", "value", "low", "high", "n")
INTERVAL = ("value", "low", "high", "n")


def write_report(report: Report, folder: str | Path) -> tuple[list[Path], list[str]]:
    """Write report.md, report.csv, report.html and, where matplotlib is installed, every plot as .svg and .png.

    Args:
        report: what `build_report` made.
        folder: the output folder, which is created if missing. Files of an earlier report are replaced.

    Returns:
        The files, and notes for the user.

    Raises:
        OutputError: the folder cannot be created, or a file cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {target}: {error.strerror or error}") from error
    notes: list[str] = []
    try:
        figures = draw_plots(report)
    except ImportError as error:
        figures = {}
        notes.append(f"there are no plots: they need matplotlib, pip install 'attributor[eval]' ({error})")
    drawn = {name: to_svg(figure) for name, figure in figures.items()}
    contents = {f"{name}.svg": svg.encode("utf-8") for name, svg in drawn.items()}
    contents |= {f"{name}.png": to_png(figure) for name, figure in figures.items()}
    transparent = {name: to_svg(figure, "none") for name, figure in figures.items()}
    contents["report.md"] = to_markdown(report, list(figures)).encode("utf-8")
    contents["report.csv"] = to_csv(report).encode("utf-8")
    contents["report.html"] = build_page(report, transparent).encode("utf-8")
    for name, content in contents.items():
        write_atomically(target / name, content)
    return [target / name for name in reversed(contents)], notes


def to_csv(report: Report) -> str:
    """Return every number in a row of its own; the columns are COLUMNS.

    The numbers are the metrics, costs and faithfulness of each method, removals, and differences. In a difference,
    `other` is the method that was subtracted, or the run, as "run:NAME". Text that a spreadsheet would read as a
    formula begins with an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part in report.parts:
        for row in _list_numbers(part):
            writer.writerow([escape_formula(cell) for cell in row])
    for difference in report.across:
        run, method, other = (difference[key] for key in ("run", "method", "other"))
        names = [run, method, f"run:{other}", "sentence", "", "all", difference["metric"]]
        writer.writerow([escape_formula(cell) for cell in (*names, *(difference[key] for key in INTERVAL))])
    return buffer.getvalue()


def _list_numbers(part: Part) -> Iterator[list[Any]]:
    methods = part.summary["methods"]
    for name in part.order:
        method = methods[name]
        for unit in ("sentence", "document"):
            for how, by in method[unit].items():
                for stratum, metrics in by.items():
                    for metric in METRICS:
                        if metric in metrics:
                            yield [part.name, name, "", unit, how, stratum, metric, *_interval_values(metrics[metric])]
        measured = dict(method["faithfulness"] or {})
        measured |= {key: value for key, value in method["costs"].items() if isinstance(value, Mapping)}
        for metric, interval in measured.items():
            faithful = metric == "lds" or metric in {f"drop@{k}" for k in DROPS}
            how = method["main"] if faithful else ""
            yield [part.name, name, "", "sentence" if faithful else "", how, "all", metric, *_interval_values(interval)]
    yield from _list_removals(part)
    for difference in part.summary["differences"]:
        how = methods[difference["method"]]["main"]
        yield [
            *(part.name, difference["method"], difference["other"], "sentence", how, "all", difference["metric"]),
            *_interval_values(difference),
        ]


def _list_removals(part: Part) -> Iterator[list[Any]]:
    """Yield the removal measures of the model, without a method's name, and of each method."""
    removals = part.summary["removals"]
    if not removals:
        return
    for group, entry in removals["kinds"].items():
        for name in MODEL:
            metric = f"removal:{name}"
            yield [part.name, "", "", "document", "", f"kind:{group}", metric, *_interval_values(entry[name])]
    for name in part.order:
        how = part.summary["methods"][name]["main"]
        for group, scored in removals["methods"][name].items():
            for measure in SCORED:
                names = [part.name, name, "", "document", how, f"kind:{group}", f"removal:{measure}"]
                if scored[measure]["n"]:
                    yield [*names, *_interval_values(scored[measure])]


def _interval_values(interval: Mapping[str, Any]) -> list[Any]:
    return [interval[key] for key in INTERVAL]


def escape_formula(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would read as a formula."""
    if isinstance(cell, str):
        plain = escape_invisible(cell)
        formula = cell.lstrip().startswith(("=", "+", "-", "@")) or cell.startswith(("\t", "\r", "\n"))
        return f"'{plain}" if formula else plain
    return "" if cell is None else cell


def to_markdown(report: Report, drawn: list[str] | None = None) -> str:
    """Return the report in Markdown; `drawn` names the plots that are .svg files in the same folder."""
    there = drawn or []
    lines = [f"# Attribution: {_escape_markdown(', '.join(part.name for part in report.parts))}", ""]
    lines += [f"> {_escape_markdown(note)}.\n" for note in report.notes]
    across = build_runs_table(report)
    if across is not None:
        lines += _format_images(["runs"], there) + _format_table(across, 2)
    for i, part in enumerate(report.parts, 1):
        prefix = "" if len(report.parts) == 1 else f"run-{i}-"
        lines += [f"## {_escape_markdown(part.name)}", ""]
        lines += [f"- {_escape_markdown(name)}: {_escape_markdown(value)}" for name, value in list_facts(part)] + [""]
        lines += [f"> {_escape_markdown(note)}.\n" for note in part.run.notes]
        tables = build_tables(part)
        for table in tables[:1]:
            lines += _format_table(table, 3)
        lines += _format_images([prefix + name for name in CAPTIONS if name != "runs"], there)
        for table in tables[1:]:
            lines += _format_table(table, 3)
    lines += ["## What the numbers mean", ""]
    terms = list_terms(report)
    lines += [f"- **{_escape_markdown(name)}**: {_escape_markdown(words)}" for name, words in terms.items()]
    return "\n".join(lines) + "\n"


def _format_images(names: list[str], there: list[str]) -> list[str]:
    present = [name for name in names if name in there]
    return [f"![{CAPTIONS[re.sub(r'^run-[0-9]+-', '', name)]}]({name}.svg)" for name in present] + [""] * bool(present)


def _format_table(table: Table, level: int) -> list[str]:
    rule = ["---" if i < table.names else "---:" for i in range(len(table.header))]
    lines = [
        f"{'#' * level} {_escape_markdown(table.title)}",
        "",
        _format_row([_escape_markdown(name) for name in table.header]),
        _format_row(rule),
    ]
    lines += [_format_row([_format_cell(cell) for cell in row]) for row in table.rows]
    return [*lines, "", *([_escape_markdown(table.note), ""] if table.note else [])]


def _format_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format_cell(cell: Cell) -> str:
    text = f"**{_escape_markdown(cell.text)}**" if cell.strong else _escape_markdown(cell.text)
    return f"{text} ({_escape_markdown(cell.sub)})" if cell.sub else text


def _escape_markdown(text: str) -> str:
    """Escape every character that has a meaning in Markdown or HTML."""
    plain = " ".join(escape_invisible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!$])", r"\\\1", plain)
