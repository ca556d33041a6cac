"""FlowArrays: a flow without torch, in memory or mapped from its file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._segments import Segment, split_sentences

__all__ = ["FlowArrays"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FlowArrays:
    """What the views need of a flow. Fields are as in `attributor.Flow`, with numpy arrays.

    Attributes:
        scores: (o, k) float32, perhaps mapped from a file; row r says where answer token r came from.
        ids: (k + a,) the prompt's ids, then the answer's; a = o, or a = 0 for the flow of the next token.
        missing: (o,) float32, the share of each row that was not followed; None where it is not known.
        text, offsets: the prompt, and the (k, 2) characters of each token in it; both or neither.
        answer, answer_offsets: the answer, and the (a, 2) characters of each token in it.
        documents: spans of the text.
        known_sentences: (s, 2) spans of the text that the file brought along; None: they are split when asked for.
        meta: what made it.
        gold, gold_documents: sentences and documents that people marked as evidence; None where nobody marked any.
        question, expected: what was asked and what should have come out, where that is known.
        title: of the page; None: made from the answer.
        path: the file that it is mapped from.
    """

    scores: Floats
    ids: Ints
    missing: Floats | None = None
    text: str | None = None
    offsets: Ints | None = None
    answer: str | None = None
    answer_offsets: Ints | None = None
    documents: tuple[Segment, ...] = ()
    known_sentences: Ints | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    gold: tuple[int, ...] | None = None
    gold_documents: tuple[int, ...] | None = None
    question: str | None = None
    expected: str | None = None
    title: str | None = None
    path: Path | None = None
    lock: Any = field(default_factory=RLock, init=False)  # held while what is computed once is computed

    @classmethod
    def of(cls, flow: Any) -> FlowArrays:
        """The arrays of an `attributor.Flow`; scores share its memory."""
        known = vars(flow).get("sentences")  # a cached property: there once somebody asked for it
        return cls(
            scores=flow.scores.numpy(),
            ids=flow.ids.numpy(),
            missing=None if flow.missing_mass is None else flow.missing_mass.numpy(),
            text=flow.text,
            offsets=None if flow.offsets is None else flow.offsets.numpy(),
            answer=flow.answer,
            answer_offsets=None if flow.answer_offsets is None else flow.answer_offsets.numpy(),
            documents=tuple(flow.documents),
            known_sentences=None
            if known is None
            else np.array([(s.start, s.stop) for s in known], dtype=np.int64).reshape(-1, 2),
            meta=dict(flow.meta),
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FlowArrays:
        """Map a flow file; its scores are read when they are looked at. The file must not be changed meanwhile.

        Raises:
            FileNotFoundError: there is no such file.
            FileFormatError: another kind of file, a corrupt, truncated or newer one.
        """
        from attributor._view.read import open_flow

        return open_flow(path)

    @property
    def prompt_length(self) -> int:
        """K, the number of prompt tokens."""
        return int(self.scores.shape[1])

    @property
    def answered(self) -> bool:
        """Whether rows are tokens of an answer; False for the flow of the next token, not written yet."""
        return len(self.ids) > self.prompt_length

    @property
    def sentences(self) -> Ints:
        """(s, 2) characters of each sentence, in order; none without text. Splitting takes 1.2 s for 100,000 tokens."""
        with self.lock:
            return self._sentences

    @cached_property
    def _sentences(self) -> Ints:
        if self.known_sentences is not None:
            return self.known_sentences
        found = split_sentences(self.text, self.documents) if self.text is not None else ()
        return np.array([(s.start, s.stop) for s in found], dtype=np.int64).reshape(-1, 2)

    @property
    def has_sentences(self) -> bool:
        """Whether the sentences are known already, so that asking for them costs nothing."""
        return self.known_sentences is not None or "_sentences" in vars(self)

    @property
    def normalized(self) -> bool:
        """Whether a row's scores, `missing` and `on_answer` add up to 1."""
        return self.missing is not None and self.meta.get("normalize", "true").lower() != "false"

    @cached_property
    def on_answer(self) -> Floats | None:
        """(o,) float32, what stayed on earlier answer tokens; None where rows do not add up to 1."""
        if self.missing is None or not self.normalized:
            return None
        reached = self.scores.sum(axis=1, dtype=np.float64) + self.missing
        stayed: Floats = np.maximum(1.0 - reached, 0.0).astype(np.float32)
        return stayed
