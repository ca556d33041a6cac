"""MuSiQue-Ans (Trivedi et al. 2022, https://arxiv.org/abs/2108.00573): twenty paragraphs, evidence by paragraph."""

from attributor.eval.data._fields import (
    Example,
    FieldError,
    build_documents,
    check_list,
    check_text,
    read_id,
    read_text,
)
from attributor.eval.data._question import Question

__all__ = ["question", "recognises"]

NAME = "musique"
TITLE = "MuSiQue"
SUMMARY = "MuSiQue: evidence by paragraph."
DESCRIPTION = "MuSiQue: twenty paragraphs a question, evidence by paragraph. DATA is its .jsonl file."
COMMANDS = (
    "attributor eval musique musique_ans_v1.0_dev.jsonl --limit 200",
    "attributor eval musique dev.jsonl --answer generated --method flow:retrieval,contextcite:64",
)
HOME = "https://github.com/StonyBrookNLP/musique"
FIELDS = ("id", "question", "answer", "paragraphs")
ORDER = 30


def question(example: Example) -> tuple[Question, list[FieldError]]:
    """Convert an example. A paragraph is one piece, and the id begins with the kind ("2hop", "3hop1", ...).

        {id, question, answer, answer_aliases[], answerable, paragraphs: [{title, paragraph_text, is_supporting}, ...]}

    Raises:
        FieldError: a field cannot be used, the example is marked unanswerable, or no paragraph is supporting.
    """
    if example.get("answerable") is False:
        raise FieldError("answerable", "is false, so no paragraph holds the evidence")
    notes: list[FieldError] = []
    paragraphs: list[tuple[str, tuple[str, ...]]] = []
    supporting: list[int] = []
    for i, paragraph in enumerate(check_list("paragraphs", example.get("paragraphs"))):
        field = f"paragraphs[{i}]"
        if not isinstance(paragraph, dict):
            raise FieldError(field, f"must be an object, got {type(paragraph).__name__}")
        title = check_text(f"{field}.title", paragraph.get("title"), empty=True)
        body = check_text(f"{field}.paragraph_text", paragraph.get("paragraph_text"), empty=True)
        marked = paragraph.get("is_supporting")
        if not isinstance(marked, bool):
            raise FieldError(f"{field}.is_supporting", f"must be true or false, got {str(marked)[:40]!r}")
        paragraphs.append((title, (body,)))
        if marked:
            supporting.append(i)
    documents, places = build_documents("paragraphs", paragraphs, notes)
    gold = frozenset((place, 0) for place in (places[i] for i in supporting) if place is not None)
    if not gold:
        raise FieldError("paragraphs", "none with text is marked is_supporting")
    name = read_id(example, "id")
    aliases = check_list("answer_aliases", example.get("answer_aliases") or [])
    return (
        Question(
            id=name,
            text=read_text(example, "question"),
            answer=read_text(example, "answer"),
            documents=documents,
            gold=gold,
            aliases=tuple(check_text("answer_aliases", alias) for alias in aliases),
            kind=name.partition("__")[0] if "hop" in name.partition("__")[0] else "",
        ),
        notes,
    )


def recognises(example: Example) -> bool:
    """Return whether an example is of MuSiQue: its paragraphs have a paragraph_text."""
    paragraphs = example.get("paragraphs")
    first = paragraphs[0] if isinstance(paragraphs, list) and paragraphs else None
    return isinstance(first, dict) and "paragraph_text" in first
