"""`CitedAnswer`: an answer, its claims, and the places in the documents that each of them came from."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attributor._cite.convert import Shape, convert

__all__ = [
    "VERSION",
    "Citation",
    "CitedAnswer",
    "Claim",
    "DocumentShare",
    "Origin",
    "list_sources",
    "origin_sentence",
    "show_needed",
    "show_says",
    "show_share",
]

VERSION = 1  # of the keys of `to_json`; increased if a key changes its meaning or is removed
QUOTE = 300  # characters of a quote that are printed


@dataclass(frozen=True)
class Citation:
    """A sentence of a document that a claim, or the answer, came from.

    Attributes:
        number: from 1, as in ``[1]``; the same sentence has the same number in every claim.
        document: the index of the document, from 0, in the user's order.
        start: the first character of the sentence in the user's document.
        stop: the character after the last.
        quote: these characters.
        share: from 0 to 1, of what came from the documents.
        title: of the document, or None.
        page: from 1, the page on which the sentence begins; None if no form feed separates pages.
        metadata: of the document, unchanged.
        needed: nats, how much log-probability the claim or the answer would lose without the sentence; below 0 it would
            gain. None if it was not computed.
        says: from 0 to 1, the part of the content words of the claim, or of the answer, that the sentence holds. None
            if the words cannot be compared, see `measure_says`.
    """

    number: int
    document: int
    start: int
    stop: int
    quote: str
    share: float
    title: str | None
    page: int | None
    metadata: Mapping[str, Any]
    needed: float | None = None
    says: float | None = None


@dataclass(frozen=True)
class Claim:
    """A part of the answer, by default a sentence, and its sources.

    Attributes:
        start: its first character in the answer.
        stop: the character after the last.
        text: these characters.
        citations: its sources, the largest share first; shares are of what this claim took from the documents. Empty if
            nothing came from the documents.
    """

    start: int
    stop: int
    text: str
    citations: tuple[Citation, ...]


@dataclass(frozen=True)
class DocumentShare:
    """The share of one document in what came from all documents.

    Attributes:
        document: its index, from 0.
        title: of the document, or None.
        share: from 0 to 1; all documents together have 1.
        metadata: of the document, unchanged.
    """

    document: int
    title: str | None
    share: float
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where the whole flow of the answer came from: fractions that add up to 1.

    Attributes:
        documents: from the documents, to which the shares refer.
        prompt: from the rest of the prompt: the question and the chat template.
        answer: from earlier tokens of the answer itself.
        missing: attention that was not followed.
    """

    documents: float
    prompt: float
    answer: float
    missing: float


@dataclass(frozen=True, repr=False)
class CitedAnswer:
    """An answer and its citations. Printed: the text with ``[1]``, then the sources.

    Attributes:
        text: of the answer.
        claims: the sentences of the answer, or the user's spans, in order.
        citations: every cited sentence once, by number; shares are those of the whole answer.
        documents: the share of each document, in the user's order.
        origin: of the whole flow; None if the rows of the flow do not add up to 1.
    """

    text: str
    claims: tuple[Claim, ...]
    citations: tuple[Citation, ...]
    documents: tuple[DocumentShare, ...]
    origin: Origin | None

    def to_json(self) -> dict[str, Any]:
        """A dict for `json.dump`; docs/citations.md documents each key. Metadata are not converted."""
        return {
            "version": VERSION,
            "answer": self.text,
            "claims": [_as_dict(claim) for claim in self.claims],
            "citations": [_as_dict(citation) for citation in self.citations],
            "documents": [_as_dict(document) for document in self.documents],
            "origin": None if self.origin is None else _as_dict(self.origin),
        }

    def to(self, shape: Shape) -> Any:
        """The answer and its citations in the shape of another API, as plain dicts and lists.

        Args:
            shape: "anthropic": a list, the content of a message of the Messages API; "cohere": a dict, the message of
                the Chat API v2; "langchain": a list, content for `langchain_core.messages.AIMessage`; "openai": a dict,
                an ``output_text`` of the Responses API. `convert.py` says what each one loses.

        Raises:
            InputError: an unknown shape.
        """
        return convert(self, shape)

    def __str__(self) -> str:
        """The answer with numbers behind its claims, and the sources below."""
        sources = [_describe(citation) for citation in list_sources(self)]
        return "\n".join([self.marked_text().strip(), *([""] if sources else []), *sources])

    def __repr__(self) -> str:
        """The class, the beginning of the answer, and the numbers of claims and citations."""
        count, sources = len(self.claims), len(self.citations)
        text = self.text if len(self.text) <= QUOTE else f"{self.text[: QUOTE - 1]}…"
        return (
            f"{type(self).__name__}({text!r}, {count} claim{'s' * (count != 1)}, "
            f"{sources} citation{'s' * (sources != 1)})"
        )

    def marked_text(self) -> str:
        """The answer with ``[1][2]`` behind each claim, before white space that the claim ends with."""
        parts, position = [], 0
        ends = [(claim.start + len(claim.text.rstrip()), claim) for claim in self.claims]
        for end, claim in sorted(ends, key=lambda pair: pair[0]):
            marks = "".join(f"[{citation.number}]" for citation in claim.citations)
            parts += [self.text[position:end], f" {marks}" if marks else ""]
            position = end
        return "".join([*parts, self.text[position:]])


