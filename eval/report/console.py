"""Prints a report in a terminal."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attributor._result import escape_invisible
from attributor.eval.report.build import Report
from attributor.eval.report.cells import Cell, Table
from attributor.eval.report.tables import build_runs_table, build_tables, list_facts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = ["print_report", "print_table"]

NARROW = 12  # smallest width of a column of names


def print_report(console: "Console", report: Report) -> None:
    """Print the first tables of every run, and the comparison of the runs."""
    from rich.text import Text

    for part in report.parts:
        console.print(Text(escape_invisible(part.name), "bold underline"))
        for line in _join_facts(
            [f"{escape_invisible(name)}: {escape_invisible(value)}" for name, value in list_facts(part)], console.width
        ):
            console.print(Text(line, "dim"))
        for note in part.run.notes:
            console.print(Text(f"Note: {escape_invisible(note)}.", "yellow"))
        console.print()
        tables = [table for table in build_tables(part) if table.first]
        for table in tables:
            print_table(console, table)
        if not tables:
            console.print(Text("No case is done, so there is nothing to measure.", "yellow"))
    across = build_runs_table(report)
    if across is not None:
        print_table(console, across)
    for note in report.notes:
        console.print(Text(f"Note: {escape_invisible(note)}.", "yellow"))


def print_table(console: "Console", table: Table) -> None:
    """Print as many columns of the table as fit, and a line that names the others."""
    from rich.text import Text

    width = console.width
    shown, drawn = _fit_columns(console, table)
    console.width = max(width, _needed_width(console, drawn))  # if still too narrow, lines overflow and nothing is cut
    try:
        console.print(drawn)
    finally:
        console.width = width
    if table.note:
        console.print(Text(escape_invisible(table.note), "dim"))
    left_out = [name for i, name in enumerate(table.header) if i not in shown]
    if left_out:
        while (
            needed := _needed_width(
                console, _build_rich_table(table, range(len(table.header)), _widest_name(table, width))
            )
        ) > width:
            width = needed  # in a wider console, columns of names are wider too
        console.print(
            Text(
                f"Left out for want of room: {escape_invisible(', '.join(left_out))}. A terminal of {width} columns "
                "shows all, and so do the files that attributor eval report writes.",
                "yellow",
            )
        )
    console.print()


def _join_facts(facts: Sequence[str], width: int) -> list[str]:
    """Join facts to lines of at most `width`; a fact that fits on a line is not broken."""
    from rich.cells import cell_len

    lines = [""]
    for fact in facts:
        joined = f"{lines[-1]}   {fact}" if lines[-1] else fact
        if lines[-1] and cell_len(joined) > width:
            lines.append(fact)
        else:
            lines[-1] = joined
    return lines


def _fit_columns(console: "Console", table: Table) -> tuple[list[int], "RichTable"]:
    """Return the columns that fit, and the table of them.

    Columns of numbers are dropped from the right, except for the first one and "n". Then names are broken into lines.
    """
    shown, most = list(range(len(table.header))), _widest_name(table, console.width)
    droppable = [i for i in range(table.names + 1, len(table.header)) if table.header[i] != "n"]
    while True:
        drawn = _build_rich_table(table, shown, most)
        if _needed_width(console, drawn) <= console.width:
            return shown, drawn
        if droppable:
            shown.remove(droppable.pop())
        elif most > NARROW:
            most -= 1
        else:
            return shown, drawn


def _widest_name(table: Table, width: int) -> int:
    """Return the width up to which names are not broken, in a console of this width."""
    names: int = table.names
    return max(NARROW, width // (names + 1))


def _needed_width(console: "Console", drawn: "RichTable") -> int:
    """Return the width that the whole table needs."""
    from rich.measure import Measurement

    return int(Measurement.get(console, console.options.update(width=100_000), drawn).maximum)


def _build_rich_table(table: Table, columns: Sequence[int], most: int) -> "RichTable":
    """Build the table of some of its columns; names wider than `most` are broken into lines."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(table.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0))
    for i in columns:
        name = escape_invisible(table.header[i])
        if i < table.names:
            drawn.add_column(Text(name), overflow="fold", max_width=most)
        else:
            drawn.add_column(Text("\n".join(textwrap.wrap(name, 11))), justify="right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(_to_rich_text(row[i]) for i in columns))
    return drawn


def _to_rich_text(cell: Cell) -> "Text":
    from rich.text import Text

    text = Text(escape_invisible(cell.text), "bold" if cell.strong else "")
    return text.append(f"\n{escape_invisible(cell.sub)}", "not bold dim") if cell.sub else text
