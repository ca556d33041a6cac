"""A prompt and its answer as token ids, with their text if it is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._documents import place_documents
from attributor._errors import InputError
from attributor._text import Segment, answer_offsets, assign_tokens, token_offsets

__all__ = ["TokenSequence", "span_tokens"]


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """A prompt of k tokens and an answer of a >= 0 tokens.

    Attributes:
        ids: (k + a,) int64 on the CPU, the prompt's ids, then the answer's.
        prompt_length: k, at least 1.
        text: the prompt as text.
        offsets: (k, 2) int64, the characters of each prompt token in `text`.
        answer: the answer as text.
        answer_offsets: (a, 2) int64, the characters of each answer token in `answer`.
        documents: spans of `text`.
    """

    ids: Tensor
    prompt_length: int
    text: str | None = None
    offsets: Tensor | None = None
    answer: str | None = None
    answer_offsets: Tensor | None = None
    documents: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, ids: Tensor, prompt_length: int, tokenizer: Any = None, documents: Any = None) -> "TokenSequence":
        """Make a sequence of ids, with the text that a tokenizer decodes them to.

        Args:
            ids: (k + a,) int64.
            prompt_length: k.
            tokenizer: the model's tokenizer; None: no text and no documents.
            documents: of the prompt, as `attributor._documents.place_documents` takes them; None: none.

        Raises:
            InputError: ids that are not this tokenizer's, documents that are not in the text.
        """
        if tokenizer is None:
            return cls(ids, prompt_length)
        text, offsets = token_offsets(tokenizer, ids[:prompt_length])
        answer, places = answer_offsets(tokenizer, ids[prompt_length:])
        placed = place_documents(text, () if documents is None else documents)
        return cls(ids, prompt_length, text, offsets, answer, places, placed)

    @classmethod
    def of_batch(
        cls, rows: Sequence[tuple[Tensor, int]], tokenizer: Any = None, documents: Any = None
    ) -> "list[TokenSequence]":
        """As `of`, for each row of a batch.

        Args:
            rows: (ids, prompt_length) of each row.
            tokenizer: as in `of`.
            documents: as in `of`, the same for all rows; or, for several rows, a list of as many lists.

        Raises:
            InputError: as `of`; more or fewer lists of documents than rows.
        """
        if len(rows) == 1 and not (isinstance(documents, list) and len(documents) == 1 and _is_row(documents[0])):
            return [cls.of(*rows[0], tokenizer, documents)]
        sequences = []
        for index, (row, of_row) in enumerate(zip(rows, _split_documents(documents, len(rows)), strict=True)):
            try:
                sequences.append(cls.of(*row, tokenizer, of_row))
            except InputError as error:
                raise InputError(f"row {index}: {error}") from error
        return sequences

    @property
    def read_ids(self) -> Tensor:
        """(N,) the ids that a model has to read: nothing is predicted from the last token of an answer."""
        return self.ids[:-1] if self.prompt_length < self.ids.numel() else self.ids

    @property
    def positions(self) -> Tensor:
        """(o,) int64, where the answer's tokens, or the next token after a prompt alone, are predicted."""
        return torch.arange(self.prompt_length - 1, self.read_ids.numel())


def _split_documents(documents: Any, count: int) -> list[Any]:
    """The documents of each row: one list per row from a list of lists, else the same documents for all rows.

    Raises:
        InputError: more or fewer lists than rows; a mix of lists and documents.
    """
    documents = list(documents) if isinstance(documents, Iterator) else documents
    if not isinstance(documents, list) or not any(_is_row(item) for item in documents):
        return [documents] * count
    shape = f"a list of documents for each of the {count} rows, or one list of documents for all of them"
    for index, item in enumerate(documents):
        if not _is_row(item):
            raise InputError(f"documents must be {shape}; item {index} is no list: {shorten_value(item)}")
    if len(documents) != count:
        raise InputError(f"documents must be {shape}, got {len(documents)} lists")
    return documents


def _is_row(item: Any) -> bool:
    """Whether the item is a list of documents, and not a (start, stop) span."""
    return isinstance(item, list) and not any(isinstance(part, int) for part in item)


def span_tokens(offsets: Tensor, start: int, stop: int) -> Tensor:
    """(Q,) int64: the tokens that share characters with characters `start` to `stop` of the text.

    Args:
        offsets: (k, 2) int64, the character span of each token.
        start: the first character.
        stop: one past the last.
    """
    return torch.from_numpy(assign_tokens(offsets.numpy(), [Segment(start, stop, "")]) == 0).nonzero()[:, 0]
