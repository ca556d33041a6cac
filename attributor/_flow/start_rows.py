"""Build the start rows R_L: 1 where the answer is predicted, or a share of it on the question's tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._prompt import Prompt, TokenSequence, span_tokens
from attributor._record import HeadWeights
from attributor._text import find_segment

__all__ = ["question_tokens", "start_rows"]


def start_rows(positions: Tensor, length: int, question: Tensor | None, share: float) -> Tensor:
    """R_L: (O, N) float64, rows that sum to 1.

        R_L[o] = (1 - share) e(positions[o]) + share / Q sum_q e(question[q])

    Args:
        positions: (O,) int64, where each answer token is predicted.
        length: N, the positions of the sequence.
        question: (Q,) int64, the question's tokens; None: the rows begin at `positions` alone.
        share: from 0 up to 1.
    """
    rows = torch.zeros(positions.numel(), length, dtype=torch.float64, device="cpu")
    rows[torch.arange(positions.numel()), positions] = 1.0 if question is None else 1 - share
    if question is not None and share:
        rows[:, question] += share / question.numel()
    return rows


def question_tokens(
    question: Any, sequences: Sequence[TokenSequence], weights: HeadWeights, prompts: Sequence[Prompt] | None = None
) -> list[Tensor | None]:
    """(Q,) int64 for each sequence, the prompt tokens of its question; None if none was given.

    Args:
        question: text that occurs once in the prompt, its (start, stop) characters, or a tensor of token positions; one
            for all sequences, or a list with one per sequence.
        sequences: with their text, for a question as text or characters.
        weights: their `question` is the share.
        prompts: the sequences' prompts, whose own questions are taken; None: `question` names them.

    Raises:
        InputError: a question that is not in the prompt, that needs a tokenizer, or that the weights do not use; more
            or fewer questions than sequences.
    """
    if prompts is not None:
        return [prompt.question_tokens if weights.question else None for prompt in prompts]
    count = len(sequences)
    if isinstance(question, list) and len(question) != count:
        noun = "sequence" if count == 1 else "sequences"
        raise InputError(f"{len(question)} questions were given for {count} {noun}; give one each, or one for all")
    questions = question if isinstance(question, list) else [question] * count
    return [
        _question_tokens(one, sequence, weights, "the question" if count == 1 else f"the question of row {index}")
        for index, (one, sequence) in enumerate(zip(questions, sequences, strict=True))
    ]


def _question_tokens(question: Any, sequence: TokenSequence, weights: HeadWeights, name: str) -> Tensor | None:
    if question is None:
        return None
    if not weights.question:
        raise InputError(
            f"a question was given, but weights {weights.name!r} take no share from it; use weights='retrieval', or "
            "Weights(..., question=0.5)"
        )
    k = sequence.prompt_length
    if isinstance(question, Tensor):
        tokens = question.detach()
        if tokens.device.type == "meta" or tokens.layout != torch.strided or tokens.is_quantized:
            raise InputError(f"{name} as a tensor must hold plain numbers, got {tokens.layout} on {tokens.device}")
        tokens = tokens.to("cpu")
        if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
            raise InputError(f"{name} as a tensor is (Q,) token positions, got {tuple(tokens.shape)} {tokens.dtype}")
        tokens = torch.unique(tokens.long())
    else:
        if sequence.text is None or sequence.offsets is None:
            raise InputError(f"{name} as text needs tokenizer=; or give its token positions as a tensor")
        span = find_segment(sequence.text, question, name)
        tokens = span_tokens(sequence.offsets, span.start, span.stop)
    if not tokens.numel() or int(tokens[0]) < 0 or int(tokens[-1]) >= k:
        raise InputError(f"{name} must be tokens 0 to {k - 1} of the prompt, got {tokens.tolist()[:8]}")
    return tokens
