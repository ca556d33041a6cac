"""Encode text to token ids with character spans; quoted text cannot become control tokens."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._text import control_tokens, token_offsets

__all__ = ["encode"]

Span = tuple[int, int]


def encode(
    tokenizer: Any, text: str, quoted: Sequence[Span] = (), *, add_special_tokens: bool = False
) -> tuple[Tensor, Tensor]:
    """The tokens of `text` and the characters that each one covers.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: n characters.
        quoted: spans of `text` from the user: ``<|im_end|>`` in them is text and not a control token.
        add_special_tokens: let the tokenizer put its start token before the text.

    Returns:
        ids (k,) int64 and offsets (k, 2) int64.

    Raises:
        InputError: quoted text that this tokenizer can only encode as control tokens.
    """
    ids, offsets = _encode(tokenizer, text, add_special_tokens=add_special_tokens)
    control = control_tokens(tokenizer)
    places = [i for i, token in enumerate(ids) if token in control]
    injected = {i for i in places if _overlaps(offsets[i], quoted)}
    if injected:
        written = sorted({control[ids[i]] for i in injected})
        walls = [-1, *(i for i in places if i not in injected), len(ids)]
        for left, right in reversed(list(pairwise(walls))):
            if any(left < i < right for i in injected):
                start = offsets[left][1] if left >= 0 else 0
                stop = offsets[right][0] if right < len(offsets) else len(text)
                plain = _reread(tokenizer, text, (start, stop), quoted, written)
                ids[left + 1 : right] = plain[0]
                offsets[left + 1 : right] = plain[1]
        if any(token in control and _overlaps(span, quoted) for token, span in zip(ids, offsets, strict=True)):
            raise _control_token_error(written)
    return torch.tensor(ids, dtype=torch.int64), torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2)


def _encode(tokenizer: Any, text: str, **options: bool) -> tuple[list[int], list[Span]]:
    if not getattr(tokenizer, "is_fast", False):
        return _encode_slow(tokenizer, text, options.get("add_special_tokens", False))
    encoded = tokenizer(text, return_offsets_mapping=True, **options)
    ids, offsets = list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    if options.get("add_special_tokens") and ids and ids[-1] == tokenizer.eos_token_id and offsets[-1] == (0, 0):
        del ids[-1], offsets[-1]  # an end token after the prompt would end the text that the model must continue
    return ids, offsets


def _encode_slow(tokenizer: Any, text: str, add_special_tokens: bool) -> tuple[list[int], list[Span]]:
    """Encode with a slow tokenizer; the offsets come from decoding, which must give the same text."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    decoded, spans = token_offsets(tokenizer, torch.tensor(ids, dtype=torch.int64))
    if decoded != text:
        raise InputError("this tokenizer changes the text that it reads, so tokens have no place in it; use a fast one")
    offsets = [(int(a), int(b)) for a, b in spans.tolist()]
    if add_special_tokens:
        with_special = list(tokenizer(text)["input_ids"])
        if with_special[1 : len(ids) + 1] == ids:  # a start token
            return [with_special[0], *ids], [(0, 0), *offsets]
    return ids, offsets


def _overlaps(span: Span, quoted: Sequence[Span]) -> bool:
    return span[0] < span[1] and any(start < span[1] and span[0] < stop for start, stop in quoted)


def _reread(
    tokenizer: Any, text: str, section: Span, quoted: Sequence[Span], written: list[str]
) -> tuple[list[int], list[Span]]:
    """The tokens of one section of the text, between the template's own control tokens, encoded as plain text.

    A tokenizer encodes the text between control tokens piece by piece, so a section can be encoded alone, with special
    tokens split into plain pieces. This holds for byte-level tokenizers but not for all, so it is first tested on
    harmless text of the same shape.
    """
    start, stop = section
    if not getattr(tokenizer, "is_fast", False):
        raise _control_token_error(written)
    harmless = text
    for a, b in quoted:
        piece = text[a:b]
        for control in written:
            piece = piece.replace(control, "x" * len(control))
        harmless = harmless[:a] + piece + harmless[b:]
    ids, offsets = _encode(tokenizer, harmless, add_special_tokens=False)
    expected = [token for token, span in zip(ids, offsets, strict=True) if start <= span[0] and span[1] <= stop]
    if _encode_plain(tokenizer, harmless[start:stop])[0] != expected:
        raise _control_token_error(written)
    ids, offsets = _encode_plain(tokenizer, text[start:stop])
    return ids, [(a + start, b + start) for a, b in offsets]


def _encode_plain(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    return _encode(tokenizer, text, add_special_tokens=False, split_special_tokens=True)


def _control_token_error(written: list[str]) -> InputError:
    return InputError(
        f"the text contains {', '.join(written)}, which this model's tokenizer can only read as control tokens; "
        "remove them from the text"
    )
