"""Parse and check the ids, masks and prompt lengths that users pass."""

import operator
from typing import Any

import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._errors import InputError
from attributor._models import ModelFacts
from attributor._record.history import GenerateCall

__all__ = [
    "answer_length",
    "check_ids",
    "check_no_media",
    "check_tokenizer",
    "parse_prompt_lengths",
    "parse_sequences",
    "resolve_prompt_lengths",
]


def parse_sequences(ids: Any, attention_mask: Any) -> tuple[list[Tensor], bool]:
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
    try:
        batch = tensor.detach().to("cpu", torch.int64)
    except RuntimeError as error:  # on the meta device, quantised, sparse
        raise InputError(f"ids must be integers in plain memory, got {tensor.dtype} on {tensor.device}") from error
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
    unpadded = []
    for index, (tokens, real) in enumerate(zip(batch, mask != 0, strict=True)):
        places = real.nonzero()[:, 0]
        if not places.numel():
            raise InputError(f"row {index} of attention_mask is all 0: no tokens are left")
        if int(places[-1] - places[0]) + 1 != places.numel():
            raise InputError(f"row {index} of attention_mask has zeros between ones; pad on the left or the right only")
        unpadded.append(tokens[real])
    return unpadded, single


def parse_prompt_lengths(value: Any, count: int) -> list[int | None]:
    """`count` prompt lengths from one number, a list of `count` numbers, or None.

    Raises:
        InputError: not whole numbers, or not one per sequence.
    """
    if value is None:
        return [None] * count
    lengths = list(value) if isinstance(value, (list, tuple)) or int(getattr(value, "ndim", 0)) else [value] * count
    if len(lengths) != count:
        raise InputError(f"prompt_length must be one number or one a row ({count}), got {len(lengths)}")
    try:
        if any(isinstance(length, (bool, str)) for length in lengths):
            raise TypeError
        return [operator.index(length) for length in lengths]
    except TypeError:
        raise InputError(f"prompt_length must be a whole number, or one a row, got {shorten_value(value)}") from None


def resolve_prompt_lengths(value: Any, sequences: list[Tensor]) -> list[int]:
    """The prompt's length of every sequence; the sequence's own length if none is given.

    Raises:
        InputError: below 1 or above the sequence's length.
    """
    lengths = []
    for index, (length, tokens) in enumerate(zip(parse_prompt_lengths(value, len(sequences)), sequences, strict=True)):
        n = tokens.numel()
        if length is not None and not 1 <= length <= n:
            raise InputError(
                f"prompt_length must be 1 to {n} for row {index} of {n} tokens (the answer is what follows), "
                f"got {length}"
            )
        lengths.append(n if length is None else length)
    return lengths


def check_ids(ids: Tensor, facts: ModelFacts) -> None:
    """Raise InputError for ids without an embedding in the model, or for more ids than it has positions."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= facts.vocabulary:
        bad = low if low < 0 else high
        raise InputError(
            f"ids must be 0 to {facts.vocabulary - 1} for this model, got {bad}; was another tokenizer used?"
        )
    if facts.window is not None and ids.numel() > facts.window:
        raise InputError(f"{ids.numel()} tokens are more than the model's {facts.window} positions; shorten the prompt")


def check_no_media(ids: Tensor, facts: ModelFacts) -> None:
    """Raise InputError for ids that stand for images, videos or sounds, which `flow` does not pass to the model."""
    media = torch.isin(ids, torch.tensor(facts.media_ids, dtype=torch.int64)).nonzero()[:, 0]
    if media.numel():
        place = int(media[0])
        raise InputError(
            f"{media.numel()} of the ids stand for a piece of an image, video or sound (id {int(ids[place])} at "
            f"position {place}), and without these the model would read something else; record the call that has them: "
            "with attributor.record(model) as recording: out = model.generate(**inputs); flow = recording.flow(out)"
        )


def check_tokenizer(tokenizer: Any, documents: Any) -> None:
    """Raise InputError if `tokenizer` is not a tokenizer, or if documents are given without one."""
    if tokenizer is None:
        if documents is not None:
            raise InputError("documents are found in the prompt's text, so pass tokenizer= as well")
    elif not hasattr(tokenizer, "decode"):
        raise InputError(f"tokenizer must be the model's tokenizer, got {type(tokenizer).__name__}")


def answer_length(answer: Tensor, call: GenerateCall | None, *, padded: bool = False) -> int:
    """How many of the generated ids are the answer: up to the first end token, if padding follows it.

    The end token is not part of the answer, unless the answer has no other token.

    Args:
        answer: (a,) the generated ids.
        call: of generate().
        padded: other rows of the batch may be longer; padding at the end is not part of the answer.
    """
    if call is None:
        return int(answer.numel())
    ends = torch.tensor(call.end_ids, dtype=torch.int64)
    length = _unpadded_length(answer, call, ends, padded)
    is_end = length > 1 and bool(torch.isin(answer[length - 1], ends))
    return length - 1 if is_end else length


def _unpadded_length(answer: Tensor, call: GenerateCall, ends: Tensor, padded: bool) -> int:
    """How many of the generated ids are left without padding, the end token included."""
    hits = torch.isin(answer, ends).nonzero()
    if not hits.numel():
        real = (answer != call.pad_id).nonzero() if padded and call.pad_id is not None else hits
        return int(real[-1]) + 1 if real.numel() else int(answer.numel())
    stop = int(hits[0]) + 1
    rest = answer[stop:]
    padding = torch.isin(rest, ends) if call.pad_id is None else (rest == call.pad_id) | torch.isin(rest, ends)
    return stop if bool(padding.all()) else int(answer.numel())
