"""Puts the log-probability that an answer loses without each cited sentence into its citations."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from attributor._cite.citations import Citation, CitedAnswer
from attributor._documents import PlacedDocument
from attributor._text import Segment

__all__ = ["add_needed", "locate_citations"]

Doubles = npt.NDArray[np.float64]


def add_needed(
    cited: CitedAnswer,
    documents: Sequence[PlacedDocument],
    sentences: Sequence[Segment],
    of_answer: Doubles | None,
    of_claims: Sequence[Doubles | None],
) -> CitedAnswer:
    """The answer with the field `needed` of its citations filled in.

    Args:
        cited: an answer whose citations are among the sentences.
        documents: in the prompt's text, the same as for `cite`.
        sentences: those of the documents, from `split_documents`.
        of_answer: (s,) nats, for the citations of the whole answer; values of sentences that are not cited are not
            used. None if they are unknown.
        of_claims: the same for each claim.
    """
    places = _index_places(documents, sentences)

    def fill(citations: Sequence[Citation], scores: Doubles | None) -> tuple[Citation, ...]:
        if scores is None:
            return tuple(citations)
        return tuple(replace(c, needed=float(scores[places[c.document, c.start, c.stop]])) for c in citations)

    claims = [
        replace(claim, citations=fill(claim.citations, scores))
        for claim, scores in zip(cited.claims, of_claims, strict=True)
    ]
    return replace(cited, claims=tuple(claims), citations=fill(cited.citations, of_answer))


def locate_citations(
    cited: CitedAnswer, documents: Sequence[PlacedDocument], sentences: Sequence[Segment]
) -> tuple[int, ...]:
    """The index of the sentence that each of the answer's citations quotes; arguments as in `add_needed`."""
    places = _index_places(documents, sentences)
    return tuple(places[c.document, c.start, c.stop] for c in cited.citations)


def _index_places(documents: Sequence[PlacedDocument], sentences: Sequence[Segment]) -> dict[tuple[int, int, int], int]:
    """The index of each sentence, by its document and its characters in the user's document."""
    places = {}
    for index, sentence in enumerate(sentences):
        document = documents[sentence.document or 0]
        start, stop = document.source_span(sentence.start, sentence.stop)
        places[document.index, start, stop] = index
    return places
