"""A prompt and its answer as token ids, with their text where it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attributor._text import Segment, SegmentLike, answer_offsets, assign_tokens, find_documents, token_offsets

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
    def of(
        cls, ids: Tensor, prompt_length: int, tokenizer: Any = None, documents: Sequence[SegmentLike] | None = None
    ) -> "TokenSequence":
        """Ids with the text that a tokenizer decodes them to.

        Args:
            ids: (k + a,) int64.
            prompt_length: k.
            tokenizer: the model's tokenizer; None: no text and no documents.
            documents: strings that occur once in the prompt, (start, stop) characters of its text, or Segments.

        Raises:
            InputError: ids that are not this tokenizer's, documents that are not in the text.
        """
        if tokenizer is None:
            return cls(ids, prompt_length)
        text, offsets = token_offsets(tokenizer, ids[:prompt_length])
        answer, places = answer_offsets(tokenizer, ids[prompt_length:])
        segments = tuple(find_documents(text, () if documents is None else documents))
        return cls(ids, prompt_length, text, offsets, answer, places, segments)

    @property
    def read_ids(self) -> Tensor:
        """(N,) what a model has to read: nothing is predicted from the last token of an answer."""
        return self.ids[:-1] if self.prompt_length < self.ids.numel() else self.ids

    @property
    def positions(self) -> Tensor:
        """(o,) int64, where the answer's tokens, or the next token after a prompt alone, are predicted."""
        return torch.arange(self.prompt_length - 1, self.read_ids.numel())


def span_tokens(offsets: Tensor, start: int, stop: int) -> Tensor:
    """(Q,) int64: the tokens that lie, with most of their characters, in characters `start` to `stop` of the text.

    Args:
        offsets: (k, 2) int64, the character span of each token.
        start: the first character.
        stop: one past the last.
    """
    return torch.from_numpy(assign_tokens(offsets.numpy(), [Segment(start, stop, "")]) == 0).nonzero()[:, 0]
