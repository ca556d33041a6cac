"""Renders the documents of a flow as terminal panels, each piece tinted by its share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from attributor._cite import Citation, show_share
from attributor._result import Flow, Grouped
from attributor._text import Segment
from attributor.cli.terminal_text import escape, one_line, shorten

__all__ = ["WIDTH", "Heat", "Look"]

WIDTH = 110  # columns: longer lines are hard to read
WHOLE = 8_000  # characters of documents that are shown in full; of longer ones only what the answer used, in context
CONTEXT = 160  # characters before and after each piece that the answer used
TINTED = 0.1  # of the largest share; pieces with less are not tinted
SCALE = ((0xE6, 0xDE, 0xC6), (0xFF, 0xD5, 0x6B), (0xFF, 0xA2, 0x4A), (0xFF, 0x70, 0x4D))  # pale to strong
INK = "#1a1a1a"  # on every tint: contrast at least 6 to 1
TITLE = 24  # columns
Piece = tuple[int, int, float]  # start, stop, share


@dataclass(frozen=True)
class Look:
    """What a console can show; `percents`: numbers are shares, shown in percent, and not scores."""

    colour: bool
    ascii: bool
    width: int = WIDTH
    percents: bool = True

    @classmethod
    def of(cls, console: Console, percents: bool = True) -> "Look":
        """The look for one console."""
        colour = console.color_system is not None and not console.no_color
        return cls(colour, console.options.ascii_only, min(WIDTH, console.width), percents)

    def share(self, share: float) -> str:
        """A share or a score as text."""
        return show_share(share) if self.percents else f"{share:.3g}"

    def tint(self, strength: float) -> Style:
        """The background for a share relative to the largest one, 0 to 1."""
        if not self.colour or strength < TINTED:
            return Style.null()
        place = min(max(strength, 0.0), 1.0) * (len(SCALE) - 1)
        low = min(int(place), len(SCALE) - 2)
        pairs = zip(SCALE[low], SCALE[low + 1], strict=True)
        red, green, blue = (round(x + (y - x) * (place - low)) for x, y in pairs)
        return Style(color=INK, bgcolor=f"rgb({red},{green},{blue})")

    def bar(self, strength: float, columns: int) -> Text:
        """A bar in eighths of a column, or of # if the encoding has no block characters."""
        if self.ascii:
            return Text("#" * max(1, round(strength * columns)))
        full, rest = divmod(max(1, round(strength * columns * 8)), 8)
        return Text("█" * full + ("", *"▏▎▍▌▋▊▉")[rest], "#ff8a3d" if self.colour else "")

    @property
    def dots(self) -> str:
        """The dots that replace text which is left out."""
        return " ... " if self.ascii else " … "


