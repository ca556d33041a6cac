"""The citations of an answer in the shapes of other APIs, as plain dicts and lists; their packages are not imported.

Offsets count Unicode code points from 0, as Python does, and end after the last character. JSON can hold a result if it
can hold the metadata of the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from attributor._checks import shorten_value
from attributor._errors import InputError

if TYPE_CHECKING:
    from attributor._cite.citations import Citation, CitedAnswer, Claim

__all__ = ["Shape", "convert"]

Shape = Literal["anthropic", "cohere", "langchain", "openai"]
JsonDict = dict[str, Any]


def convert(answer: CitedAnswer, shape: str) -> Any:
    """The answer in the shape of another API; each function below describes its shape.

    Raises:
        InputError: an unknown shape.
    """
    if not isinstance(shape, str) or shape not in CONVERTERS:
        *others, last = map(repr, CONVERTERS)
        raise InputError(f"shape must be {', '.join(others)} or {last}, got {shorten_value(shape)}")
    return CONVERTERS[shape](answer)


def to_anthropic(answer: CitedAnswer) -> list[JsonDict]:
    """``message.content`` of the Messages API: text blocks, which together are exactly the answer.

    Source: Anthropic, "Citations", https://platform.claude.com/docs/en/build-with-claude/citations, "Response
    structure" and "Plain text documents".

    Each cited claim is a block. Text between cited claims is a block without the key ``citations``, as in the source.
    If claims overlap, the text is cut at every border, and a block has the citations of all claims that cover it.
    ``file_id`` is null, as the API sends it; the types of a request have no such key.

    Lost: shares, ``says``, ``needed``, numbers, pages, metadata, and claims without a citation. The API counts pages
    only in a PDF. A text document has ``char_location`` here too, with form feeds or without.
    """
    claims = _cited_claims(answer)
    borders = sorted({0, len(answer.text), *(border for claim in claims for border in (claim.start, claim.stop))})
    blocks = []
    for start, stop in pairwise(borders):
        covering = [claim for claim in claims if claim.start <= start and stop <= claim.stop]
        citations = {citation.number: citation for claim in covering for citation in claim.citations}
        locations = [_char_location(citation) for citation in citations.values()]
        block: JsonDict = {"type": "text", "text": answer.text[start:stop]}
        blocks.append({**block, "citations": locations} if locations else block)
    return blocks


def to_openai(answer: CitedAnswer) -> JsonDict:
    """An ``output_text`` of the Responses API with its ``annotations``.

    Source: OpenAI, "File search" and "Web search", https://developers.openai.com/api/docs/guides/tools-file-search and
    tools-web-search; `openai.types.responses.ResponseOutputText`. The other API, chat completions, can only cite URLs.

    A document with a URL (metadata ``url``, or ``source`` if that is an HTTP address) gives a ``url_citation`` whose
    ``start_index`` and ``end_index`` are the claim in the answer. In OpenAI's responses they mark the link in the text.
    Both are sliced as ``text[start_index:end_index]``. Any other document gives a ``file_citation`` whose ``index`` is
    the end of the claim, where a mark would be inserted. Its ``file_id`` is the metadata ``file_id``, otherwise the id
    as in `to_cohere`. Its ``filename`` is the title, otherwise the metadata ``source``, otherwise that id. A document
    that a claim cites twice has one annotation.

    Lost: the cited sentence and its place, shares, ``says``, ``needed``, numbers, pages and other metadata; for a
    ``file_citation`` also where its claim begins.
    """
    annotations = []
    for claim in _cited_claims(answer):
        of_claim: list[JsonDict] = []
        for citation in claim.citations:
            annotation = _openai_annotation(claim, citation)
            of_claim += [annotation] if annotation not in of_claim else []
        annotations += of_claim
    return {"type": "output_text", "text": answer.text, "annotations": annotations}


def to_cohere(answer: CitedAnswer) -> JsonDict:
    """``message`` of the Chat API v2.

    Source: Cohere, "RAG Citations", https://docs.cohere.com/docs/rag-citations; `cohere.types.Citation`.

    ``start`` and ``end`` are the claim in the answer. It has one source for each sentence that it cites, so the id of a
    document can occur twice. The id is the metadata ``id`` if that is text. Otherwise it is ``doc:0`` for the first
    document, as Cohere numbers documents without an id. ``document`` holds the metadata, ``id``, ``title`` and
    ``snippet``. The snippet is the cited sentence; Cohere's own holds the text that was sent.

    Lost: the place of the sentence in the document, shares, ``says``, ``needed``, numbers and pages; metadata with one
    of the names above.
    """
    citations = [
        {
            "start": claim.start,
            "end": claim.stop,
            "text": claim.text,
            "sources": [_cohere_source(citation) for citation in claim.citations],
            "type": "TEXT_CONTENT",
        }
        for claim in _cited_claims(answer)
    ]
    return {"role": "assistant", "content": [{"type": "text", "text": answer.text}], "citations": citations}


def to_langchain(answer: CitedAnswer) -> list[JsonDict]:
    """Standard content blocks of LangChain v1, for ``AIMessage(content=...)``: one text block with annotations.

    Source: LangChain reference, "Citation", https://reference.langchain.com/python/langchain-core/messages/content;
    `langchain_core.messages.content.Citation`.

    ``start_index`` and ``end_index`` are the claim in the answer; ``url`` is found as in `to_openai`. ``extras`` holds
    ``number``, ``document``, ``start``, ``stop``, ``share``, ``page`` and ``metadata`` of the `Citation`, and
    ``says`` and ``needed`` if they were computed.

    Lost: shares, ``says`` and ``needed`` of the whole answer, and its origin.
    """
    annotations = [
        _langchain_citation(claim, citation) for claim in _cited_claims(answer) for citation in claim.citations
    ]
    return [{"type": "text", "text": answer.text, "annotations": annotations}]


CONVERTERS: Mapping[str, Callable[[CitedAnswer], Any]] = {
    "anthropic": to_anthropic,
    "cohere": to_cohere,
    "langchain": to_langchain,
    "openai": to_openai,
}


def _cited_claims(answer: CitedAnswer) -> list[Claim]:
    """The claims that cite something, from left to right."""
    claims = [claim for claim in answer.claims if claim.citations]
    return sorted(claims, key=lambda claim: (claim.start, claim.stop))


def _char_location(citation: Citation) -> JsonDict:
    return {
        "type": "char_location",
        "cited_text": citation.quote,
        "document_index": citation.document,
        "document_title": citation.title,
        "start_char_index": citation.start,
        "end_char_index": citation.stop,
        "file_id": None,
    }


def _openai_annotation(claim: Claim, citation: Citation) -> JsonDict:
    url = _find_url(citation)
    if url is not None:
        return {
            "type": "url_citation",
            "start_index": claim.start,
            "end_index": claim.stop,
            "url": url,
            "title": citation.title or url,
        }
    name = _find_id(citation)
    return {
        "type": "file_citation",
        "index": claim.stop,
        "file_id": _read_text(citation, "file_id") or name,
        "filename": citation.title or _read_text(citation, "source") or name,
    }


def _cohere_source(citation: Citation) -> JsonDict:
    name = _find_id(citation)
    title = {} if citation.title is None else {"title": citation.title}
    return {
        "type": "document",
        "id": name,
        "document": {**citation.metadata, "id": name, **title, "snippet": citation.quote},
    }


def _langchain_citation(claim: Claim, citation: Citation) -> JsonDict:
    url = _find_url(citation)
    return {
        "type": "citation",
        **({} if url is None else {"url": url}),
        **({} if citation.title is None else {"title": citation.title}),
        "start_index": claim.start,
        "end_index": claim.stop,
        "cited_text": citation.quote,
        "extras": {
            "number": citation.number,
            "document": citation.document,
            "start": citation.start,
            "stop": citation.stop,
            "share": citation.share,
            "page": citation.page,
            "metadata": dict(citation.metadata),
            **({} if citation.says is None else {"says": citation.says}),
            **({} if citation.needed is None else {"needed": citation.needed}),
        },
    }


def _find_id(citation: Citation) -> str:
    return _read_text(citation, "id") or f"doc:{citation.document}"


def _find_url(citation: Citation) -> str | None:
    source = _read_text(citation, "source")
    is_address = source is not None and source.lower().startswith(("http://", "https://"))
    return _read_text(citation, "url") or (source if is_address else None)


def _read_text(citation: Citation, key: str) -> str | None:
    """The metadata's text for a key; None if the value is empty or is not text."""
    value = citation.metadata.get(key)
    return value if isinstance(value, str) and value else None
