"""The report in a terminal."""

import textwrap
from typing import TYPE_CHECKING

from attributor._html import visible
from attributor.eval.report.build import Report
from attributor.eval.report.tables import Cell, Table, across_table, facts, part_tables

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = ["show"]


def show(console: "Console", report: Report) -> None:
    """Print the tables that are seen at first, those of every run and the comparison."""
    from rich.text import Text

    for part in report.parts:
        console.print(Text(visible(part.name), "bold underline"))
        facts_line = Text(style="dim")
        for name, value in facts(part):
            facts_line.append(f"{visible(name)}: ").append(visible(value)).append("   ")
        console.print(facts_line)
        for note in part.run.notes:
            console.print(Text(f"Note: {visible(note)}.", "yellow"))
        console.print()
        tables = [table for table in part_tables(part) if table.first]
        for table in tables:
            _print(console, table)
        if not tables:
            console.print(Text("No case is done, so there is nothing to measure.", "yellow"))
    across = across_table(report)
    if across is not None:
        _print(console, across)
    for note in report.notes:
        console.print(Text(f"Note: {visible(note)}.", "yellow"))


def _print(console: "Console", table: Table) -> None:
    from rich.text import Text

    console.print(_drawn(table))
    if table.note:
        console.print(Text(visible(table.note), "dim"))
    console.print()


def _drawn(table: Table) -> "RichTable":
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(table.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0))
    for i, name in enumerate(table.header):
        if i < table.names:
            drawn.add_column(Text(visible(name)), overflow="fold", min_width=12)
        else:
            heading = "\n".join(textwrap.wrap(visible(name), 11))
            drawn.add_column(Text(heading), justify="right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(_text(cell) for cell in row))
    return drawn


def _text(cell: Cell) -> "Text":
    from rich.text import Text

    text = Text(visible(cell.text), "bold" if cell.strong else "")
    return text.append(f"\n{visible(cell.sub)}", "not bold dim") if cell.sub else text