@dataclass(frozen=True)
class Heat:
    """The documents' view: which pieces of them are tinted, and how strongly.

    Attributes:
        flow: with text.
        tinted: sentences or tokens with their shares.
        look: what the console can show.
        marks: write the share behind each tinted piece.
        top: how many pieces are shown in context if documents are long; 0 for all.
        total: the score of all documents, by which scores are divided.
        citations: by their characters in the prompt.
    """

    flow: Flow
    tinted: Grouped
    look: Look
    marks: bool
    top: int
    total: float = 1.0
    citations: Mapping[tuple[int, int], Citation] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The prompt with control characters replaced; every character keeps its place."""
        return escape(self.flow.text or "")

    @cached_property
    def documents(self) -> tuple[Segment, ...]:
        """The documents, or the whole prompt as one."""
        return tuple(self.flow.documents) or (Segment(0, len(self.text), self.text),)

    @cached_property
    def pieces(self) -> tuple[list[Piece], ...]:
        """The tinted pieces of each document, in order."""
        pieces: tuple[list[Piece], ...] = tuple([] for _ in self.documents)
        for segment, share in zip(self.tinted.segments, self.tinted.total().tolist(), strict=True):
            document = segment.document if self.flow.documents else 0
            if document is not None:
                pieces[document].append((segment.start, segment.stop, max(share, 0.0) / self.total))
        return tuple(sorted(of_document) for of_document in pieces)

    @cached_property
    def peak(self) -> float:
        """The largest share in any document."""
        return max((share for pieces in self.pieces for *_, share in pieces), default=0.0)

    def panels(self) -> list[RenderableType]:
        """The documents in the prompt's order: a panel for each that the answer used, a line for each other."""
        totals = self.flow.by([(d.start, d.stop) for d in self.documents]).total().tolist()
        shares = [max(total, 0.0) / self.total for total in totals]
        show_all = sum(d.stop - d.start for d in self.documents) <= WHOLE
        ranked = sorted((piece for pieces in self.pieces for piece in pieces), key=lambda piece: -piece[2])
        best = ranked[: self.top or None]
        titles = [shorten(one_line(escape(d.label or f"part {i}")), TITLE) for i, d in enumerate(self.documents, 1)]
        parts: list[RenderableType] = []
        widest = max(len(title) for title in titles)
        lines = _create_line_table(widest)
        hidden: list[float] = []
        for d, (span, title, share) in enumerate(zip(self.documents, titles, shares, strict=True)):
            used = [piece for piece in best if span.start <= piece[0] < span.stop and piece[2] >= TINTED * self.peak]
            if not used and not show_all:
                hidden.append(share)
            elif not used:
                start = self.body_start(span)
                beginning = one_line(self.text[start : min(span.stop, start + 400)])
                room = max(self.look.width - widest - 12, 16)
                lines.add_row(self.look.share(share), title, Text(shorten(beginning, room)))
            else:
                if lines.row_count:
                    parts.append(lines)
                    lines = _create_line_table(widest)
                heading = Text.assemble((title, "bold default"), (f"  {self.look.share(share)}", "default"))
                border = "bright_black" if self.look.colour else "none"
                body = self.body(d, None if show_all else used)
                parts.append(Panel(body, title=heading, title_align="left", border_style=border, padding=(0, 1)))
        if lines.row_count:
            parts.append(lines)
        if hidden:
            what = "document is" if len(hidden) == 1 else "documents are"
            parts.append(Text(f"{len(hidden)} more {what} not shown: {self.look.share(sum(hidden))} in all.", "dim"))
        return parts

    def body_start(self, span: Segment) -> int:
        """The first character of a document's text, after the title line, which the panel shows."""
        heading = f"{escape(span.label or '')}:\n"
        return span.start + (len(heading) if self.text.startswith(heading, span.start) else 0)

    def body(self, document: int, used: Sequence[Piece] | None) -> Text:
        """One document's tinted text: all of it, or the used pieces with their context."""
        span = self.documents[document]
        at = start = self.body_start(span)
        windows = [(start, span.stop)]
        if used is not None:
            windows = _cut_windows(self.text, [(a, b) for a, b, _ in used], start, span.stop)
        body = Text()
        for a, b in windows:
            if a > at:
                body.append(self.look.dots, "dim")
            self.tint(body, a, b, self.pieces[document])
            at = b
        if at < span.stop:
            body.append(self.look.dots, "dim")
        return body

    def tint(self, body: Text, start: int, stop: int, pieces: Sequence[Piece]) -> None:
        """Add text[start:stop], each piece tinted by its share of the largest one."""
        at = start
        for a, b, share in pieces:
            a, b = max(a, at), min(b, stop)
            if a >= b:
                continue
            body.append(self.text[at:a])
            strength = share / (self.peak or 1.0)
            piece, at = self.text[a:b], b
            if strength < TINTED:
                body.append(piece)
            elif self.marks:
                mark = self.look.share(share)
                body.append(piece, self.look.tint(strength))
                body.append(f" {mark}" if self.look.colour else f" [{mark}]", "bold" if strength > 0.5 else "dim")
            else:
                plain = not self.look.colour and strength >= 0.25
                body.append(f"[{piece}]" if plain else piece, self.look.tint(strength))
        body.append(self.text[at:stop])


def _create_line_table(titles: int) -> Table:
    """A table with a line for each document that the answer hardly used."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, style="dim", min_width=6)
    table.add_column(no_wrap=True, style="dim", width=titles)
    table.add_column(no_wrap=True, style="dim", overflow="ellipsis")
    return table


def _cut_windows(text: str, near: Sequence[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Windows of text[start:stop] around the given spans; they end between words, and are joined where they touch."""
    windows: list[tuple[int, int]] = []
    for a, b in sorted(near):
        b = min(b, a + 4 * CONTEXT)  # for a sentence without an end
        left, right = max(start, a - CONTEXT), min(stop, b + CONTEXT)
        if left > start:
            left = text.find(" ", left, a) + 1 or left
        if right < stop:
            right = max(text.rfind(" ", b, right), b)
        if windows and left <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(right, windows[-1][1]))
        elif left < right:
            windows.append((left, right))
    return windows
