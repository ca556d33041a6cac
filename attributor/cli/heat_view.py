"""Renders the heat view in a terminal: documents with tinted sentences, and a list of the largest shares.

Readable on dark and light backgrounds (every tint brings its own dark text), without colour (shares stand behind the
sentences) and without Unicode (bars of #). Nothing from a document reaches the terminal as a control sequence.
"""

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from attributor._result import Flow, Grouped, Hit
from attributor.cli.heat_panels import WIDTH, Heat, Look
from attributor.cli.terminal_text import escape, one_line, shorten

__all__ = ["create_heat_view"]

LISTED = 200  # characters of a piece in the list
NEAR = 24  # characters before and after a token in the list
BAR = 14  # columns
NEWLINE = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"


def create_heat_view(
    console: Console, flow: Flow, *, by: str = "sentence", how: str = "sum", top: int = 10
) -> Constrain:
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
    hits = listed.top(top or len(listed))
    look = Look.of(console, max((hit.share for hit in hits), default=1.0), bool(flow.normalized))
    heat = Heat(flow, tinted, look, by != "token", top)
    heading = Text("\nWhere the answer came from", "bold")
    parts = [Text(), *heat.panels(), heading, _create_table(heat, listed, hits, by), Text()]
    return Constrain(Group(*parts), min(WIDTH, console.width))


def _create_table(heat: Heat, listed: Grouped, hits: list[Hit], by: str) -> Table:
    """The pieces with the largest shares, then where the rest of the answer's flow went, up to 100%."""
    look = heat.look
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, min_width=6)
    table.add_column(no_wrap=True, width=BAR)
    table.add_column(overflow="fold", ratio=1)
    peak = max((hit.share for hit in hits), default=0.0) or 1.0
    for hit in hits:
        table.add_row(look.share(hit.share), look.bar(hit.share / peak, BAR), _quote_piece(heat, listed, hit, by))
    for share, what in _list_rest(heat.flow, listed, hits, by):
        table.add_row(Text(look.share(share), "dim"), "", Text(what, "dim"))
    return table


def _quote_piece(heat: Heat, listed: Grouped, hit: Hit, by: str) -> Text:
    """A piece as the list shows it: short, on one line, with the document that it stands in."""
    text, segment = heat.text, listed.segments[hit.index]
    document = None if segment.document is None else heat.flow.documents[segment.document]
    label = one_line(escape((document.label if document else None) or ""))
    if by == "document":
        beginning = one_line(text[heat.body_start(segment) : hit.stop])
        return Text.assemble((f"{label}  " if label else "", "bold"), (shorten(beginning, 60), "dim"))
    if by == "token":
        before = text[max(0, hit.start - NEAR) : hit.start].rpartition("\n")[2]
        after = text[hit.stop : hit.stop + NEAR].partition("\n")[0]
        piece = text[hit.start : hit.stop].replace("\n", "\\n" if heat.look.ascii else NEWLINE)
        shown = Text.assemble((before, "dim"), (f"[{piece}]", "bold"), (after, "dim"))
    else:
        shown = Text(shorten(one_line(text[hit.start : hit.stop]), LISTED))
    if label and shown.plain != f"{label}:":
        shown.append(f"  {label}", "dim italic")
    return shown


def _list_rest(flow: Flow, listed: Grouped, hits: list[Hit], by: str) -> list[tuple[float, str]]:
    """What the listed pieces leave: shares that make up 100% where that is defined."""
    if listed.rest is None:
        return []
    rows = []
    if others := len(listed) - len(hits):
        left = float(listed.total().double().sum()) - sum(hit.share for hit in hits)
        rows.append((left, f"{others} other {by}{'s' * (others != 1)}"))
    if by != "token":
        outside = "question, template and line breaks" if by == "sentence" else "question and template"
        rows.append((float(listed.rest.mean()), outside))
    if flow.on_answer is not None:
        rows.append((float(flow.on_answer.mean()), "the answer's own earlier tokens"))
    if flow.missing_mass is not None and (missing := float(flow.missing_mass.mean())) >= 0.0005:
        rows.append((missing, "missing: attention that was not followed"))
    return [(max(share, 0.0), what) for share, what in rows]
