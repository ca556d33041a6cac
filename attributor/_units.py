"""The pieces that a page draws: tokens where they are few enough, else sentences, else runs of them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from torch import Tensor

from attributor._result import Flow
from attributor._segments import assign_tokens

__all__ = ["Units", "to_units"]

Ints = npt.NDArray[np.int64]
MOST_UNITS = 20_000  # elements that a browser recolours without a noticeable wait


@dataclass(frozen=True)
class Units:
    """What a page needs of a flow, with the prompt in u units and the answer in r rows.

    Attributes:
        texts: the u pieces of the text; joined they are the whole text.
        kind: "token" or "piece".
        sentence_runs, document_runs: [[index or -1, how many units], ...], in the order of the units.
        sentences: how many sentences there are.
        answer: the text of each row.
        rows_first: (r,) the first answer token of each row; rows are runs of answer tokens.
        quantised: (r, u) little-endian, 16 bits or 8 where there are many, ``steps * sqrt(score / largest)``.
        largest: (r,) the largest score of each row.
        notes: what the reader should know about all this.
    """

    texts: list[str]
    kind: str
    sentence_runs: list[list[int]]
    document_runs: list[list[int]]
    sentences: int
    answer: list[str]
    rows_first: Ints
    rows: int
    quantised: npt.NDArray[np.uint16] | npt.NDArray[np.uint8]
    largest: npt.NDArray[np.float64]
    notes: list[str]

    def row_means(self, values: Tensor | None) -> list[float]:
        """The mean of a value per answer token over each row, not below 0, to six digits."""
        assert values is not None
        sums = np.add.reduceat(values.double().numpy(), self.rows_first)
        return [max(0.0, float(f"{v:.6g}")) for v in sums / _lengths(self.rows_first, self.rows)]


def to_units(flow: Flow, room: int) -> Units:
    """Choose units and rows so that there are at most `room` bytes of scores and `MOST_UNITS` units."""
    o = len(flow.scores)
    text, spans = _text_and_spans(flow)
    first = _whole_characters(spans)  # tokens that share a character are one unit
    ends = np.maximum.reduceat(spans[:, 1], first)
    unit_spans = np.stack([spans[first, 0], ends], axis=1)
    sentences = flow.sentences if flow.text is not None else ()
    sentence = assign_tokens(unit_spans, sentences)
    document = assign_tokens(unit_spans, flow.documents)
    kind, notes = "token", []

    if (len(first) > MOST_UNITS or o * len(first) > room) and sentences:
        keep = _starts(np.stack([sentence, document], axis=1))
        first, ends, sentence, document = first[keep], _last(ends, keep), sentence[keep], document[keep]
        kind = "piece"
        notes.append("The prompt is long: shares are shown by sentence.")
    most = min(
        MOST_UNITS, max(room // o, 1_000)
    )  # rather some answer tokens together than less of the prompt than this
    if len(first) > most:
        keep = _thin(document, most)
        first, ends, sentence, document = first[keep], _last(ends, keep), sentence[keep], document[keep]
        kind = "piece"
        notes.append(f"The prompt is long: it is shown in {len(first):,} pieces of several tokens or sentences.")
        sentence = np.full_like(sentence, -1)
        sentences = ()
    together = -(-o * len(first) // room)
    rows_first = np.arange(0, o, together, dtype=np.int64)
    if together > 1:
        notes.append(f"The answer is long: {together} tokens of it are shown together, as their mean.")
    steps = 65535 if 2 * len(rows_first) * len(first) <= room else 255
    quantised, largest = _quantise(flow.scores.numpy(), first, rows_first, steps)
    notes.append(f"Scores are stored as the square root of their share of the row's largest, in {steps:,} steps.")
    if float(flow.scores.min()) < -1e-6 * float(flow.scores.abs().max()):
        notes.append("Negative scores are shown as 0.")
    borders = [0, *ends[:-1].tolist(), len(text)]
    return Units(
        texts=[text[a:b] for a, b in pairwise(borders)],
        kind=kind,
        sentence_runs=_run_lengths(sentence),
        document_runs=_run_lengths(document),
        sentences=len(sentences),
        answer=_answer_texts(flow, rows_first),
        rows_first=rows_first,
        rows=o,
        quantised=quantised,
        largest=largest,
        notes=notes,
    )


def _text_and_spans(flow: Flow) -> tuple[str, Ints]:
    if flow.text is not None and flow.offsets is not None:
        return flow.text, flow.offsets.numpy()
    words = [f"{i} " for i in flow.ids[: flow.prompt_length].tolist()]
    ends = np.cumsum([len(word) for word in words])
    return "".join(words), np.stack([ends - [len(word) for word in words], ends], axis=1).astype(np.int64)


def _whole_characters(spans: Ints) -> Ints:
    """The first token of each run of tokens that share no character with the tokens before them."""
    reached = np.maximum.accumulate(spans[:, 1])
    fresh = (spans[1:, 0] >= reached[:-1]) & (spans[1:, 1] > spans[1:, 0])
    return np.flatnonzero(np.r_[True, fresh]).astype(np.int64)


def _starts(keys: Ints) -> Ints:
    return np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]).astype(np.int64)


def _thin(document: Ints, most: int) -> Ints:
    """Starts of runs of equal length within each document, about `most` of them."""
    borders = _starts(document[:, None])
    length = -(-len(document) // max(most - len(borders), most // 2, 1))
    place = np.arange(len(document)) - np.repeat(borders, _lengths(borders, len(document)))
    return np.flatnonzero(place % length == 0).astype(np.int64)


def _last(ends: Ints, keep: Ints) -> Ints:
    last: Ints = ends[np.r_[keep[1:], len(ends)] - 1]
    return last


def _lengths(starts: Ints, total: int) -> Ints:
    lengths: Ints = np.diff(np.r_[starts, total])
    return lengths


def _run_lengths(values: Ints) -> list[list[int]]:
    starts = _starts(values[:, None])
    return np.stack([values[starts], _lengths(starts, len(values))], axis=1).tolist()  # type: ignore[no-any-return]


def _quantise(
    scores: npt.NDArray[np.float32], first: Ints, rows_first: Ints, steps: int
) -> tuple[npt.NDArray[np.uint16] | npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    out = np.zeros((len(rows_first), len(first)), dtype="<u2" if steps > 255 else "u1")
    largest = np.zeros(len(rows_first))
    lengths = _lengths(rows_first, len(scores))
    for r, (start, length) in enumerate(zip(rows_first, lengths, strict=True)):
        row = np.add.reduce(scores[start : start + length], axis=0, dtype=np.float64) / length
        units = np.maximum(np.add.reduceat(row, first), 0.0)
        largest[r] = units.max()
        if largest[r] > 0:
            out[r] = np.rint(steps * np.sqrt(units / largest[r]))
    return out, largest


def _answer_texts(flow: Flow, rows_first: Ints) -> list[str]:
    o = len(flow.scores)
    if len(flow.ids) == flow.prompt_length:
        return ["(the next token)"]
    if flow.answer is None or flow.answer_offsets is None:
        ids = flow.ids[flow.prompt_length :].tolist()
        return [" ".join(str(i) for i in ids[a:b]) + " " for a, b in zip(rows_first, [*rows_first[1:], o], strict=True)]
    stops = np.maximum.accumulate(flow.answer_offsets.numpy()[:, 1])
    ends = stops[np.r_[rows_first[1:], o] - 1].tolist()
    borders = [0, *ends[:-1], len(flow.answer)]
    return [flow.answer[a:b] for a, b in pairwise(borders)]
