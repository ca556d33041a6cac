"""What users hand in as ids, lengths and masks, checked and brought to one form: unpadded sequences."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError

__all__ = ["accepts", "answer_length", "check_documents", "check_ids", "per_row", "prompt_lengths", "sequences"]


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
    mask = torch.as_tensor(attention_mask).detach().cpu()
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


def per_row(value: int | Sequence[int] | None, rows: int) -> list[int | None]:
    """One prompt length a row."""
    if value is None or isinstance(value, int):
        return [value] * rows
    given = [int(length) for length in value]
    if len(given) != rows:
        raise InputError(f"prompt_length must be one number or one a row ({rows}), got {len(given)}")
    return list(given)


def prompt_lengths(value: int | Sequence[int] | None, rows: list[Tensor]) -> list[int]:
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


def check_ids(ids: Tensor, vocabulary: int, config: Any) -> None:
    """Raise InputError for ids that the model has no embedding for, or more of them than it has positions."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        bad = low if low < 0 else high
        raise InputError(f"ids must be 0 to {vocabulary - 1} for this model, got {bad}; was another tokenizer used?")
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if limit is not None and ids.numel() > limit:
        raise InputError(f"{ids.numel()} tokens are more than the model's {limit} positions; shorten the prompt")


def check_documents(documents: Any, tokenizer: Any) -> None:
    """Documents are found in the text, which needs a tokenizer."""
    if documents is not None and tokenizer is None:
        raise InputError("documents are found in the prompt's text, so pass tokenizer= as well")


def answer_length(answer: Tensor, model: Any) -> int:
    """How many of the generated ids are the answer: up to and with the first end token, where padding follows it."""
    generation = getattr(model, "generation_config", None)
    ends = getattr(generation, "eos_token_id", None)
    if ends is None:
        return int(answer.numel())
    ends = torch.as_tensor(ends).reshape(-1).cpu()
    hits = torch.isin(answer, ends).nonzero()
    if not hits.numel():
        return int(answer.numel())
    stop = int(hits[0]) + 1
    rest = answer[stop:]
    pad = getattr(generation, "pad_token_id", None)
    padding = torch.isin(rest, ends) if pad is None else (rest == pad) | torch.isin(rest, ends)
    return stop if bool(padding.all()) else int(answer.numel())


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of that name."""
    return name in inspect.signature(function).parameters
