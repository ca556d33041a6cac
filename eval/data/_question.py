"""A question with its documents and its evidence: the form into which every data set is brought."""

from dataclasses import dataclass

__all__ = ["Document", "GeneratedQuestion", "Question"]


@dataclass(frozen=True)
class Document:
    """A titled text in pieces, as its data set divides it: sentences, or one paragraph.

    Attributes:
        title: may be "".
        pieces: as they follow each other in the text; a piece begins with the white space that separates it.
    """

    title: str
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One example of a data set, as the evaluation uses it.

    Attributes:
        id: unique in its data set; what a resumed run goes by.
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
    """A question that a data set generates; a run measures what removing its documents does to the answer.

    Attributes:
        planted: the documents that were written for this question, ascending; the others are distractors.
        written: whether the answer that the model writes is attributed, and not the expected one.
        seed, row: what it follows from, with its kind.
    """

    planted: tuple[int, ...] = ()
    written: bool = False
    seed: int = 0
    row: int = 0
