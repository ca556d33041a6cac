"""`Document`, and `PlacedDocument`: the place of a document in a prompt, character by character."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from attributor._text import Segment

__all__ = ["Document", "PlacedDocument", "PromptText", "page_of"]

CARRIAGE_RETURN = re.compile(r"\r\n?")
FORM_FEED = "\f"
_segment_fields = attrgetter("start", "stop", "text", "label", "document")


@dataclass(frozen=True)
class Document:
    """A document as the user gave it.

    Attributes:
        text: the text as it was given; the offsets of citations count its characters. Form feeds separate pages.
        title: shown above the text in the prompt; "" for none.
        metadata: the user's own data, which citations carry unchanged.
        body_start: where the body begins in `text`, after a line that is the title.
    """

    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    body_start: int = 0


@dataclass(frozen=True, eq=False)
class PromptText:
    """The body of a document as a prompt shows it.

    Line ends become one newline each, a form feed becomes a newline, and white space around the body is left out.

    Attributes:
        text: b characters.
        boundaries: (b + 1,) int64, the character of the document's own text where each one begins, and where the last
            one ends.
    """

    text: str
    boundaries: npt.NDArray[np.int64]

    @classmethod
    def of(cls, document: Document) -> "PromptText":
        """The body of `document`; "" if it holds only white space."""
        raw = document.text[document.body_start :]
        dropped = [match.start() + 1 for match in CARRIAGE_RETURN.finditer(raw) if match.end() - match.start() == 2]
        begins = np.delete(np.arange(len(raw), dtype=np.int64), dropped) + document.body_start
        shown = CARRIAGE_RETURN.sub("\n", raw).replace(FORM_FEED, "\n")
        return cls._strip(shown, begins)

    @classmethod
    def verbatim(cls, document: Document) -> "PromptText":
        """The body with its own line ends and form feeds, for prompts that `build_prompt` did not build."""
        raw = document.text[document.body_start :]
        return cls._strip(raw, np.arange(len(raw), dtype=np.int64) + document.body_start)

    @classmethod
    def _strip(cls, shown: str, begins: npt.NDArray[np.int64]) -> "PromptText":
        """Strip white space; `begins` (n,) are the positions of the n characters of `shown` in the document."""
        body = shown.strip()
        start = len(shown) - len(shown.lstrip())
        boundaries = begins[start : start + len(body)]
        return cls(body, np.append(boundaries, boundaries[-1:] + 1) if body else np.zeros(1, dtype=np.int64))

    def in_form(self, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> "PromptText":
        """The same text in another Unicode form.

        A character and its marks are one unit: all resulting characters have the unit's position.
        """
        parts: list[str] = []
        counts: list[int] = []
        starts = [i for i, character in enumerate(self.text) if i == 0 or not _continues(character)]
        for start, stop in pairwise([*starts, len(self.text)]):
            parts.append(unicodedata.normalize(form, self.text[start:stop]))
            counts.append(len(parts[-1]))
        begins = np.repeat(self.boundaries[starts], counts)
        return PromptText("".join(parts), np.append(begins, self.boundaries[-1]))


@dataclass(frozen=True, eq=False, slots=True)
class PlacedDocument(Segment):
    """A document in the text of a prompt: the segment of its title line and its body.

    Attributes:
        source: the document.
        index: of the document, from 0, in the order in which the documents were given.
        body: where its body begins in the prompt's text.
        boundaries: (b + 1,) int64, the character of `source.text` where each of the b body characters begins, and
            where the last one ends.
        cuts: positions in the body before which text was removed; no sentence crosses them.
    """

    source: Document = field(default_factory=lambda: Document(""))
    index: int = 0
    body: int = 0
    boundaries: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    cuts: tuple[int, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Compare as segments, because a flow that is read from its file has plain segments."""
        return isinstance(other, Segment) and _segment_fields(self) == _segment_fields(other)

    __hash__ = Segment.__hash__

    @classmethod
    def of_span(cls, text: str, start: int, stop: int, *, label: str | None = None) -> "PlacedDocument":
        """A document made of a span of the prompt's text; its body is what follows the title line."""
        title_line = f"{label}:\n" if label else ""
        body = start + (len(title_line) if title_line and text.startswith(title_line, start) else 0)
        source = Document(text[body:stop], label or "")
        boundaries = np.arange(stop - body + 1)
        return cls(start, stop, text[start:stop], label, source=source, body=body, boundaries=boundaries)

    def shift(self, by: int) -> "PlacedDocument":
        """The same place in a text with `by` more characters before it."""
        return replace(self, start=self.start + by, stop=self.stop + by, body=self.body + by)

    def source_span(self, start: int, stop: int) -> tuple[int, int]:
        """The characters of `source.text` that characters `start` to `stop` of the prompt's text show.

        Args:
            start: the first character, at or after `body`.
            stop: the character after the last, at most b after `body`.
        """
        return int(self.boundaries[start - self.body]), int(self.boundaries[stop - self.body])

    def body_parts(self) -> list[Segment]:
        """The stretches of the body between its `cuts`, in the prompt's text."""
        borders = [self.body, *(self.body + cut for cut in self.cuts), self.stop]
        return [Segment(start, stop, "") for start, stop in pairwise(borders) if start < stop]

    def prompt_span(self, start: int, stop: int) -> tuple[int, int]:
        """The characters of the prompt's text that show characters `start` to `stop` of `source.text`."""
        first, last = np.searchsorted(self.boundaries, (start, stop)).tolist()
        return self.body + first, self.body + last


def page_of(text: str, position: int) -> int | None:
    """The page, from 1, of a character of the text; None if no form feed separates pages."""
    return 1 + text.count(FORM_FEED, 0, position) if FORM_FEED in text else None


def _continues(character: str) -> bool:
    """Whether Unicode may compose it with the character before it: a mark, or a vowel or final of Korean."""
    return unicodedata.combining(character) > 0 or "\u1160" <= character <= "\u11ff"
