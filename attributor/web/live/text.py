"""Decodes tokens to text one after the other; a character may take several tokens."""

from collections.abc import Iterable
from typing import Any

__all__ = ["Decoder"]

HALF = "\ufffd"  # a tokenizer decodes the bytes of an incomplete character to this


class Decoder:
    """Turns tokens into pieces of text. Together the pieces are the text of all tokens."""

    def __init__(self, tokenizer: Any, ends: Iterable[int] = ()) -> None:
        """`ends`: tokens that end an answer, which are left out of the text."""
        self._tokenizer, self._ends = tokenizer, frozenset(ends)
        self._ids: list[int] = []
        # ids before `_sent` were sent; those from `_start` on are decoded again, for context
        self._start = self._sent = 0

    def add(self, tokens: Iterable[int]) -> str:
        """The new text that later tokens cannot change; may be empty."""
        self._ids += [token for token in tokens if token not in self._ends]
        return self._new_text(last=False)

    def rest(self) -> str:
        """The rest of the text, after the last token."""
        return self._new_text(last=True)

    def _new_text(self, last: bool) -> str:
        before = self._decode(self._ids[self._start : self._sent])
        now = self._decode(self._ids[self._start :])
        if len(now) <= len(before) or (now.endswith(HALF) and not last):
            return ""
        self._start, self._sent = self._sent, len(self._ids)
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
