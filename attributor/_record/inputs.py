"""What users hand in as ids, lengths and masks, checked and brought to one form: unpadded sequences."""

import operator
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._models import ModelFacts
from attributor._record.history import Turn

__all__ = [
    "answer_length",
    "check_ids",
    "check_tokenizer",
    "per_row",
    "prompt_lengths",
    "sequences",
]


def sequences(ids: Any, attention_mask: Any) -> tuple[list[Tensor], bool]:
    """Unpadded (n,) int64 sequences on the CPU, and whether a single one was given.

    Raises:
        InputError: not integers, not one or two dimensions, empty, or a mask of another shape or with holes.
    """
    if hasattr(ids, "keys") and "input_ids" in ids:  # what a tokenizer returns
        attention_mask = ids.get("attention_mask") if attention_mask is None else attention_mask
        ids = ids["input_ids"]
    try:
        tensor = torch.as_tensor(ids)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"ids must be integers of shape (n,), (1, n) or (B, n): {error}") from error
    if not tensor.numel():
        raise InputError(f"ids are empty (shape {tuple(tensor.shape)}); give at least one token")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise InputError(f"ids must be integers, got {tensor.dtype}")
    if tensor.ndim not in (1, 2):
        raise InputError(f"ids must be (n,), (1, n) or (B, n), got {tuple(tensor.shape)}")
    batch = tensor.detach().to("cpu", torch.int64)
    batch = batch[None] if batch.ndim == 1 else batch
    single = batch.shape[0] == 1
    if attention_mask is None:
        return list(batch), single
    try:
        mask = torch.as_tensor(attention_mask).detach().cpu()
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"attention_mask must be 0 and 1 in the shape of ids, {tuple(batch.shape)}: {error}"
        ) from error
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.shape != batch.shape:
        raise InputError(f"attention_mask must have the shape of ids, {tuple(batch.shape)}, got {tuple(mask.shape)}")
    found = []
    for row, (tokens, real) in enumerate(zip(batch, mask != 0, strict=True)):
        index = real.nonzero()[:, 0]
        if not index.numel():
            raise InputError(f"row {row} of attention_mask is all 0: no tokens are left")
        if int(index[-1] - index[0]) + 1 != index.numel():
            raise InputError(f"row {row} of attention_mask has zeros between ones; pad on the left or the right only")
        found.append(tokens[real])
    return found, single


def per_row(value: Any, rows: int) -> list[int | None]:
    """One prompt length a row.

    Raises:
        InputError: not whole numbers, or not one a row.
    """
    if value is None:
        return [None] * rows
    given = list(value) if isinstance(value, (list, tuple)) or int(getattr(value, "ndim", 0)) else [value] * rows
    if len(given) != rows:
        raise InputError(f"prompt_length must be one number or one a row ({rows}), got {len(given)}")
    try:
        if any(isinstance(length, (bool, str)) for length in given):
            raise TypeError
        return [operator.index(length) for length in given]
    except TypeError:
        raise InputError(f"prompt_length must be a whole number, or one a row, got {value!r}") from None


def prompt_lengths(value: Any, rows: list[Tensor]) -> list[int]:
    """The prompt's length of every row, the row's own length where none is given.

    Raises:
        InputError: below 1 or above the row's length.
    """
    lengths = []
    for row, (length, tokens) in enumerate(zip(per_row(value, len(rows)), rows, strict=True)):
        n = tokens.numel()
        if length is not None and not 1 <= length <= n:
            raise InputError(
                f"prompt_length must be 1 to {n} for row {row} of {n} tokens (the answer is what follows), got {length}"
            )
        lengths.append(n if length is None else length)
    return lengths


def check_ids(ids: Tensor, facts: ModelFacts) -> None:
    """Raise InputError for ids that the model has no embedding for, or more of them than it has positions."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= facts.vocabulary:
        bad = low if low < 0 else high
        raise InputError(
            f"ids must be 0 to {facts.vocabulary - 1} for this model, got {bad}; was another tokenizer used?"
        )
    if facts.window is not None and ids.numel() > facts.window:
        raise InputError(f"{ids.numel()} tokens are more than the model's {facts.window} positions; shorten the prompt")


def check_tokenizer(tokenizer: Any, documents: Any) -> None:
    """Raise InputError for a tokenizer that is none, or documents without one."""
    if tokenizer is None:
        if documents is not None:
            raise InputError("documents are found in the prompt's text, so pass tokenizer= as well")
    elif not hasattr(tokenizer, "decode"):
        raise InputError(f"tokenizer must be the model's tokenizer, got {type(tokenizer).__name__}")


def answer_length(answer: Tensor, turn: Turn | None) -> int:
    """How many of the generated ids are the answer: up to and with the first end token, where padding follows it."""
    if turn is None or not turn.ends:
        return int(answer.numel())
    ends = torch.tensor(turn.ends)
    hits = torch.isin(answer, ends).nonzero()
    if not hits.numel():
        return int(answer.numel())
    stop = int(hits[0]) + 1
    rest = answer[stop:]
    padding = torch.isin(rest, ends) if turn.pad is None else (rest == turn.pad) | torch.isin(rest, ends)
    return stop if bool(padding.all()) else int(answer.numel())
