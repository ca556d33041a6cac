"""Citations: the sentences of the documents that each claim of an answer came from, with their shares.

`cite` computes a `CitedAnswer` from the scores of a flow. This package uses no model and imports no torch.
"""

from attributor._cite.citations import (
    VERSION,
    Citation,
    CitedAnswer,
    Claim,
    DocumentShare,
    Origin,
    list_sources,
    origin_sentence,
    show_needed,
    show_says,
    show_share,
)
from attributor._cite.cite import ScoredText, cite, claim_rows, find_claims, split_documents
from attributor._cite.needed import add_needed, locate_citations

__all__ = [
    "VERSION",
    "Citation",
    "CitedAnswer",
    "Claim",
    "DocumentShare",
    "Origin",
    "ScoredText",
    "add_needed",
    "cite",
    "claim_rows",
    "find_claims",
    "list_sources",
    "locate_citations",
    "origin_sentence",
    "show_needed",
    "show_says",
    "show_share",
    "split_documents",
]
