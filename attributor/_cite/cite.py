"""Compute the citations of an answer from the scores of its flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attributor._checks import shorten_value
from attributor._cite.citations import Citation, CitedAnswer, Claim, DocumentShare, Origin
from attributor._cite.says import measure_says
from attributor._documents import PlacedDocument, page_of
from attributor._errors import InputError
from attributor._text import Segment, SegmentLike, assign_tokens, find_segment, split_sentences, sum_tokens

__all__ = ["ScoredText", "cite", "claim_rows", "find_claims", "split_documents"]

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
START_OF_THINKING, END_OF_THINKING = "<think>", "</think>"
QUESTION_KEPT = 1 / 3  # of the question's part in the rows of a claim: 1/4 of each row then starts on it instead of 1/2
LEAST = 0.1  # the smallest share of a cited sentence
LEAST_OF_BEST = 0.3  # the same, as a part of the largest share of the claim


@dataclass(frozen=True, eq=False)
class ScoredText:
    """A prompt and an answer as text, with the scores of a flow.

    Attributes:
        scores: (o, k) float, row r has the scores of answer token r; never negative.
        text: the prompt.
        offsets: (k, 2) int64, the characters of each prompt token.
        answer: the answer.
        answer_offsets: (o, 2) int64, the characters of each answer token.
        question_scores: (k,) the part of every row that started on the question; None without such a part.
        on_answer: (o,) what stayed on earlier tokens of the answer; None if rows do not add up to 1.
        missing: (o,) what was not followed; None if rows do not add up to 1.
    """

    scores: Floats
    text: str
    offsets: Ints
    answer: str
    answer_offsets: Ints
    question_scores: Floats | None = None
    on_answer: Floats | None = None
    missing: Floats | None = None


def cite(
    scored: ScoredText,
    documents: Sequence[PlacedDocument],
    *,
    claims: Sequence[SegmentLike] | None = None,
    top: int = 3,
) -> CitedAnswer:
    """Find the sentences of the documents that each claim of an answer came from.

    For each claim the scores are averaged over the claim's rows. The share of a sentence is the sum over its tokens,
    divided by the sum over all tokens of the documents. If a claim is not the whole answer, only a third of the
    question's part of each row counts: this part is the same in every row and makes claims alike (docs/quality.md has
    the measurement).

    A sentence is cited if its share is at least `LEAST`, at least `LEAST_OF_BEST` of the claim's largest share, and
    at least that of an average sentence. The sentence with the largest share is always cited.

    The field `says` compares the cited sentences with the claim's text, and for the whole answer with the answer's
    text; see `measure_says`. The model's thinking before its answer is left out, also of a claim that begins in it and
    ends after it. A claim inside the thinking is compared unchanged.

    Args:
        scored: the texts and the scores.
        documents: in the prompt's text, in the user's order.
        claims: (start, stop) characters of the answer, or text that occurs in it once; None: its sentences.
        top: the largest number of citations of a claim, at least 1.

    Raises:
        InputError: claims that are not in the answer, or hold no token.
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise InputError(f"top must be a number of at least 1, got {shorten_value(top)}")
    spans = _split_claims(scored.answer) if claims is None else find_claims(scored.answer, claims)
    sentences = split_documents(scored.text, documents)
    shares = _Shares(scored, documents, sentences)
    of_answer = shares.of_rows(shares.rows, is_whole=True)
    numbers: dict[int, int] = {}
    thought_end = _start_of_answer(scored.answer)

    def make(text: str, of_text: Doubles, chosen: Sequence[int]) -> tuple[Citation, ...]:
        says = measure_says(text, [sentences[i].text for i in chosen])
        return tuple(
            _make_citation(documents, sentences[i], numbers[i], of_text[i], part)
            for i, part in zip(chosen, says, strict=True)
        )

    cited = []
    for span in spans:
        rows = claim_rows(scored.answer_offsets, span.start, span.stop)
        if not rows.size:
            raise InputError(f"the claim {shorten_value(span.text)} holds no token of the answer")
        of_claim = shares.of_rows(rows, is_whole=span.text.strip() == scored.answer.strip())
        chosen = _choose(of_claim, top)
        for i in chosen:
            numbers.setdefault(i, len(numbers) + 1)
        text = scored.answer[max(span.start, thought_end) : span.stop] if span.stop > thought_end else span.text
        cited.append(Claim(span.start, span.stop, span.text, make(text, of_claim, chosen)))
    return CitedAnswer(
        text=scored.answer,
        claims=tuple(cited),
        citations=make(scored.answer[thought_end:], of_answer, list(numbers)),
        documents=tuple(
            DocumentShare(document.index, document.source.title or None, float(share), document.source.metadata)
            for document, share in zip(documents, shares.of_documents(), strict=True)
        ),
        origin=_find_origin(scored, shares),
    )


def split_documents(text: str, documents: Sequence[PlacedDocument]) -> list[Segment]:
    """The sentences of the documents, which `cite` ranks.

    Args:
        text: the prompt.
        documents: in the text; `Segment.document` of a sentence is the index of its document in this sequence.
    """
    return [
        Segment(sentence.start, sentence.stop, sentence.text, None, index)
        for index, document in enumerate(documents)
        for sentence in split_sentences(text, document.body_parts())
    ]


