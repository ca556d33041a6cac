"""`Flow`: the scores of each prompt token for each answer token."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attributor._checks import check_path, shorten_value
from attributor._cite import CitedAnswer, ScoredText, cite
from attributor._documents import keep_places, place_documents
from attributor._errors import InputError
from attributor._result.flow_arrays import (
    FlowArrays,
    Ints,
    OptionalTensorField,
    TensorField,
    as_tensor,
    check_floats,
    check_integers,
    check_normalized,
    check_offsets,
)
from attributor._result.flow_file import read_flow, write_flow
from attributor._result.flow_html import build_notebook_html, build_page, write_page
from attributor._result.grouped import Grouped, Hit, aggregate, import_extra, largest, mean_of_rows, shorten
from attributor._result.plot import draw_flow
from attributor._text import (
    Segment,
    SegmentLike,
    answer_offsets,
    assign_tokens,
    find_documents,
    find_segment,
    find_segments,
    is_segment_list,
    split_sentences,
    token_offsets,
)

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped, unused-ignore]
    from matplotlib.axes import Axes
    from torch import Tensor

__all__ = ["Flow", "Grouped", "Hit", "load", "open_mapped"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Flow:
    """How much of each of k prompt tokens reached each of o answer tokens.

    The numbers are stored as numpy arrays, in `arrays`; the tensors below are on the CPU and share the arrays' memory.
    If that memory is read-only (a flow mapped from its file, a read-only array), each access makes a copy. The
    constructor accepts tensors on any device and numpy arrays.

    Attributes:
        scores: (o, k) float32; row r says where answer token r came from.
        ids: (k + a,) int64, the prompt's ids, then the answer's; a = o, or, for the flow of a next token that is not
            yet written, a = 0 and o = 1.
        missing_mass: (o,) float32, the share of each row that the run did not follow; None if unknown.
        normalized: True if a row's scores, its `missing_mass` and `on_answer` add up to 1, so that scores are shares.
            False if they add up to something else (``normalize=False``). None if this is unknown, because
            `missing_mass` is (a power other than 1, value norms). The default is True with `missing_mass` and None
            without. True without `missing_mass` becomes None.
        question_scores: (k,) float32, the part of every row's scores that started on the question's tokens
            (`Weights.question`); None if no part did, or if it is unknown.
        text: the prompt as text.
        offsets: (k, 2) int64, the characters of each prompt token in `text`.
        answer: the answer as text.
        answer_offsets: (a, 2) int64, the characters of each answer token in `answer`.
        documents: spans of `text`, in their own order.
        meta: how it was computed, for people to read: model, weights, implementation, versions, seconds ...
        arrays: scores, ids, missing_mass, question_scores, offsets, answer_offsets and on_answer as numpy arrays; torch
            is not imported.

    Raises:
        InputError: shapes that do not match, NaN or infinite scores, offsets outside of the text.
    """

    scores: TensorField = TensorField()
    ids: TensorField = TensorField()
    missing_mass: OptionalTensorField = OptionalTensorField()
    normalized: bool | None = None
    question_scores: OptionalTensorField = OptionalTensorField()
    text: str | None = None
    offsets: OptionalTensorField = OptionalTensorField()
    answer: str | None = None
    answer_offsets: OptionalTensorField = OptionalTensorField()
    documents: Sequence[Segment] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    arrays: FlowArrays = field(init=False)

    def __post_init__(self) -> None:
        """Check every field and convert it to its stored form."""
        values = vars(self)  # frozen, so attributes cannot be set
        scores = check_floats("scores", values.pop("scores"), ndim=2)
        o, k = scores.shape
        if o < 1 or k < 1:
            raise InputError(f"scores must be (o, k) with at least one row and one column, got {(o, k)}")
        ids = check_integers("ids", values.pop("ids"))
        answered = ids.size - k
        if answered != o and not (answered == 0 and o == 1):
            raise InputError(
                f"scores {(o, k)} need ids of {k} prompt and {o} answer tokens"
                f"{' (or none)' if o == 1 else ''}, got {ids.shape}"
            )
        missing_mass = values.pop("missing_mass")
        if missing_mass is not None:
            missing_mass = check_floats("missing_mass", missing_mass, ndim=1)
            if missing_mass.shape != (o,):
                raise InputError(f"missing_mass must be ({o},), got {missing_mass.shape}")
        question_scores = values.pop("question_scores")
        if question_scores is not None:
            question_scores = check_floats("question_scores", question_scores, ndim=1)
            if question_scores.shape != (k,):
                raise InputError(f"question_scores must be ({k},), got {question_scores.shape}")
        values["normalized"] = check_normalized(self.normalized, missing_mass)
        values["arrays"] = FlowArrays(
            scores=scores,
            ids=ids,
            missing_mass=missing_mass,
            question_scores=question_scores,
            offsets=check_offsets("text", self.text, "offsets", values.pop("offsets"), k),
            answer_offsets=check_offsets(
                "answer", self.answer, "answer_offsets", values.pop("answer_offsets"), answered
            ),
            normalized=self.normalized,
        )
        if not is_segment_list(self.documents):
            raise InputError(f"documents must be a list, got {shorten_value(self.documents)}")
        documents = tuple(self.documents)
        if documents and self.text is None:
            raise InputError("documents are spans of the text: give `text` and `offsets` too")
        values["documents"] = find_documents(self.text or "", documents)
        if not isinstance(self.meta, Mapping):
            raise InputError(f"meta must be a dict of strings, got {shorten_value(self.meta)}")
        values["meta"] = {str(key): str(value) for key, value in self.meta.items()}

    @property
    def prompt_length(self) -> int:
        """K, the number of prompt tokens."""
        return int(self.arrays.scores.shape[1])

    @property
    def answered(self) -> bool:
        """Whether rows are tokens of an answer; False for the flow of the next token, not written yet."""
        return self.arrays.ids.size > self.prompt_length

    @cached_property
    def tokens(self) -> tuple[str, ...] | None:
        """The text of each prompt token; None without text."""
        return _pieces(self.text, self.arrays.offsets)

    @cached_property
    def answer_tokens(self) -> tuple[str, ...] | None:
        """The text of each answer token; None without text."""
        return _pieces(self.answer, self.arrays.answer_offsets)

    @cached_property
    def sentences(self) -> tuple[Segment, ...]:
        """The sentences of the documents, or of the whole prompt if it has no documents."""
        text, _ = self._need_text('by="sentence"')
        return _name_documents(self.sentence_spans, text, self.documents)

    @cached_property
    def sentence_spans(self) -> Ints:
        """(s, 2) int64 array, the characters of each sentence, in order; none without text.

        A file may hold them; else the text is split at their first use, in 1.2 s for 100,000 tokens.
        """
        sentences = () if self.text is None else split_sentences(self.text, tuple(self.documents))
        return np.array([(s.start, s.stop) for s in sentences], dtype=np.int64).reshape(-1, 2)

    @property
    def on_answer(self) -> Tensor | None:
        """(o,) float32, the share of each row on earlier answer tokens; None if `normalized` is not True."""
        stayed = self.arrays.on_answer
        return None if stayed is None else as_tensor(stayed)

    def total(self) -> Tensor:
        """Scores averaged over the answer's tokens: (k,) float32."""
        return mean_of_rows(self.scores)

    def with_text(self, tokenizer: Any, documents: Any = None) -> Flow:
        """The same flow with the text of its ids and, if given, documents.

        Args:
            tokenizer: the model's tokenizer.
            documents: as in `with_documents`; None: none.

        Raises:
            InputError: ids that are not this tokenizer's, documents that are not in the text.
        """
        k = self.prompt_length
        ids = self.ids
        text, offsets = token_offsets(tokenizer, ids[:k])
        answer, places = answer_offsets(tokenizer, ids[k:])
        same_documents = self.documents if text == self.text else ()
        return dataclasses.replace(
            self,
            text=text,
            offsets=offsets,
            answer=answer,
            answer_offsets=places,
            documents=same_documents if documents is None else place_documents(text, documents),
        )

    def with_documents(self, documents: Any) -> Flow:
        """The same flow with documents.

        Args:
            documents: in any form that `attributor.ask` takes; each text must occur in the prompt as often as in the
                list. Or (start, stop) characters of the text, or Segments.

        Raises:
            InputError: no text yet, documents that are not in the text, spans that overlap or leave it.
        """
        text, _ = self._need_text("with_documents()")
        return dataclasses.replace(self, documents=place_documents(text, documents))

    def by(self, segments: str | Sequence[SegmentLike], how: str = "sum") -> Grouped:
        """Scores of segments that are larger than tokens.

        A token belongs to the segment with the largest overlap; tokens outside all segments add up to `rest`.

        Args:
            segments: "token", "sentence", "document", or a list of Segments, (start, stop) characters, and strings that
                occur once in the text.
            how: "sum", "mean", "max", or "topK" such as "top5": the mean of a segment's K largest tokens.

        Raises:
            InputError: no text or documents yet, spans that overlap or leave the text, strings found never or twice.
        """
        name = segments if isinstance(segments, str) else None
        if name == "token":
            return Grouped.of_tokens(self.scores, self._token_segments, how)
        if name not in ("sentence", "document") and not is_segment_list(segments):
            raise InputError(
                f'segments must be "token", "sentence", "document" or a list, got {shorten_value(segments)}'
            )
        text, offsets = self._need_text(f"by={name!r}" if name else "by()")
        pieces: Sequence[Segment]
        if name == "sentence":
            pieces = self.sentences
        elif name == "document":
            pieces = self.documents
            if not pieces:
                raise InputError(
                    "this flow has no documents: give them with flow.with_documents([...]), as strings that occur once "
                    "in the prompt or as (start, stop) characters of flow.text"
                )
        else:
            pieces = find_segments(text, segments, self.documents)
        return aggregate(self.arrays.scores, assign_tokens(offsets, pieces), pieces, how)

    def for_answer(self, span: SegmentLike) -> Flow:
        """The flow of a part of the answer: the rows of the tokens that share characters with it.

        To cite the sources of a part, use ``cite(claims=[span])``, which reduces the question's part of the rows.

        Args:
            span: (start, stop) characters of the answer, or text that occurs in it once.

        Raises:
            InputError: no answer as text, a span that is not in it or holds no token.
        """
        places = self.arrays.answer_offsets
        if self.answer is None or places is None or not self.answered:
            raise InputError("a part of the answer needs the answer as text: flow.with_text(tokenizer) attaches it")
        segment = find_segment(self.answer, span, "the part of the answer")
        rows = np.flatnonzero(assign_tokens(places, [segment]) == 0)
        if not rows.size:
            raise InputError(f"{shorten_value(segment.text)} holds no token of the answer")
        arrays, k = self.arrays, self.prompt_length
        return dataclasses.replace(
            self,
            scores=arrays.scores[rows],
            ids=np.concatenate([arrays.ids[:k], arrays.ids[k:][rows]]),
            missing_mass=None if arrays.missing_mass is None else arrays.missing_mass[rows],
            answer=segment.text,
            answer_offsets=np.clip(places[rows], segment.start, segment.stop) - segment.start,
        )

    def top(
        self, k: int = 5, by: str | Sequence[SegmentLike] = "token", *, answer: SegmentLike | None = None
    ) -> list[Hit]:
        """The k tokens (or other segments, see `by`) with the largest scores, largest first.

        Args:
            k: how many.
            by: as in `by`.
            answer: a part of the answer, as in `for_answer`; None: all of it.
        """
        if answer is not None:
            return self.for_answer(answer).top(k, by)
        if not (isinstance(by, str) and by == "token"):
            return self.by(by).top(k)
        total, segments = self.total(), self._token_segments
        return [
            Hit(segments[i].text, float(total[i]), segments[i].start, segments[i].stop, i) for i in largest(total, k)
        ]

    def cite(self, documents: Any = None, *, claims: Sequence[SegmentLike] | None = None, top: int = 3) -> CitedAnswer:
        """The sources of each claim of the answer: sentences of the documents, with their characters in the documents.

        Args:
            documents: the documents of the prompt, in any form that `attributor.ask` takes, or their (start, stop)
                characters in `text`; None: those of the flow.
            claims: (start, stop) characters of the answer, or text that occurs in it once; None: its sentences.
            top: the most citations per claim.

        Raises:
            InputError: no text, answer or documents; documents that are not in the text; claims that are not in the
                answer or hold no token.
        """
        text, offsets = self._need_text("cite()")
        arrays = self.arrays
        if not self.answered:
            raise InputError("cite() needs an answer, and this flow is that of the next token; pass prompt_length")
        if self.answer is None or arrays.answer_offsets is None:
            raise InputError("cite() needs the answer's text: pass tokenizer= to flow() or Recording.flow()")
        if documents is None and not self.documents:
            raise InputError("this flow has no documents: give them, flow.cite([text, ...])")
        scored = ScoredText(
            arrays.scores,
            text,
            offsets,
            self.answer,
            arrays.answer_offsets,
            question_scores=arrays.question_scores,
            on_answer=arrays.on_answer,
            missing=arrays.missing_mass,
        )
        placed = keep_places(text, self.documents) if documents is None else place_documents(text, documents)
        return cite(scored, placed, claims=claims, top=top)

    def to_numpy(self) -> npt.NDArray[np.float32]:
        """Scores as an (o, k) float32 array, a copy."""
        return np.array(self.arrays.scores)

    def to_pandas(self, by: str | Sequence[SegmentLike] = "token") -> pandas.DataFrame:
        """A table with one row per token (or other segment): text, label, document, start, stop, share.

        Raises:
            ImportError: pandas is not installed.
        """
        import_extra("pandas", "to_pandas()")
        return self.by(by).to_pandas()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file (docs/flow-file.md); an old file of that name is replaced atomically.

        Raises:
            InputError: the path is neither a str nor a Path.
            OutputError: the file cannot be written.
        """
        write_flow(self, check_path(path))

    def plot(self, kind: str = "heat", by: str = "sentence", ax: Axes | None = None) -> Axes:
        """Draw with matplotlib: "heat", answer tokens x segments, or "bars", the top segments. Returns the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return draw_flow(self, kind, by, ax)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One standalone page that works offline; also written to `path` if given.

        Raises:
            InputError: the path is neither a str nor a Path.
            OutputError: the file cannot be written.
            AttributorError: this installation has no front end to put into the page.
        """
        target = None if path is None else check_path(path)
        html = build_page(self)
        if target is not None:
            write_page(html, target)
        return html

    def _repr_html_(self) -> str:
        return build_notebook_html(self)

    def __repr__(self) -> str:
        o, k = self.arrays.scores.shape
        after = f"{o} answer token{'s' * (o != 1)}" if self.answered else "the next token"
        missing = ""
        if self.arrays.missing_mass is not None:
            missing = f", missing mass {float(np.abs(self.arrays.missing_mass).max()):.1e}"
        model = f", {self.meta['model']}" if "model" in self.meta else ""
        lines = [f"Flow({k:,} prompt tokens -> {after}{missing}{model})"]
        if self.answer:
            lines.append(f"  answer: {shorten(self.answer)!r}")
        kind = "sentence" if self.text is not None and self.sentences else "token"
        for hit in self.top(1, by=kind):
            lines.append(f"  top {kind}: {hit.share:{'.1%' if self.normalized else '.3g'}} {shorten(hit.text)!r}")
        return "\n".join(lines)

    def _need_text(self, what: str) -> tuple[str, Ints]:
        if self.text is None or self.arrays.offsets is None:
            raise InputError(f"{what} needs the prompt's text: flow.with_text(tokenizer) attaches it")
        return self.text, self.arrays.offsets

    @cached_property
    def _token_segments(self) -> tuple[Segment, ...]:
        offsets = self.arrays.offsets
        if self.text is None or offsets is None:
            ids = self.arrays.ids[: self.prompt_length].tolist()
            return tuple(Segment(i, i + 1, f"#{token}") for i, token in enumerate(ids))
        inside = assign_tokens(offsets, self.documents)
        spans = zip(offsets.tolist(), inside.tolist(), strict=True)
        return tuple(Segment(a, b, self.text[a:b], None, d if d >= 0 else None) for (a, b), d in spans)


def load(path: str | os.PathLike[str]) -> Flow:
    """Read a file that `Flow.save` wrote.

    Raises:
        InputError: the path is neither a str nor a Path.
        FileNotFoundError: there is no such file.
        FileFormatError: the file is of another kind, corrupt, truncated, or from a newer version.
    """
    return read_flow(check_path(path), Flow)


def open_mapped(path: str | os.PathLike[str]) -> Flow:
    """Map a file that `Flow.save` wrote: `arrays.scores` are read when used. The file must not change while mapped.

    All fields except the scores are read and checked; scores may be NaN or infinite. Torch is not imported.

    Raises:
        FileNotFoundError, FileFormatError: as :func:`load`.
    """
    return read_flow(path, Flow, mapped=True)


def _pieces(text: str | None, offsets: Ints | None) -> tuple[str, ...] | None:
    if text is None or offsets is None:
        return None
    return tuple(text[start:stop] for start, stop in offsets.tolist())


def _name_documents(spans: Ints, text: str, documents: Sequence[Segment]) -> tuple[Segment, ...]:
    """Sentences as Segments, each with the index of the document that contains it."""
    order = sorted(range(len(documents)), key=lambda d: documents[d].start)
    before = np.searchsorted([documents[d].start for d in order], spans[:, 0], side="right") - 1
    return tuple(
        Segment(start, stop, text[start:stop], None, order[d] if d >= 0 and stop <= documents[order[d]].stop else None)
        for (start, stop), d in zip(spans.tolist(), before.tolist(), strict=True)
    )
