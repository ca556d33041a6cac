"""Read the content of a chat message: text, or the list of text parts that OpenAI's interface takes."""

from collections.abc import Mapping
from typing import Any

from attributor._errors import InputError

__all__ = ["join_content"]

TEXT_PARTS = ("text", "input_text", "output_text")


def join_content(content: Any, number: int) -> str | None:
    """The text of a message's content, one line per part; None stays None.

    Args:
        content: text, None, or a list of ``{"type": "text", "text": ...}``.
        number: of the message, from 1, for the error.

    Raises:
        InputError: a part of another type, such as an image, or content that is not text.
    """
    if content is None or isinstance(content, str):
        return content
    expected = f'the content of message {number} must be text, or a list of {{"type": "text", "text": ...}}'
    if not isinstance(content, (list, tuple)):
        raise InputError(f"{expected}, got {type(content).__name__}")
    texts = []
    for place, part in enumerate(content, 1):
        if not isinstance(part, Mapping):
            raise InputError(f"{expected}; part {place} is {type(part).__name__}")
        kind, text = part.get("type"), part.get("text")
        if kind not in TEXT_PARTS:
            raise InputError(f"{expected}; part {place} is of type {repr(kind)[:40]}, which is not followed")
        if not isinstance(text, str):
            raise InputError(f"{expected}; the text of part {place} is {type(text).__name__}")
        texts.append(text)
    return "\n".join(texts)