def list_sources(cited: CitedAnswer) -> tuple[Citation, ...]:
    """The answer's citations for a printed list: each with the largest `says` of the claims that cite it.

    Compared with the whole answer, a sentence that says one of several claims in full would have a small `says`.
    """
    largest: dict[int, float] = {}
    for claim in cited.claims:
        for citation in claim.citations:
            if citation.says is not None:
                largest[citation.number] = max(citation.says, largest.get(citation.number, 0.0))
    return tuple(dataclasses.replace(citation, says=largest.get(citation.number)) for citation in cited.citations)


def show_share(share: float) -> str:
    """A share in percent, as every view writes it."""
    percent = 100 * share
    if percent < 0.1:
        return "0%" if percent <= 0 else "<0.1%"
    return f"{percent:.1f}%" if percent < 9.95 else f"{percent:.0f}%"


def show_needed(needed: float) -> str:
    """The log-probability that is lost without a sentence, as every view writes it: ``needed +2.1 nats``."""
    text = f"{needed:+.1f}" if abs(needed) >= 0.95 else f"{needed:+.2f}"
    return f"needed {'0' if float(text) == 0 else text} nats"


def show_says(says: float) -> str:
    """The part of the claim's content words that a sentence holds, as print and terminal write it: ``says 0.75``.

    It is not a percentage, because it stands beside a share, which is a part of something else.
    """
    return f"says {says:.2f}"


def origin_sentence(origin: Origin) -> str:
    """One line on how much of the whole flow came from the documents."""
    return (
        f"{show_share(origin.documents)} of the whole flow came from the documents, {show_share(origin.prompt)} from "
        f"question and template, {show_share(origin.answer)} from the answer's own words. This is normal; "
        "shares above are of the documents' part."
    )


def _as_dict(part: Any) -> dict[str, Any]:
    """The fields of a dataclass, with those of its citations; unlike `dataclasses.asdict` it copies no metadata.

    A citation has no key `needed` if it was not computed.
    """
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if isinstance(part, Citation) and part.needed is None:
        del values["needed"]
    if isinstance(part, Claim):
        values["citations"] = [_as_dict(citation) for citation in part.citations]
    return values


def _describe(citation: Citation) -> str:
    """``[1] title, page 3, 88%, says 0.75, needed +2.1 nats: "the quote"``."""
    quote = " ".join(citation.quote.split())
    quote = quote if len(quote) <= QUOTE else f"{quote[: QUOTE - 1]}…"
    place = " ".join((citation.title or f"document {citation.document + 1}").split())
    page = "" if citation.page is None else f", page {citation.page}"
    says = "" if citation.says is None else f", {show_says(citation.says)}"
    needed = "" if citation.needed is None else f", {show_needed(citation.needed)}"
    return f'[{citation.number}] {place}{page}, {show_share(citation.share)}{says}{needed}: "{quote}"'
