"""Compute the character offsets of each token in the decoded text, for any tokenizer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from attributor._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["answer_offsets", "control_tokens", "token_offsets"]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # the decoded form of bytes that are not a complete character
LONGEST_GROUP = 8  # tokens: a character has at most four bytes, so a longer group will not complete one
SEARCH = 64  # characters to search ahead if a decoded piece differs from the text


def token_offsets(tokenizer: Any, ids: Any) -> tuple[str, Tensor]:
    """Decode ids and compute the characters of each token.

    The text is ``tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)``. Spans are in
    order and cover the text: white space that a tokenizer leaves out belongs to the next token. Tokens that are bytes
    of one character all span that character. A token without characters has an empty span.

    Args:
        tokenizer: a Hugging Face tokenizer; anything with `decode`.
        ids: (n,) token ids.

    Returns:
        The text and (n, 2) int64 character offsets, [start, stop).

    Raises:
        InputError: ids that are not one-dimensional, or that the tokenizer cannot decode; not a tokenizer.
    """
    import torch  # imported here, because the explorer splits text into sentences without torch

    if not callable(getattr(tokenizer, "decode", None)):
        raise InputError(f"tokenizer must be the model's tokenizer, got {type(tokenizer).__name__}")
    numbers = _parse_ids(ids)
    text = _decode(tokenizer, numbers)
    spans = _spans_by_encoding(tokenizer, numbers, text) or _spans_by_decoding(tokenizer, numbers, text)
    return text, torch.tensor(_close_gaps(spans, len(text)), dtype=torch.int64).reshape(-1, 2)


def answer_offsets(tokenizer: Any, ids: Any) -> tuple[str, Tensor]:
    """As `token_offsets`, for an answer: control tokens at its end, such as the end token, have empty spans."""
    import torch

    numbers = _parse_ids(ids)
    control = control_tokens(tokenizer)
    count = len(numbers)
    while count and numbers[count - 1] in control:
        count -= 1
    if count == len(numbers):
        return token_offsets(tokenizer, ids)
    text, offsets = token_offsets(tokenizer, torch.tensor(numbers[:count], dtype=torch.int64))
    return text, torch.cat([offsets, torch.full((len(numbers) - count, 2), len(text))])


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """The special tokens by id, without the unknown token, which rare characters in ordinary text become."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    unknown = getattr(tokenizer, "unk_token_id", None)
    return {int(i): token.content for i, token in added.items() if token.special and i != unknown}


def _parse_ids(ids: Any) -> list[int]:
    import torch

    tensor = torch.as_tensor(ids)
    if tensor.ndim != 1 or tensor.is_floating_point():
        raise InputError(f"ids must be (n,) integers, got shape {tuple(tensor.shape)} of {tensor.dtype}")
    return [int(i) for i in tensor.tolist()]


def _decode(tokenizer: Any, ids: list[int]) -> str:
    try:
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    except (OverflowError, IndexError, KeyError, TypeError) as error:
        raise InputError(f"the tokenizer cannot decode these ids: {error}; are they from this tokenizer?") from error


def _spans_by_encoding(tokenizer: Any, ids: list[int], text: str) -> list[tuple[int, int]] | None:
    """The tokenizer's own offsets, if encoding the text gives back the same ids; else None. Fast."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if list(encoded["input_ids"]) != ids:
        return None
    spans = [(int(start), int(stop)) for start, stop in encoded["offset_mapping"]]
    in_order = all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(spans))
    in_range = all(0 <= start <= stop <= len(text) for start, stop in spans)
    return spans if in_order and in_range else None


def _spans_by_decoding(tokenizer: Any, ids: list[int], text: str) -> list[tuple[int, int]]:
    """Decode a few tokens at a time and compare, to find what each token adds; O(n) short decodes.

    Tokens are grouped until their text is complete, because several tokens may be bytes of one character.
    """
    spans: list[tuple[int, int]] = []
    position = 0  # characters of the text in closed groups
    # ids[prefix:read] is the last closed group. It is decoded again, because decoders drop a space before the first
    # token.
    prefix = read = 0
    known = ""  # the text of that group
    views: list[str] = []  # the text of ids[prefix:i + 1], for each token i of the open group
    for i in range(len(ids)):
        view = _decode(tokenizer, ids[prefix : i + 1])
        views.append(view)
        is_complete = view.startswith(known) and not view.endswith(REPLACEMENT)
        if is_complete or len(views) >= LONGEST_GROUP or i + 1 == len(ids):
            begin, position = _locate(text, position, view[len(known) :])
            spans += _divide(views, len(known), begin, position)
            prefix, read, views = read, i + 1, []
            known = _decode(tokenizer, ids[prefix:read])
    return spans


def _divide(views: list[str], known: int, begin: int, end: int) -> list[tuple[int, int]]:
    """The spans of a group's tokens inside text[begin:end], from the text decoded up to each of them."""
    spans = []
    finished = 0  # characters that the group's tokens so far complete
    for view in views:
        start = finished
        finished = max(_common_prefix(view, views[-1]) - known, finished)
        stop = finished
        if len(view) - known > finished:
            stop = finished + 1  # part of the next character
        elif start == stop and view.endswith(REPLACEMENT) and start > 0:
            start -= 1  # another byte of a character that is never completed
        spans.append((min(begin + start, end), min(begin + stop, end)))
    return [*spans[:-1], (spans[-1][0], end)]


def _common_prefix(a: str, b: str) -> int:
    if b.startswith(a):
        return len(a)
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def _locate(text: str, position: int, piece: str) -> tuple[int, int]:
    """The span of a group's text; because the group was decoded alone, its spaces may differ from the text."""
    if text.startswith(piece, position):
        return position, position + len(piece)
    stripped = piece.strip()
    at = text.find(stripped, position, position + len(piece) + SEARCH) if stripped else -1
    if at >= 0:
        return position, at + len(stripped)
    return position, min(position + len(piece), len(text))


def _close_gaps(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Make the spans monotone and close the gaps: a gap goes to the next token, the last gap to the last token."""
    covered: list[tuple[int, int]] = []
    last_start = last_stop = 0
    for start, stop in spans:
        start = min(max(start, last_start), last_stop) if stop > start else last_stop
        stop = max(stop, last_stop)
        covered.append((start, stop))
        last_start, last_stop = start, stop
    if covered and last_stop < length:
        covered[-1] = (covered[-1][0], length)
    return covered
