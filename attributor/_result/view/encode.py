"""Encode a view file: the data of the case page. The format's name is "attributor.view".

Its tensors, for u units of the prompt and o rows of the answer. Integers have the smallest dtype of U8, U16 and I32
that holds them; characters are Unicode code points.

- text: U8, UTF-8.
- lengths: (u), characters of each unit.
- token_counts: (u), absent if all are 1.
- sentence_runs, document_runs: I32 (m, 2), [[index or -1, how many units], ...].
- answer: U8, UTF-8.
- answer_lengths: (o), characters of each row.
- total: F32 (u), the mean of all rows.
- base: F32 (o), the whole that a row's shares refer to: its sum over the documents, or over a prompt without documents.
- on_answer, missing: F32 (o), absent if unknown.
- gold, gold_documents: I32, absent without marks.
- rows, only in pages: U16 or U8 (o, u), ``steps * sqrt(score / largest of the row)``, steps 65535 or 255.
- largest, only in pages: F32 (o).
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._result.flow_arrays import Floats
from attributor._result.safetensors_arrays import pack_safetensors, shrink_integers
from attributor._result.view.flow_view import FlowView
from attributor._result.view.units import Units, answer_texts, encode_runs, merge_units, run_lengths

__all__ = ["FORMAT", "VERSION", "encode_page_view", "encode_view", "page_title"]

FORMAT = "attributor.view"
VERSION = 2

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class QuantisedRows:
    """The rows of a page: (r, u) steps of the square root of score / the row's largest score; and the largest, (r,)."""

    steps: Array
    largest: Floats


def page_title(view: FlowView) -> str:
    """The title of the page."""
    if view.title:
        return view.title
    answer = " ".join((view.flow.answer or "").split())
    if not answer:
        return "attributor: a flow"
    return f"attributor: {answer if len(answer) <= 60 else answer[:59] + '…'}"


def encode_view(view: FlowView) -> bytes:
    """The view file of a flow by token, without rows: 1 MB for 100,000 tokens x 512 rows.

    Raises:
        FileFormatError: scores that are NaN or infinite.
    """
    scores = view.scores
    rows_first = np.arange(scores.count, dtype=np.int64)
    return _encode(view, scores.units, scores.total, rows_first, None, [])


def encode_page_view(view: FlowView, room: int) -> bytes:
    """The view file of a page, with rows; units and rows are merged so that the scores take `room` bytes.

    Raises:
        FileFormatError: scores that are NaN or infinite.
    """
    scores = view.scores
    o = scores.count
    units = merge_units(scores.units, o, room)
    # where each unit begins among the token units, whose total is known
    total = np.add.reduceat(scores.total, np.searchsorted(scores.units.first, units.first), dtype=np.float64)
    notes = list(units.notes)
    together = -(-o * len(units) // room)
    rows_first = np.arange(0, o, together, dtype=np.int64)
    if together > 1:
        notes.append(f"The answer is long: {together} tokens of it are shown together, as their mean.")
    steps = 65535 if 2 * len(rows_first) * len(units) <= room else 255
    rows = _quantise(view.flow.arrays.scores, units.first, rows_first, steps)
    if steps == 255:  # 65535 steps are finer than any displayed digit
        notes.append("Scores are rounded to 255 steps of the square root of their share of the row's largest.")
    return _encode(view, units, total.astype(np.float32), rows_first, rows, notes)


def _encode(
    view: FlowView, units: Units, total: Floats, rows_first: Ints, rows: QuantisedRows | None, notes: list[str]
) -> bytes:
    flow, o = view.flow, view.scores.count
    answer = answer_texts(flow, rows_first)
    tensors: dict[str, Array] = {
        "text": _utf8(units.text),
        "lengths": shrink_integers(np.diff(units.ends, prepend=0)),
        "sentence_runs": encode_runs(units.sentence),
        "document_runs": encode_runs(units.document),
        "answer": _utf8("".join(answer)),
        "answer_lengths": shrink_integers(np.array([len(text) for text in answer])),
        "total": total,
    }
    counts = run_lengths(units.first, units.tokens)
    if (counts != 1).any():
        tensors["token_counts"] = shrink_integers(counts)
    of_rows = (("base", view.scores.base), ("on_answer", view.on_answer), ("missing", flow.arrays.missing_mass))
    for name, values in of_rows:
        if values is not None:
            means = np.add.reduceat(values, rows_first, dtype=np.float64) / run_lengths(rows_first, o)
            tensors[name] = np.maximum(means, 0.0).astype(np.float32)
    for name, marked in (("gold", view.gold), ("gold_documents", view.gold_documents)):
        # a page that was merged beyond sentences has none to mark
        if marked is not None and (name == "gold_documents" or units.sentences):
            tensors[name] = np.array(sorted(marked), dtype=np.int32)
    if rows is not None:
        tensors |= {"rows": rows.steps, "largest": rows.largest}
    info = {
        "title": page_title(view),
        "kind": units.kind,
        "tokens": units.tokens,
        "documents": [document.label or "" for document in flow.documents],
        "sentences": units.sentences,
        "normalized": bool(flow.normalized),
        "answered": flow.answered,
        "sink": units.kind == "token",
        "question": view.question,
        "expected": view.expected,
        "meta": dict(flow.meta),
        "notes": [*notes, *_make_notes(view)],
    }
    return pack_safetensors(tensors, {"format": FORMAT, "version": str(VERSION), "info": json.dumps(info)})


def _make_notes(view: FlowView) -> list[str]:
    notes = []
    if not view.flow.normalized:
        source = "came from the documents" if view.flow.documents else "reached the prompt"
        notes.append(f"Percentages are shares of what {source}; the rest of each row is not known.")
    if view.flow.text is None:
        notes.append("The flow carries no text, so token ids are shown; flow.with_text(tokenizer) attaches it.")
    if view.scores.has_negative:
        notes.append("Negative scores are shown as 0.")
    return notes


def _quantise(scores: Floats, first: Ints, rows_first: Ints, steps: int) -> QuantisedRows:
    out = np.zeros((len(rows_first), len(first)), dtype=np.uint16 if steps > 255 else np.uint8)
    largest = np.zeros(len(rows_first), dtype=np.float32)
    lengths = run_lengths(rows_first, len(scores))
    for r, (start, length) in enumerate(zip(rows_first, lengths, strict=True)):
        row = np.add.reduce(scores[start : start + length], axis=0, dtype=np.float64) / length
        units = np.maximum(np.add.reduceat(row, first), 0.0)
        most = units.max()
        if most > 0:
            largest[r] = most
            out[r] = np.rint(steps * np.sqrt(units / most))
    return QuantisedRows(out, largest)


def _utf8(text: str) -> Array:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
