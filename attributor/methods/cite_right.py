"""cite-right: aligns question and answer with each segment, word by word. It needs no model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor.methods._method import Needs
from attributor.methods._texts import join_query

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["CiteRight"]

NAME = "cite-right"
SUMMARY = "question and answer aligned with the segment, word after word; needs Python 3.11"
SOURCE = "https://github.com/avaxML/cite-right"
ORDER = 106
LIBRARY = "cite_right"

PYTHON = sys.version_info[:2]
SPANS = "\n\n"  # between question and answer: a new paragraph, so that no span holds words of both
ALL = 1_000_000  # no limit on citations and candidates; the library's default keeps the best three


@dataclass(frozen=True)
class CiteRight:
    """The text aligner cite-right. The spans that it finds citations for are the sentences of question and answer.

    For each span the library finds segments that share the span's rare words, and aligns the two (Smith-Waterman). The
    score of a citation is the normalised alignment + the part of the span's words that are matched + half of the words
    in common, weighted by rarity. A segment gets the sum over the spans.
    """

    name: ClassVar[str] = NAME
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def needs(self, model: Any) -> Needs:
        """Record nothing; a missing library is reported here, before the first case."""
        _import_library()
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): 0 if nothing is aligned."""
        library = _import_library()
        config = library.CitationConfig(
            min_answer_coverage=0,
            top_k=ALL,
            max_citations_per_source=ALL,
            max_candidates_lexical=ALL,
            max_candidates_total=ALL,
            max_retrieval_support=0,
        )
        scores = torch.zeros(len(reading.segments), dtype=torch.float64)
        query = join_query(reading, NAME, between=SPANS)
        for span in library.align_citations(query, [segment.text for segment in reading.segments], config=config):
            of_span = torch.zeros_like(scores)
            for citation in span.citations:
                best = of_span[citation.source_index]
                of_span[citation.source_index] = max(float(best), citation.score)
            scores += of_span
        return scores


def _import_library() -> Any:
    try:
        import cite_right
    except ImportError as error:
        if PYTHON < (3, 11):
            raise InputError(
                f"the method 'cite-right' needs Python 3.11 or later, and this is {'.'.join(map(str, PYTHON))}; "
                "bm25 and answer-string compare words on any"
            ) from error
        raise InputError(
            "the method 'cite-right' needs cite-right; install it with: pip install 'attributor[eval]', or "
            "pip install 'cite-right<0.5'"
        ) from error
    return cite_right
