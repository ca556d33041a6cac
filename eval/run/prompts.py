"""Builds a question's prompt and locates every piece of its documents in it."""

from dataclasses import dataclass
from typing import Any

from attributor._errors import InputError
from attributor._prompt import Prompt, build_prompt
from attributor._text import Segment
from attributor.eval.data import Question

__all__ = ["CasePrompt", "build_case_prompt"]


@dataclass(frozen=True)
class CasePrompt:
    """What the model reads for one question.

    Attributes:
        prompt: text, ids and offsets.
        segments: S spans of `prompt.text`, one for each piece with text, without surrounding white space, in order.
        piece_of: the (document, piece) of each segment, both from 0.
        gold: the segments that are evidence, ascending.
        gold_documents: the documents that hold evidence, ascending.
        documents: spans of the question's documents in `prompt.text`, title lines included.
    """

    prompt: Prompt
    segments: tuple[Segment, ...]
    piece_of: tuple[tuple[int, int], ...]
    gold: tuple[int, ...]
    gold_documents: tuple[int, ...]
    documents: tuple[Segment, ...]


def build_case_prompt(tokenizer: Any, question: Question, *, system: str | None = None) -> CasePrompt:
    """Build one user turn of documents and question, and locate the pieces in it by counting characters.

    Args:
        tokenizer: a Hugging Face tokenizer, with or without a chat template.
        question: at least one document; every document with text.
        system: the system turn's text; None leaves it to the template.

    Raises:
        InputError: there is no document, a document has no text, text cannot be encoded, evidence is not a piece with
            text, or the chat template changes the text; and as :func:`attributor._prompt.build.build_prompt`.
    """
    if not question.documents:
        raise InputError(f"question {question.id} has no documents to attribute to")
    bodies = ["".join(document.pieces) for document in question.documents]
    titles = [document.title for document in question.documents]
    prompt = build_prompt(tokenizer, list(zip(titles, bodies, strict=True)), question.text, system)
    segments: list[Segment] = []
    piece_of: list[tuple[int, int]] = []
    for d, (document, shown) in enumerate(zip(question.documents, prompt.documents, strict=True)):
        at = 0
        for p, piece in enumerate(document.pieces):
            inside = piece.strip()
            first = at + len(piece) - len(piece.lstrip())
            at += len(piece)
            if inside:
                start, stop = shown.prompt_span(first, first + len(inside))
                shown_text = prompt.text[start:stop]
                if shown_text.split() != inside.split():
                    raise InputError(
                        f"piece {p + 1} of document {d + 1} of question {question.id} is {inside[:40]!r}, but in its "
                        f"place the prompt has {shown_text[:40]!r}; the model's chat template changes the text"
                    )
                segments.append(Segment(start, stop, shown_text, None, d))
                piece_of.append((d, p))
    index = {place: s for s, place in enumerate(piece_of)}
    lost = sorted(place for place in question.gold if place not in index)
    if lost:
        raise InputError(f"question {question.id} names as evidence (document, piece) {lost[0]}, which is no text")
    return CasePrompt(
        prompt=prompt,
        segments=tuple(segments),
        piece_of=tuple(piece_of),
        gold=tuple(sorted(index[place] for place in question.gold)),
        gold_documents=tuple(sorted({d for d, _ in question.gold})),
        documents=prompt.documents,
    )
