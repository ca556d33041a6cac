"""Remove spans of text from a prompt and tokenise the rest in the same way as the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._documents import PlacedDocument
from attributor._prompt.build import Prompt
from attributor._prompt.tokenize import encode

__all__ = ["remove_spans"]

Span = tuple[int, int]
Edit = tuple[int, int, str]  # start, stop, the replacement


def remove_spans(tokenizer: Any, prompt: Prompt, spans: Sequence[Span]) -> Prompt:
    """The prompt as if the text at `spans` had never been in it.

    Around a removed run, only the piece of white space with the most line breaks stays. This avoids double blanks and
    joined paragraphs. The template's own text is not changed. Documents keep the rest of their text, such as their
    title; empty documents are dropped and the others renumbered. The source texts stay.

    Args:
        tokenizer: the one that the prompt was made with.
        prompt: text and spans.
        spans: [start, stop) characters of `prompt.text`, in any order, not overlapping.
    """
    edits = _find_edits(prompt.text, spans, prompt.quoted)
    parts, at = [], 0
    for start, stop, gap in edits:
        parts += [prompt.text[at:start], gap]
        at = stop
    text = "".join([*parts, prompt.text[at:]])
    quoted = tuple((a, b) for a, b in (_move_span(span, edits) for span in prompt.quoted) if a < b)
    ids, offsets = encode(tokenizer, text, quoted, add_special_tokens=prompt.special)
    before = _positions_before(edits, len(prompt.text))
    left = [_cut_document(document, text, edits, before) for document in prompt.documents]
    documents = tuple(
        replace(document, document=number) for number, document in enumerate(cut for cut in left if cut is not None)
    )
    question = None if prompt.question is None else _move_span(prompt.question, edits)
    return Prompt(text, ids, offsets, documents, prompt.note, quoted, prompt.special, question)


def _positions_before(edits: Sequence[Edit], length: int) -> npt.NDArray[np.int64]:
    """(n,) int64: the old position of each of the n characters that are left, in the text of `length` characters."""
    parts, at = [], 0
    for start, stop, gap in edits:
        parts += [np.arange(at, start), np.full(len(gap), start)]
        at = stop
    return np.concatenate([*parts, np.arange(at, length)])


def _cut_document(
    document: PlacedDocument, text: str, edits: Sequence[Edit], before: npt.NDArray[np.int64]
) -> PlacedDocument | None:
    """The rest of a document in the new text; None if nothing is left."""
    start, stop = _move_span((document.start, document.stop), edits)
    if start >= stop:
        return None
    body, body_stop = _move_span((document.body, document.stop), edits)
    own = document.boundaries[:1]
    if body < body_stop:
        places = before[body:body_stop] - document.body
        own = np.append(document.boundaries[places], document.boundaries[places[-1] + 1])
    taken = [document.body + cut for cut in document.cuts] + [edit[0] for edit in edits]
    cuts = np.searchsorted(before[body:body_stop], sorted(place for place in taken if place > document.body))
    return replace(
        document,
        start=start,
        stop=stop,
        text=text[start:stop],
        body=min(body, stop),
        boundaries=own,
        cuts=tuple(int(cut) for cut in np.unique(cuts) if 0 < cut < max(body_stop - body, 0)),
    )


def _find_edits(text: str, spans: Sequence[Span], quoted: Sequence[Span]) -> list[Edit]:
    """In order: each run of removed text with the white space around it."""
    runs: list[list[Span]] = []  # removed pieces, stripped; white space separates those of a run
    for start, stop in sorted(spans):
        piece = text[start:stop]
        core = (stop - len(piece.lstrip()), start + len(piece.rstrip()))
        if core[0] >= core[1]:
            continue
        area = _quoted_area(core, quoted, len(text))
        if runs and area[0] <= runs[-1][0][0] and not text[runs[-1][-1][1] : core[0]].strip():
            runs[-1].append(core)
        else:
            runs.append([core])
    edits = []
    for run in runs:
        (low, high), start, stop = _quoted_area(run[0], quoted, len(text)), run[0][0], run[-1][1]
        left = len(text[low:start].rstrip()) + low
        right = high - len(text[stop:high].lstrip())
        gaps = [text[left:start], *(text[a[1] : b[0]] for a, b in pairwise(run)), text[stop:right]]
        longest = max(gaps, key=lambda gap: (gap.count("\n"), len(gap) > 0))
        edits.append((left, right, longest if low < left and right < high else ""))
    return edits


def _quoted_area(core: Span, quoted: Sequence[Span], length: int) -> Span:
    """The span of the user's text around a removed piece; white space outside of it belongs to the template."""
    around = [span for span in quoted or [(0, length)] if span[0] <= core[0] and core[1] <= span[1]]
    return around[0] if around else core


def _move_span(span: Span, edits: Sequence[Edit]) -> Span:
    """The span in the new text of a span of the old one; white space that replaces a removed run is not part of it."""
    start, stop = span
    shift_start = shift_stop = 0
    for low, high, gap in edits:
        change = len(gap) - (high - low)
        if high <= start:
            shift_start += change
        elif low <= start:
            start, shift_start = high, shift_start + change
        if high <= stop:
            shift_stop += change if high < stop else -(high - low)
        elif low < stop:
            stop = low
    return start + shift_start, stop + shift_stop
