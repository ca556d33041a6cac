"""Render chat messages with a model's template, and locate each message's content in the rendered text."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attributor._errors import InputError
from attributor._prompt.clean import clean
from attributor._text import control_tokens

__all__ = ["escape_json", "locate_contents", "render_chat", "render_messages"]

Span = tuple[int, int]
MARK = "attributor{}placeholder"


def escape_json(text: str) -> str:
    """The text inside the quotes of a JSON string, as the filter `tojson` of chat templates writes it."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def render_messages(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """The prompt's text, up to and including the header of the assistant's next turn.

    Raises:
        InputError: the template refuses the messages, or its text cannot be encoded.
    """
    try:
        text = str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
    except Exception as error:  # jinja's errors, and those that a template raises on purpose
        roles = ", ".join(str(message["role"]) for message in messages)
        raise InputError(f"the model's chat template refuses these messages ({roles}): {error}") from error
    clean("what the model's chat template makes of the messages", text, empty=True)  # roles, tool calls
    return text


def render_chat(tokenizer: Any, messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The messages in the form that the template accepts, and the rendered text.

    A content of None, as with tool calls, becomes "" if the template refuses it or writes it as "None".

    Raises:
        InputError: the template refuses the messages either way.
    """
    filled = [{**m, "content": ""} if m.get("content") is None else m for m in messages]
    try:
        text = render_messages(tokenizer, messages)
    except InputError as error:
        if filled == messages:
            raise
        try:
            return filled, render_messages(tokenizer, filled)
        except InputError:
            raise error from None
    if filled != messages and "None" in text:
        text_of_filled = render_messages(tokenizer, filled)
        if text_of_filled.count("None") < text.count("None"):
            return filled, text_of_filled
    return list(messages), text


def locate_contents(tokenizer: Any, messages: Sequence[Mapping[str, Any]], text: str) -> list[Span]:
    """The span of each message's content in the rendered text; (0, 0) for a message without text in it.

    The template is rendered a second time with a placeholder for each content. The text between the placeholders is the
    template's own, so the contents are located by counting, even if a content is as short as "a".

    Args:
        tokenizer: with the chat template.
        messages: as they were rendered.
        text: the rendered text.

    Raises:
        InputError: the template rewrites a content.
    """
    slots = {i: MARK.format(i) for i, m in enumerate(messages) if isinstance(m.get("content"), str)}
    if not slots:
        return [(0, 0)] * len(messages)
    skeleton = render_messages(
        tokenizer, [{**m, "content": slots[i]} if i in slots else m for i, m in enumerate(messages)]
    )
    spans: list[Span] = [(0, 0)] * len(messages)
    frame, position = skeleton, 0
    for order, (i, slot) in enumerate(slots.items()):
        before, separator, frame = frame.partition(slot)
        after = frame.partition(list(slots.values())[order + 1])[0] if order + 1 < len(slots) else frame
        start = position + len(before)
        if not separator or not text.startswith(before, position):
            break
        content = messages[i]["content"]
        # many templates strip white space, and Llama's writes tool results as JSON
        variants = (content, content.rstrip(), content.lstrip(), content.strip(), escape_json(content))
        fits = (v for v in variants if text.startswith(v, start) and text.startswith(after, start + len(v)))
        body = next(fits, None)
        if body is None:
            break
        position = start + len(body)
        spans[i] = (start, position)
    else:
        if text[position:] == frame:
            return spans
    # The template depends on the contents (it cuts out thinking, say), so each content is located by itself.
    spans = [
        _locate_end_of_content(tokenizer, messages, i, text) if i in slots else (0, 0) for i in range(len(messages))
    ]
    filled = sorted(span for span in spans if span[0] < span[1])
    if any(after[0] < before[1] for before, after in pairwise(filled)):
        raise InputError("the model's chat template mixes the texts of the messages, so they cannot be located")
    return spans


def _locate_end_of_content(tokenizer: Any, messages: Sequence[Mapping[str, Any]], index: int, text: str) -> Span:
    """The span of the longest suffix of one message's content in the text, without white space around it.

    A placeholder is inserted into the content. If it appears in the text and nothing else changes, its position in the
    text is the position of that part of the content.

    Raises:
        InputError: the placeholder does not appear; or the rest of the content holds control tokens, which the template
            may have moved anywhere.
    """
    content, mark = str(messages[index]["content"]), MARK.format(index)

    def place_of(position: int) -> int | None:
        """Where the character `position` of the content is in the text; None if it does not appear."""
        marked = f"{content[:position]}{mark}{content[position:]}"
        try:
            before, shown, after = render_messages(
                tokenizer, [{**m, "content": marked} if i == index else m for i, m in enumerate(messages)]
            ).partition(mark)
        except InputError:
            return None
        return len(before) if shown and before + after == text else None

    end = len(content.rstrip())
    stop = place_of(end)
    if stop is None:
        raise InputError(f"message {index + 1} cannot be located in what the model's chat template makes of it")
    cut = end - _common_suffix(content[:end], text[:stop])
    if content[:cut].strip():  # the template's own text before the rest may look the same
        cut = _first_where(lambda position: place_of(position) == stop - (end - position), cut, end)
    dropped = content[:cut]
    written = sorted(token for token in control_tokens(tokenizer).values() if token in dropped)
    if written:
        raise InputError(
            f"message {index + 1} contains {', '.join(written)} in a part that the model's chat template cuts out or "
            "moves; remove them from the text"
        )
    rest = content[cut:end]
    start = stop - len(rest.lstrip())
    return (start, stop) if start < stop else (0, 0)


def _common_suffix(a: str, b: str) -> int:
    """The length of the common suffix."""
    length = min(len(a), len(b))
    return next((i for i in range(length) if a[-1 - i] != b[-1 - i]), length)


def _first_where(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number from `low` to `high` from which on a condition holds; it holds at `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