def claim_rows(answer_offsets: Ints, start: int, stop: int) -> Ints:
    """The answer tokens, with these (o, 2) characters, of the claim from character `start` to `stop`."""
    return np.flatnonzero(assign_tokens(answer_offsets, [Segment(start, stop, "")]) == 0)


class _Shares:
    """Shares of sentences and documents, of what came from the documents."""

    def __init__(self, scored: ScoredText, documents: Sequence[Segment], sentences: Sequence[Segment]) -> None:
        question = scored.question_scores
        self._sums = []  # for sentences and for documents: (o, count) of the rows, (count,) of the question's part
        for segments in (sentences, documents):
            assigned = assign_tokens(scored.offsets, segments)
            of_question = (
                np.zeros(len(segments)) if question is None else _sum_by(question[None], assigned, segments)[0]
            )
            self._sums.append((_sum_by(scored.scores, assigned, segments), of_question))
        written = np.flatnonzero(scored.answer_offsets[:, 0] < scored.answer_offsets[:, 1])
        self.rows = written if written.size else np.arange(len(scored.scores))  # without the end token

    @property
    def total(self) -> float:
        """What the mean of the answer's rows took from the documents."""
        return float(self._sums[1][0][self.rows].sum()) / len(self.rows)

    def of_rows(self, rows: Ints, *, is_whole: bool) -> Doubles:
        """(s,) of the sentences, for the mean of some rows; zeros if nothing came from the documents.

        `is_whole`: the rows are the whole answer, and all of the question's part counts.
        """
        left_out = 0.0 if is_whole else 1 - QUESTION_KEPT
        sentences, documents = (
            np.maximum(sums[rows].mean(axis=0) - left_out * of_question, 0.0) for sums, of_question in self._sums
        )
        total = float(documents.sum()) or 1.0
        shares: Doubles = np.minimum(sentences / total, 1.0)  # the last digit of a sum can differ
        return shares

    def of_documents(self) -> Doubles:
        """(d,) of the documents, for the mean of the answer's rows."""
        sums = self._sums[1][0][self.rows].sum(axis=0)
        shares: Doubles = sums / (float(sums.sum()) or 1.0)
        return shares


def _sum_by(scores: Floats, assigned: Ints, segments: Sequence[Segment]) -> Doubles:
    """(o, count) sums over the tokens of each segment; a sum that is negative by rounding counts as 0."""
    return np.maximum(sum_tokens(scores, assigned, len(segments))[:, :-1], 0.0)


def _choose(shares: Doubles, top: int) -> list[int]:
    """The sentences that are cited, chosen by their shares (s,), the largest first."""
    order = [i for i in np.argsort(-shares, kind="stable")[:top].tolist() if shares[i] > 0]
    if not order:
        return []
    least = max(LEAST, LEAST_OF_BEST * shares[order[0]], float(shares.mean()))
    return [i for i in order if i == order[0] or shares[i] >= least]


def _find_origin(scored: ScoredText, shares: _Shares) -> Origin | None:
    if scored.on_answer is None or scored.missing is None:
        return None
    answer, missing = (
        max(float(values[shares.rows].mean(dtype=np.float64)), 0.0) for values in (scored.on_answer, scored.missing)
    )
    documents = shares.total
    return Origin(documents, max(1.0 - documents - answer - missing, 0.0), answer, missing)


def _split_claims(answer: str) -> tuple[Segment, ...]:
    """The sentences of an answer, without the model's thinking before it."""
    start = _start_of_answer(answer)
    return split_sentences(answer, (Segment(start, len(answer), ""),)) if start < len(answer) else ()


def _start_of_answer(answer: str) -> int:
    """The first character after the model's thinking; the end if there is nothing else."""
    end = answer.rfind(END_OF_THINKING)
    if end >= 0:
        return end + len(END_OF_THINKING)
    return len(answer) if answer.lstrip().startswith(START_OF_THINKING) else 0


def find_claims(answer: str, claims: Sequence[SegmentLike]) -> tuple[Segment, ...]:
    """The user's spans of the answer.

    Raises:
        InputError: not a list, or a span or text that is not in the answer.
    """
    if isinstance(claims, str) or not isinstance(claims, Sequence):
        raise InputError(
            f"claims must be a list of (start, stop) characters of the answer, got {shorten_value(claims)}"
        )
    return tuple(find_segment(answer, claim, f"claim {index}") for index, claim in enumerate(claims))


def _make_citation(
    documents: Sequence[PlacedDocument], sentence: Segment, number: int, share: float, says: float | None
) -> Citation:
    document = documents[sentence.document or 0]
    source = document.source
    start, stop = document.source_span(sentence.start, sentence.stop)
    return Citation(
        number=number,
        document=document.index,
        start=start,
        stop=stop,
        quote=source.text[start:stop],
        share=float(share),
        title=source.title or None,
        page=page_of(source.text, start),
        metadata=source.metadata,
        says=says,
    )
