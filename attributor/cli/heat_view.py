"""Renders the heat view in a terminal: documents with tinted sentences, and a list of the largest shares.

It is readable on dark and light backgrounds (tinted text is always dark), without colour (shares stand behind the
sentences) and without Unicode (bars of #). No text of a document reaches the terminal as a control sequence.
"""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from attributor._cite import Citation, CitedAnswer, show_needed, show_says, show_share
from attributor._documents import keep_places
from attributor._result import Flow, Hit
from attributor.cli.heat_panels import WIDTH, Heat, Look
from attributor.cli.ranked_pieces import RankedPieces, document_total, rank_pieces
from attributor.cli.terminal_text import escape, one_line, shorten

__all__ = ["create_claims", "create_heat_view"]

LISTED_SHARE = 0.001  # pieces with smaller shares are listed together
LISTED = 200  # characters of a piece in the list
NEAR = 24  # characters before and after a token in the list
BAR = 14  # columns
NEWLINE = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"


def create_heat_view(
    console: Console,
    flow: Flow,
    *,
    citations: Sequence[Citation] = (),
    by: str = "sentence",
    how: str = "sum",
    top: int = 10,
) -> Constrain:
    """The documents, tinted where the answer used them, then the `top` pieces with their shares.

    Args:
        console: its colours and its encoding determine the form.
        flow: with text.
        citations: from `list_sources`. The list shows their numbers before the sentences, `says` and `needed` behind.
        by: "token", "sentence" or "document", the pieces of the list; documents are tinted by token or by sentence.
        how: how the scores of tokens become the score of a piece, as in `Flow.by`.
        top: how many pieces to list; 0 lists all.
    """
    ranked = rank_pieces(flow, by=by, how=how, top=top, least=LISTED_SHARE)
    tinted = ranked if by == "token" else rank_pieces(flow, by="sentence", how=how, top=0)
    look = Look.of(console, percents=how == "sum")
    total = document_total(flow) if how == "sum" else 1.0
    heat = Heat(flow, tinted.grouped, look, by != "token", top, total, _place_citations(flow, citations))
    heading = Text("\nWhere the answer came from", "bold")
    parts = [Text(), *heat.panels(), heading, _create_table(heat, ranked), Text()]
    return Constrain(Group(*parts), min(WIDTH, console.width))


def create_claims(console: Console, answered: CitedAnswer) -> Constrain:
    """Each claim of an answer with its sources and their shares of what the claim took from the documents."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, min_width=5)
    table.add_column(overflow="fold", ratio=1)
    for claim in answered.claims:
        table.add_row("", Text(shorten(one_line(escape(claim.text)), LISTED), "bold"))
        for citation in claim.citations:
            page = "" if citation.page is None else f", page {citation.page}"
            place = one_line(escape(citation.title or f"document {citation.document + 1}"))
            quote = shorten(one_line(escape(citation.quote)), LISTED)
            source = Text.assemble((f"[{citation.number}] ", "bold"), quote, (f"  {place}{page}", "dim italic"))
            _append_measures(source, citation)
            table.add_row(show_share(citation.share), source)
    return Constrain(Group(Text("\nWhere each claim came from", "bold"), table), min(WIDTH, console.width))


def _place_citations(flow: Flow, citations: Sequence[Citation]) -> dict[tuple[int, int], Citation]:
    """The citations by the characters of the prompt that they cite."""
    placed = {document.index: document for document in keep_places(flow.text or "", flow.documents)}
    return {placed[c.document].prompt_span(c.start, c.stop): c for c in citations}


def _create_table(heat: Heat, ranked: RankedPieces) -> Table:
    """The pieces with the largest shares, then the shares of all others together; all shares add up to 100%."""
    look = heat.look
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, min_width=5)
    table.add_column(no_wrap=True, width=BAR)
    table.add_column(overflow="fold", ratio=1)
    peak = max((hit.share for hit in ranked.hits), default=0.0) or 1.0
    for hit in ranked.hits:
        strength = hit.share if look.percents else hit.share / peak
        table.add_row(look.share(hit.share), look.bar(strength, BAR), _quote_piece(heat, ranked, hit))
    if ranked.others_share > 0:
        what = f"{ranked.others} other {ranked.by}{'s' * (ranked.others != 1)}"
        table.add_row(Text(look.share(ranked.others_share), "dim"), "", Text(what, "dim"))
    if ranked.rest > 0:
        table.add_row(Text(look.share(ranked.rest), "dim"), "", Text("titles and line breaks", "dim"))
    return table


def _quote_piece(heat: Heat, ranked: RankedPieces, hit: Hit) -> Text:
    """A piece as the list shows it: shortened to one line, with its citation number and its document."""
    text, segment, by = heat.text, ranked.grouped.segments[hit.index], ranked.by
    document = None if segment.document is None else heat.flow.documents[segment.document]
    label = one_line(escape((document.label if document else None) or ""))
    citation: Citation | None = None
    if by == "document":
        beginning = one_line(text[heat.body_start(segment) : hit.stop])
        return Text.assemble((f"{label}  " if label else "", "bold"), (shorten(beginning, 60), "dim"))
    if by == "token":
        before = text[max(0, hit.start - NEAR) : hit.start].rpartition("\n")[2]
        after = text[hit.stop : hit.stop + NEAR].partition("\n")[0]
        piece = text[hit.start : hit.stop].replace("\n", "\\n" if heat.look.ascii else NEWLINE)
        shown = Text.assemble((before, "dim"), (f"[{piece}]", "bold"), (after, "dim"))
    else:
        citation = heat.citations.get((hit.start, hit.stop))
        mark = "" if citation is None else f"[{citation.number}] "
        shown = Text.assemble((mark, "bold"), shorten(one_line(text[hit.start : hit.stop]), LISTED))
    if label and shown.plain != f"{label}:":
        shown.append(f"  {label}", "dim italic")
    if citation is not None:
        _append_measures(shown, citation)
    return shown


def _append_measures(line: Text, citation: Citation) -> None:
    """Write `says` and `needed` of a citation behind its sentence, if they were computed."""
    if citation.says is not None:
        line.append(f"  {show_says(citation.says)}", "dim")
    if citation.needed is not None:
        line.append(f"  {show_needed(citation.needed)}", "dim")
