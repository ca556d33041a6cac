"""Ranks the tokens, sentences or documents of a prompt by their share of what came from the documents."""

from dataclasses import dataclass, replace

from attributor._documents import PlacedDocument
from attributor._result import Flow, Grouped, Hit
from attributor._text import Segment

ROUNDING = 1e-6  # of sums of float32

__all__ = ["RankedPieces", "document_total", "rank_pieces"]


@dataclass(frozen=True, eq=False)
class RankedPieces:
    """The largest pieces, and the shares of the rest.

    Attributes:
        by: "token", "sentence" or "document".
        grouped: all pieces of the prompt.
        hits: the largest pieces inside of documents, largest first. If scores are sums, `share` is a part of what came
            from the documents; otherwise it is the score.
        others: how many pieces are not among the hits.
        others_share: the share of these; 0 if scores are not sums.
        rest: the share of text outside of all pieces, titles and line breaks; 0 if scores are not sums.
    """

    by: str
    grouped: Grouped
    hits: list[Hit]
    others: int
    others_share: float
    rest: float


def document_total(flow: Flow) -> float:
    """The score of all documents in the mean of all rows, or of a prompt without documents; at least 1e-30."""
    total = flow.by("document").total().double().sum() if flow.documents else flow.total().double().sum()
    return max(float(total), 1e-30)


def rank_pieces(
    flow: Flow, *, by: str = "sentence", how: str = "sum", top: int = 10, least: float = 0.0
) -> RankedPieces:
    """The `top` largest pieces of the documents; 0: all.

    Args:
        flow: with text.
        by: "token", "sentence" or "document".
        how: how the scores of tokens become the score of a piece, as in `Flow.by`.
        top: how many.
        least: the smallest share of a piece, if scores are sums.
    """
    grouped = flow.by(by, how)
    is_inside = [by == "document" or _is_body(flow, segment) for segment in grouped.segments]
    every = [hit for hit in grouped.top(max(len(grouped), 1)) if is_inside[hit.index]]
    if how != "sum":
        hits = every[: top or None]
        return RankedPieces(by, grouped, hits, len(every) - len(hits), 0.0, 0.0)
    total = document_total(flow)
    every = [replace(hit, share=max(hit.share, 0.0) / total) for hit in every]
    hits = [hit for hit in every[: top or None] if hit.share >= least]
    others_share = sum(hit.share for hit in every[len(hits) :])
    listed = sum(hit.share for hit in hits) + others_share
    rest = 1.0 - listed if ROUNDING <= listed <= 1 - ROUNDING else 0.0
    return RankedPieces(by, grouped, hits, len(every) - len(hits), others_share, rest)


def _is_body(flow: Flow, segment: Segment) -> bool:
    """Whether the segment is text of a document, and not its title line."""
    if not flow.documents:
        return True
    document = None if segment.document is None else flow.documents[segment.document]
    return document is not None and segment.stop > (
        document.body if isinstance(document, PlacedDocument) else document.start
    )
