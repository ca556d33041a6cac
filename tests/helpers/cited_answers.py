"""Cited answers for tests, made by hand or drawn by hypothesis."""

from typing import Any

from hypothesis import strategies as st

from attributor._cite import Citation, CitedAnswer, Claim
from attributor._documents import Document, page_of

# no brackets, so that marks differ from the text
TEXTS = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs"]), min_size=1, max_size=40)
METADATA = st.dictionaries(
    st.sampled_from(["id", "url", "source", "title", "page"]),
    st.one_of(st.text(max_size=5), st.integers(), st.none(), st.just("https://example.org/a")),
    max_size=3,
)


def make_citation(document: Document, quote: str, number: int = 1, *, index: int = 0, share: float = 0.5) -> Citation:
    """Return the citation of a quote from the document's text."""
    start = document.text.index(quote)
    return cite_span(document, (start, start + len(quote)), number, index=index, share=share)


def cite_span(document: Document, span: tuple[int, int], number: int, *, index: int, share: float) -> Citation:
    """Return the citation of characters of a document."""
    start, stop = span
    page = page_of(document.text, start)
    quote, title = document.text[start:stop], document.title or None
    return Citation(number, index, start, stop, quote, share, title, page, document.metadata)


def make_answer(text: str, claims: list[tuple[str, list[Citation]]]) -> CitedAnswer:
    """Return an answer with claims in the given order; each claim's text occurs once in the answer."""
    made = []
    for claim, citations in claims:
        start = text.index(claim)
        made.append(Claim(start, start + len(claim), claim, tuple(citations)))
    every = {citation.number: citation for _, citations in claims for citation in citations}
    return CitedAnswer(text, tuple(made), tuple(every[number] for number in sorted(every)), (), None)


@st.composite
def spans(draw: Any, text: str) -> tuple[int, int]:
    """Draw (start, stop) of a non-empty part of the text."""
    start = draw(st.integers(0, len(text) - 1))
    return start, draw(st.integers(start + 1, len(text)))


@st.composite
def cited_answers(draw: Any) -> tuple[CitedAnswer, list[Document]]:
    """Draw an answer whose claims have any order and may overlap, and the documents that it cites."""
    documents = [
        Document(text, title, metadata)
        for text, title, metadata in draw(
            st.lists(st.tuples(TEXTS, st.sampled_from(["", "A title"]), METADATA), min_size=1, max_size=3)
        )
    ]
    text = draw(st.one_of(TEXTS, st.just("")))
    numbers: dict[tuple[int, tuple[int, int]], int] = {}
    claims = []
    for _ in range(draw(st.integers(0, 4)) if text else 0):
        start, stop = draw(spans(text))
        sources = {}
        for index in draw(st.lists(st.integers(0, len(documents) - 1), max_size=3)):
            sources[index, draw(spans(documents[index].text))] = draw(st.floats(0, 1))
        citations = tuple(
            cite_span(documents[key[0]], key[1], numbers.setdefault(key, len(numbers) + 1), index=key[0], share=share)
            for key, share in sources.items()
        )
        claims.append(Claim(start, stop, text[start:stop], citations))
    citations = tuple(
        cite_span(documents[index], span, number, index=index, share=0.0) for (index, span), number in numbers.items()
    )
    return CitedAnswer(text, tuple(claims), citations, (), None), documents
