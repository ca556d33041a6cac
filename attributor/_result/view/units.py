"""The units that a view draws: tokens (tokens that share a character are one unit), or larger pieces for a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from attributor._text import Segment, assign_tokens

if TYPE_CHECKING:
    from attributor._result.flow import Flow

__all__ = ["Units", "answer_texts", "encode_runs", "merge_units", "run_lengths", "run_starts", "token_units"]

Ints = npt.NDArray[np.int64]
MOST_UNITS = 20_000  # in a page


@dataclass(frozen=True)
class Units:
    """U pieces of the prompt that together cover its text.

    Attributes:
        text: the prompt; its ids for a flow without text.
        first: (u,) the first token of each unit; its tokens end where the next unit begins.
        ends: (u,) the character after each unit's last; a unit's text begins where the previous one ends.
        sentence, document: (u,) the sentence and the document of each unit, -1 for none.
        sentences: how many sentences there are.
        tokens: k.
        kind: "token" or "piece".
        notes: sentences for the reader of the page.
    """

    text: str
    first: Ints
    ends: Ints
    sentence: Ints
    document: Ints
    sentences: int
    tokens: int
    kind: str = "token"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the units."""
        return len(self.first)

    @property
    def bounds(self) -> Ints:
        """(u + 1,) the first token of each unit, then k."""
        return np.append(self.first, self.tokens)


def token_units(flow: Flow) -> Units:
    """One unit per token; tokens that share a character, or have none, are merged."""
    text, spans = text_and_spans(flow)
    first = _character_starts(spans)
    ends = np.maximum.reduceat(spans[:, 1], first)
    ends[-1] = len(text)
    unit_spans = np.stack([spans[first, 0], ends], axis=1)
    return Units(
        text=text,
        first=first,
        ends=ends,
        sentence=assign_tokens(unit_spans, segments_of(flow.sentence_spans)),
        document=assign_tokens(unit_spans, flow.documents),
        sentences=len(flow.sentence_spans),
        tokens=flow.prompt_length,
    )


def merge_units(units: Units, rows: int, room: int) -> Units:
    """Merge to at most `MOST_UNITS` units, and towards `room` bytes of scores, but not below 1,000 units.

    Too many tokens are merged to sentences; too many sentences are merged to runs of equal length.
    """
    sentences_tried = (len(units) > MOST_UNITS or rows * len(units) > room) and units.sentences
    if sentences_tried:
        keep = run_starts(np.stack([units.sentence, units.document], axis=1))
        units = _merge_at(units, keep, "The prompt is long: shares are shown by sentence.")
    # merge answer tokens rather than show fewer than 1,000 pieces of the prompt
    most = min(MOST_UNITS, max(room // rows, 1_000))
    if len(units) > most:
        keep = _equal_run_starts(units.document, most)
        note = f"The prompt is long: it is shown in {len(keep):,} pieces of several tokens or sentences."
        units = _merge_at(units, keep, note)
        units = replace(units, sentence=np.full_like(units.sentence, -1), sentences=0)
    return units


def answer_texts(flow: Flow, rows_first: Ints | None = None) -> list[str]:
    """The text of each row, or of each run of rows that begins at `rows_first`; ids if there is no text."""
    o, k = flow.arrays.scores.shape
    first = np.arange(o) if rows_first is None else rows_first
    if not flow.answered:
        return ["(the next token)"]
    offsets = flow.arrays.answer_offsets
    if flow.answer is None or offsets is None:
        ids = flow.arrays.ids[k:].tolist()
        return [" ".join(str(i) for i in ids[a:b]) + " " for a, b in pairwise([*first.tolist(), o])]
    stops = np.maximum.accumulate(offsets[:, 1])
    ends = stops[np.r_[first[1:], o] - 1].tolist()
    return [flow.answer[a:b] for a, b in pairwise([0, *ends[:-1], len(flow.answer)])]


def text_and_spans(flow: Flow) -> tuple[str, Ints]:
    """The text and the (k, 2) characters of each token; ids for a flow without text."""
    if flow.text is not None and flow.arrays.offsets is not None:
        return flow.text, flow.arrays.offsets
    words = [f"{i} " for i in flow.arrays.ids[: flow.prompt_length].tolist()]
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    ends = np.cumsum(lengths)
    return "".join(words), np.stack([ends - lengths, ends], axis=1)


def segments_of(spans: Ints) -> list[Segment]:
    """Spans as Segments for `assign_tokens`, without their texts."""
    return [Segment(start, stop, "") for start, stop in spans.tolist()]


def run_starts(keys: Ints) -> Ints:
    """Where runs of equal rows of (n, m) keys begin."""
    return np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]).astype(np.int64)


def run_lengths(starts: Ints, total: int) -> Ints:
    """The length of each run; the runs cover `total` places."""
    lengths: Ints = np.diff(np.append(starts, total))
    return lengths


def encode_runs(values: Ints) -> npt.NDArray[np.int32]:
    """(m, 2) int32, [[value, how many in a row], ...]."""
    starts = run_starts(values[:, None])
    return np.stack([values[starts], run_lengths(starts, len(values))], axis=1).astype(np.int32)


def _character_starts(spans: Ints) -> Ints:
    """The first token of each unit: it shares no character with earlier tokens."""
    reached = np.maximum.accumulate(spans[:, 1])
    fresh = (spans[1:, 0] >= reached[:-1]) & (spans[1:, 1] > spans[1:, 0])
    return np.flatnonzero(np.r_[True, fresh]).astype(np.int64)


def _equal_run_starts(document: Ints, most: int) -> Ints:
    """Starts of runs of equal length within each document, about `most` of them."""
    borders = run_starts(document[:, None])
    length = -(-len(document) // max(most - len(borders), most // 2, 1))
    place = np.arange(len(document)) - np.repeat(borders, run_lengths(borders, len(document)))
    return np.flatnonzero(place % length == 0).astype(np.int64)


def _merge_at(units: Units, keep: Ints, note: str) -> Units:
    """Merge each unit at `keep` with the units up to the next one at `keep`."""
    return replace(
        units,
        first=units.first[keep],
        ends=units.ends[np.append(keep[1:], len(units)) - 1],
        sentence=units.sentence[keep],
        document=units.document[keep],
        kind="piece",
        notes=(*units.notes, note),
    )
