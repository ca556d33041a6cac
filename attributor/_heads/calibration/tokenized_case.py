"""Tokenise a calibration case and locate its sentences, question and answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attributor._heads.calibration.prompts import Case
from attributor._prompt import build_prompt, encode_answer
from attributor._text import Segment, assign_tokens

__all__ = ["TokenizedCase", "tokenize_case"]


@dataclass(frozen=True)
class TokenizedCase:
    """Tokens of one case.

    Attributes:
        ids: (n,) int64, prompt and answer, and the end token if the tokenizer has one.
        sentence_of: (n,) int64, the sentence of each token, counted through all documents; -1 for tokens outside all
            sentences.
        answer: (a,) int64, the positions that predict the answer's tokens and its end; at the last one the whole answer
            has been read.
        question: (q,) int64, the positions of the question's tokens.
        planted: the planted sentences' numbers, in the order in which they are needed.
        sentences: how many there are, S.
    """

    ids: Tensor
    sentence_of: Tensor
    answer: Tensor
    question: Tensor
    planted: tuple[int, ...]
    sentences: int


def tokenize_case(tokenizer: Any, case: Case) -> TokenizedCase:
    """Tokenise documents and question with the model's chat template (plain text without one), then the answer.

    Raises:
        InputError: a template that refuses or rewrites the user's turn.
    """
    documents = [(title, " ".join(sentences)) for title, sentences in case.documents]
    prompt = build_prompt(tokenizer, documents, case.question)
    plain = prompt.note is not None  # then the text ends in "Answer:"
    answer = encode_answer(tokenizer, case.answer)
    if plain:
        answer = torch.tensor(tokenizer(" " + case.answer, add_special_tokens=False)["input_ids"], dtype=torch.int64)
    end = getattr(tokenizer, "eos_token_id", None)
    if end is not None:
        answer = torch.cat([answer, torch.tensor([end])])
    k, n = len(prompt.ids), len(prompt.ids) + len(answer)
    spans: list[Segment] = []
    numbers: dict[tuple[int, int], int] = {}
    for document, (place, (title, sentences)) in enumerate(zip(prompt.documents, case.documents, strict=True)):
        at = place.start + len(f"{title}:\n")
        for number, sentence in enumerate(sentences):
            numbers[document, number] = len(spans)
            spans.append(Segment(at, at + len(sentence), sentence))
            at += len(sentence) + 1
    sentence_of = torch.full((n,), -1)
    sentence_of[:k] = _segment_of(prompt.offsets, spans)
    assert prompt.question is not None
    question = _segment_of(prompt.offsets, [Segment(*prompt.question, case.question)])
    return TokenizedCase(
        ids=torch.cat([prompt.ids, answer]),
        sentence_of=sentence_of,
        answer=torch.arange(k - 1, n - 1),
        question=(question == 0).nonzero()[:, 0],
        planted=tuple(numbers[place] for place in case.planted),
        sentences=len(spans),
    )


def _segment_of(offsets: Tensor, spans: Sequence[Segment]) -> Tensor:
    return torch.from_numpy(assign_tokens(offsets.numpy(), spans))
