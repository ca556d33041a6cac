"""Citations: which sentences of the documents each claim of an answer came from, and how much of it.

`cite` computes a `CitedAnswer` from the scores of a flow. It and its parts know no model and import no torch.
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
