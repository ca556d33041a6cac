"""A question with its documents and evidence: the common form of all data sets."""

from dataclasses import dataclass

__all__ = ["Document", "GeneratedQuestion", "Question"]


@dataclass(frozen=True)
class Document:
    """A titled text in pieces, as its data set divides it: sentences, or one paragraph.

    Attributes:
        title: may be "".
        pieces: in the order of the text; a piece begins with the white space that separates it from the one before.
    """

    title: str
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One example of a data set, as the evaluation uses it.

    Attributes:
        id: unique in its data set; a resumed run identifies cases by it.
        text: the question.
        answer: the expected answer.
        aliases: other answers that count as right.
        documents: in the order in which the model reads them.
        gold: (document, piece) of the evidence, both counted from 0; never an empty piece.
        kind: "bridge", "comparison" ..., as the data set has it, or "".
        level: "easy", "medium", "hard", or "".
    """

    id: str
    text: str
    answer: str
    documents: tuple[Document, ...]
    gold: frozenset[tuple[int, int]]
    aliases: tuple[str, ...] = ()
    kind: str = ""
    level: str = ""


@dataclass(frozen=True)
class GeneratedQuestion(Question):
    """A generated question; a run measures what its answer loses without each document.

    Attributes:
        planted: the documents that were written for this question, ascending; the others are distractors.
        written: whether the model's own answer is attributed instead of the expected one.
        seed, row: with the kind, they determine the question.
    """

    planted: tuple[int, ...] = ()
    written: bool = False
    seed: int = 0
    row: int = 0
