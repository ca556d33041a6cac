"""Cells and tables of a report, before they become text for a terminal, Markdown or HTML."""

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
        strong: to be drawn in bold.
    """

    text: str
    sub: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: above it.
        header: a name a column.
        rows: of as many cells.
        note: below it, or "".
        first: whether it belongs to what is seen at first, and not to the details.
        names: how many columns from the left hold names; the others hold numbers.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]
    note: str = ""
    first: bool = False
    names: int = 1


def format_interval(interval: Mapping[str, Any], digits: int = 3) -> Cell:
    """The value, with its interval below it."""
    if interval["value"] is None:
        return Cell("–")
    sub = "" if interval["low"] is None else f"{format_number(interval['low'], 2)}–{format_number(interval['high'], 2)}"
    if interval["low"] is not None and interval["low"] < 0:
        sub = f"{format_number(interval['low'], 2)} to {format_number(interval['high'], 2)}"
    return Cell(format_number(interval["value"], digits), sub)


def format_number(value: float, digits: int, sign: str = "") -> str:
    """The number with a minus sign that is as wide as a plus sign; no sign before 0."""
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"
