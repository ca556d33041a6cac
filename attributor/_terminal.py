"""The heat view in a terminal: documents with their sentences tinted, and a list of where the answer came from.

Readable on dark and light backgrounds (every tint brings its own dark text), without colour (shares stand behind the
sentences) and without Unicode (bars of #). Nothing from a document reaches the terminal as a control sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from attributor._grouped import Grouped, Hit
from attributor._result import Flow
from attributor._safe import safe
from attributor._segments import Segment

__all__ = ["heat_view"]

WIDTH = 110  # columns: longer lines are hard to read
WHOLE = 8_000  # characters of documents that are shown whole; of longer ones only what the answer used, in context
CONTEXT = 160  # characters around it
LISTED = 200  # characters of a piece in the list
TINTED = 0.06  # of the largest share: what has less is left plain
SCALE = ((0xE6, 0xDE, 0xC6), (0xFF, 0xD5, 0x6B), (0xFF, 0xA2, 0x4A), (0xFF, 0x70, 0x4D))  # pale to strong
INK = "#1a1a1a"  # on every tint: contrast at least 6 to 1
BAR = 14  # columns


def heat_view(console: Console, flow: Flow, *, by: str = "sentence", how: str = "sum", top: int = 10) -> Group:
    """The documents with what the answer used tinted, then the `top` pieces with their shares.

    Args:
        console: what it will be printed on: its colours and its encoding decide the form.
        flow: with text.
        by: "token", "sentence" or "document", the pieces of the list; documents are tinted by token or by sentence.
        how: how the scores of tokens become one of a piece, as in `Flow.by`.
        top: how many pieces to list; 0 lists all.
    """
    listed = flow.by(by, how)
    tinted = listed if by == "token" else flow.by("sentence", how)
    heat = _Heat(
        flow=flow,
        text=safe(flow.text or ""),
        marks=by != "token",
        colour=console.color_system is not None and not console.no_color,
        ascii=console.options.ascii_only,
        segments=tinted.segments,
        shares=tinted.total().tolist(),
        best=tinted.top(top or len(tinted)),
    )
    heading = Text.assemble("\nWhere the answer came from", style="bold")
    parts = [*heat.documents(), heading, heat.table(listed, listed.top(top or len(listed)), by)]
    return Group(*(Padding(part, (0, max(0, console.width - WIDTH), 0, 0)) for part in parts))


@dataclass(frozen=True)
class _Heat:
    """One view: the shares of what is tinted, and how this console can show them."""

    flow: Flow
    text: str
    marks: bool  # write shares behind the sentences
    colour: bool
    ascii: bool
    segments: Sequence[Segment]
    shares: list[float]
    best: list[Hit]

    def documents(self) -> list[RenderableType]:
        """A panel a document, in the prompt's order; of a long prompt only those that the answer used."""
        spans = tuple(self.flow.documents) or (Segment(0, len(self.text), self.text),)
        shares = self.flow.by([(d.start, d.stop) for d in spans]).total().tolist()
        whole = sum(d.stop - d.start for d in spans) <= WHOLE
        used = [whole or any(d.start <= hit.start < d.stop for hit in self.best) for d in spans]
        panels: list[RenderableType] = []
        for number, (span, share, shown) in enumerate(zip(spans, shares, used, strict=True), 1):
            if not shown:
                continue
            title = _one_line(safe(span.label or f"part {number}"))
            panels.append(
                Panel(
                    self.body(span, whole),
                    title=Text(f" {title} ", self.style(share / max(*shares, 1e-9)) + Style(bold=True)),
                    title_align="left",
                    subtitle=Text(f" {share:.1%} "),
                    subtitle_align="right",
                    border_style="dim",
                    padding=(0, 1),
                )
            )
        if hidden := [share for share, shown in zip(shares, used, strict=True) if not shown]:
            panels.append(Text(f"{len(hidden)} more, with {sum(hidden):.1%} together, are not shown.", "dim"))
        return panels

    def body(self, span: Segment, whole: bool) -> Text:
        """One document's text, tinted; its title line is left to the panel."""
        heading = f"{safe(span.label or '')}:\n"
        start = span.start + (len(heading) if self.text.startswith(heading, span.start) else 0)
        windows = [(start, span.stop)]
        if not whole:
            near = [(h.start, h.stop) for h in self.best if span.start <= h.start < span.stop]
            windows = _windows(self.text, near, start, span.stop)
        inside = [
            (s.start, s.stop, share)
            for s, share in zip(self.segments, self.shares, strict=True)
            if span.start <= s.start < span.stop
        ]
        body, at = Text(), start
        for a, b in windows:
            if a > at:
                body.append(self.dots, "dim")
            self.tint(body, a, b, inside)
            at = b
        if at < span.stop:
            body.append(self.dots, "dim")
        return body

    def tint(self, body: Text, start: int, stop: int, inside: Sequence[tuple[int, int, float]]) -> None:
        """Add text[start:stop], its pieces tinted by their share of the largest one."""
        peak = max(self.shares, default=0.0) or 1.0
        at = start
        for a, b, share in inside:
            a, b = max(a, at), min(b, stop)
            if a >= b:
                continue
            body.append(self.text[at:a])
            strength = share / peak
            if strength < TINTED:
                body.append(self.text[a:b])
            elif self.marks:
                body.append(self.text[a:b], self.style(strength))
                body.append(f" {share:.1%}" if self.colour else f" [{share:.1%}]", "bold" if strength > 0.5 else "dim")
            else:
                strong = not self.colour and strength >= 0.25
                body.append(f"[{self.text[a:b]}]" if strong else self.text[a:b], self.style(strength))
            at = b
        body.append(self.text[at:stop])

    def table(self, listed: Grouped, hits: list[Hit], by: str) -> Table:
        """The pieces with the largest shares, then where the rest of the answer's flow went, up to 100%."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, width=BAR)
        table.add_column(overflow="fold", ratio=1)
        peak = max((hit.share for hit in hits), default=0.0) or 1.0
        for hit in hits:
            what = self.quote(hit, listed.segments[hit.index], by)
            table.add_row(f"{hit.share:.1%}", self.bar(hit.share / peak), what)
        for share, what in _rest(self.flow, listed, hits, by):
            table.add_row(Text(f"{share:.1%}", "dim"), "", Text(what, "dim"))
        return table

    def quote(self, hit: Hit, segment: Segment, by: str) -> Text:
        """A piece as the list shows it: short, on one line, with the document that it stands in."""
        document = None if segment.document is None else self.flow.documents[segment.document]
        label = _one_line(safe((document.label if document else None) or ""))
        if by == "document":
            beginning = _one_line(self.text[hit.start : hit.stop])
            return Text.assemble(
                ("" if not hit.label else f"{_one_line(safe(hit.label))}  ", "bold"), (_cut(beginning, 60), "dim")
            )
        if by == "token":
            before = self.text[max(0, hit.start - 24) : hit.start].rpartition("\n")[2]
            after = self.text[hit.stop : hit.stop + 24].partition("\n")[0]
            piece = self.text[hit.start : hit.stop].replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
            shown = Text.assemble((before, "dim"), (f"[{piece}]", "bold"), (after, "dim"))
        else:
            shown = Text(_cut(_one_line(self.text[hit.start : hit.stop]), LISTED))
        if label and not shown.plain.startswith(f"{label}:"):
            shown.append(f"  {label}", "dim italic")
        return shown

    def style(self, strength: float) -> Style:
        """The tint for a share relative to the largest, 0 to 1."""
        if not self.colour or strength < TINTED:
            return Style.null()
        place = min(max(strength, 0.0), 1.0) * (len(SCALE) - 1)
        low = min(int(place), len(SCALE) - 2)
        red, green, blue = (round(x + (y - x) * (place - low)) for x, y in zip(SCALE[low], SCALE[low + 1], strict=True))
        return Style(color=INK, bgcolor=f"rgb({red},{green},{blue})")

    def bar(self, strength: float) -> Text:
        """A bar of eighths of a column, or of # where the encoding has no blocks."""
        if self.ascii:
            return Text("#" * max(1, round(strength * BAR)))
        eighths = max(1, round(strength * BAR * 8))
        return Text("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), "#ff8a3d" if self.colour else "")

    @property
    def dots(self) -> str:
        return " ... " if self.ascii else " … "


def _rest(flow: Flow, listed: Grouped, hits: list[Hit], by: str) -> list[tuple[float, str]]:
    """What the listed pieces leave: shares that make up 100% where that is defined."""
    if listed.rest is None:
        return []
    others = len(listed) - len(hits)
    rows = []
    if others:
        left = float(listed.total().double().sum()) - sum(hit.share for hit in hits)
        rows.append((left, f"{others} other {by}{'s' * (others != 1)}"))
    if by != "token":
        rows.append((float(listed.rest.mean()), "question and template"))
    if flow.on_answer is not None:
        rows.append((float(flow.on_answer.mean()), "the answer's own earlier tokens"))
        missing = float(flow.missing_mass.mean()) if flow.missing_mass is not None else 0.0
        if missing >= 0.0005:
            rows.append((missing, "missing: attention that was not followed"))
    return [(max(share, 0.0), what) for share, what in rows]


def _windows(text: str, near: Sequence[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Stretches of text[start:stop] around the given spans, ending between words, joined where they touch."""
    windows: list[tuple[int, int]] = []
    for a, b in sorted(near):
        b = min(b, a + 4 * CONTEXT)  # a sentence without end
        left, right = max(start, a - CONTEXT), min(stop, b + CONTEXT)
        if left > start:
            left = text.find(" ", left, max(a, left)) + 1 or left
        if right < stop:
            cut = text.rfind(" ", b, right)
            right = cut if cut > 0 else right
        if left >= right:
            continue
        if windows and left <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(right, windows[-1][1]))
        else:
            windows.append((left, right))
    return windows


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
