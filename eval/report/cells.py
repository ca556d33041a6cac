"""Cells and tables of a report, which are then formatted for a terminal, Markdown or HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Cell", "Table", "format_interval", "format_number"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: the number or the name.
        sub: its interval, or "".
        strong: whether it is bold.
    """

    text: str
    sub: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: the title above it.
        header: one name for each column.
        rows: rows of one cell for each column.
        note: the text below it, or "".
        first: whether it is shown at first, and not only among the details.
        names: number of columns, from the left, that hold names; the others hold numbers.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]
    note: str = ""
    first: bool = False
    names: int = 1


def format_interval(interval: Mapping[str, Any], digits: int = 3) -> Cell:
    """Format the value, with its interval below it."""
    if interval["value"] is None:
        return Cell("–")
    sub = "" if interval["low"] is None else f"{format_number(interval['low'], 2)}–{format_number(interval['high'], 2)}"
    if interval["low"] is not None and interval["low"] < 0:
        sub = f"{format_number(interval['low'], 2)} to {format_number(interval['high'], 2)}"
    return Cell(format_number(interval["value"], digits), sub)


def format_number(value: float, digits: int, sign: str = "") -> str:
    """Format a number with a minus sign as wide as a plus sign; 0 has no sign."""
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"
