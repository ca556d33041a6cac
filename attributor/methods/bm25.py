"""BM25 of the words that a segment shares with question and answer; rare words count more. It needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._text import split_words
from attributor.methods._method import Needs
from attributor.methods._texts import join_query, list_titled_texts

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["BM25", "score_texts"]

NAME = "bm25"
SUMMARY = "words shared with question and answer, rare ones count more; bm25:title reads title + segment"
SOURCE = "https://doi.org/10.1561/1500000019"
ARGUMENT = "text"
ORDER = 102
LIBRARY = "bm25s"

TEXTS = ("segment", "title")
K1, B = 1.5, 0.75
WORD = r"\S+"  # a word of `split_words`; the library's own pattern leaves out "5" and "C"


@dataclass(frozen=True)
class BM25:
    """BM25 of question + " " + answer, with the prompt's segments as the collection.

    q runs over the distinct words of the query. n is the number of segments, n_q the number of those with q, f_q how
    often q is in the segment, and l the segment's number of words over the mean of all segments:

        sum_q log(1 + (n - n_q + 0.5) / (n_q + 0.5)) f_q / (f_q + k1 (1 - b + b l)),   k1 = 1.5, b = 0.75

    Words are those of `split_words` without the library's English stop words, which include question words and the
    letters a, d, i, m, o, s, t and y. Only the order of the scores is meaningful.

    Attributes:
        text: "segment", the default: each segment's own words; "title": also those of its document's title, if it has
            one.
        name: "bm25", followed by the text if it is not the default.
    """

    text: str = "segment"
    name: str = field(default="", compare=False)
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the text.

        Raises:
            InputError: it is not in TEXTS.
        """
        if self.text not in TEXTS:
            raise InputError(f"bm25 takes {', '.join(TEXTS)}, got {self.text!r}")
        if not self.name:
            object.__setattr__(self, "name", "bm25" if self.text == "segment" else f"bm25:{self.text}")

    def needs(self, model: Any) -> Needs:
        """Record nothing; a missing library is reported here, before the first case."""
        _import_library()
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): 0 for a segment that shares no word."""
        query = join_query(reading, NAME)
        titled = self.text == "title"
        return score_texts(query, list_titled_texts(reading) if titled else [s.text for s in reading.segments])


def score_texts(query: str, texts: Sequence[str]) -> Tensor:
    """(S,) float64: BM25 of the query against each of S texts, which are the collection.

    Raises:
        InputError: the library is not installed.
    """
    library = _import_library()
    prepared = [" ".join(split_words(text)) for text in (query, *texts)]
    options = {"token_pattern": WORD, "stopwords": "english_plus", "return_ids": False, "show_progress": False}
    tokenized = library.tokenize(prepared, **options)
    query_words, *words = [[word for word in text if word] for text in tokenized]  # for a text without words it is [""]
    known = set().union(*words)
    shared = [word for word in dict.fromkeys(query_words) if word in known]  # each once
    if not shared:
        return torch.zeros(len(texts), dtype=torch.float64)
    index = library.BM25(method="lucene", k1=K1, b=B, dtype="float64")
    index.index(words, show_progress=False)
    return torch.from_numpy(index.get_scores(shared))


def _import_library() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise InputError(
            "the method 'bm25' needs bm25s; install it with: pip install 'attributor[eval]', or pip install bm25s"
        ) from error
    return bm25s
