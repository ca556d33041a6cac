"""Flow: what an answer took from each token of its prompt."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._checks import check_path
from attributor._errors import InputError
from attributor._fields import check_floats, check_integers, check_offsets
from attributor._grouped import Grouped, Hit, aggregate, import_extra, largest, shorten
from attributor._segments import (
    Segment,
    SegmentLike,
    assign_tokens,
    find_documents,
    find_segments,
    is_list,
    split_sentences,
    token_offsets,
)

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped, unused-ignore]
    from matplotlib.axes import Axes

__all__ = ["Flow", "Grouped", "Hit", "load"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Flow:
    """How much of each of k prompt tokens reached each of o answer tokens. All tensors are on the CPU.

    Attributes:
        scores: (o, k) float32; row r says where answer token r came from.
        ids: (k + a,) int64, the prompt's ids, then the answer's; a = o, or a = 0 where the flow is that of the next
            token, not yet written, and o = 1.
        missing_mass: (o,) float32, the share of each row that the run did not follow, where it is known.
        normalized: whether a row's scores, `missing_mass` and what stayed on the answer add up to 1; None where that is
            not known.
        text: the prompt as text.
        offsets: (k, 2) int64, the characters of each prompt token in `text`.
        answer: the answer as text.
        answer_offsets: (a, 2) int64, the characters of each answer token in `answer`.
        documents: spans of `text`, in their own order.
        meta: what made it: model, weights, implementation, versions, normalize, seconds ...

    Raises:
        InputError: shapes that do not go together, NaN or infinite scores, offsets outside of the text.
    """

    scores: Tensor
    ids: Tensor
    missing_mass: Tensor | None = None
    normalized: bool | None = None
    text: str | None = None
    offsets: Tensor | None = None
    answer: str | None = None
    answer_offsets: Tensor | None = None
    documents: Sequence[Segment] = ()
    meta: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field and bring it to its one form."""
        put = object.__setattr__
        put(self, "scores", check_floats("scores", self.scores, ndim=2))
        o, k = self.scores.shape
        if o < 1 or k < 1:
            raise InputError(f"scores must be (o, k) with at least one row and one column, got {(o, k)}")
        put(self, "ids", check_integers("ids", self.ids))
        answered = self.ids.numel() - k
        if answered != o and not (answered == 0 and o == 1):
            raise InputError(
                f"scores {(o, k)} need ids of {k} prompt and {o} answer tokens"
                f"{' (or none)' if o == 1 else ''}, got {tuple(self.ids.shape)}"
            )
        if self.missing_mass is not None:
            put(self, "missing_mass", check_floats("missing_mass", self.missing_mass, ndim=1))
            if self.missing_mass.shape != (o,):
                raise InputError(f"missing_mass must be ({o},), got {tuple(self.missing_mass.shape)}")
        put(self, "offsets", check_offsets("text", self.text, "offsets", self.offsets, k))
        put(
            self,
            "answer_offsets",
            check_offsets("answer", self.answer, "answer_offsets", self.answer_offsets, answered),
        )
        if self.documents and self.text is None:
            raise InputError("documents are spans of the text: give `text` and `offsets` too")
        put(self, "documents", find_documents(self.text or "", self.documents))
        put(self, "meta", {str(key): str(value) for key, value in self.meta.items()})
        if self.missing_mass is None:
            put(self, "normalized", None)
        elif self.normalized is None:
            put(self, "normalized", self.meta.get("normalize", "true").lower() != "false")

    @property
    def prompt_length(self) -> int:
        """K, the number of prompt tokens."""
        return int(self.scores.shape[1])

    @cached_property
    def tokens(self) -> tuple[str, ...] | None:
        """The text of each prompt token; None without text."""
        return _pieces(self.text, self.offsets)

    @cached_property
    def answer_tokens(self) -> tuple[str, ...] | None:
        """The text of each answer token; None without text."""
        return _pieces(self.answer, self.answer_offsets)

    @cached_property
    def sentences(self) -> tuple[Segment, ...]:
        """The sentences of the documents, or of the whole prompt where it has no documents."""
        return split_sentences(self._need_text('by="sentence"')[0], tuple(self.documents))

    @property
    def on_answer(self) -> Tensor | None:
        """What stayed on earlier answer tokens: (o,) float32; None where rows do not sum to 1 or nobody knows."""
        if self.missing_mass is None or not self.normalized:
            return None
        reached = self.scores.sum(dim=1, dtype=torch.float64) + self.missing_mass
        return (1.0 - reached).clamp(min=0.0).float()

    def total(self) -> Tensor:
        """Scores averaged over the answer's tokens: (k,) float32."""
        return self.scores.mean(dim=0, dtype=torch.float64).float()

    def with_text(self, tokenizer: Any, documents: Sequence[SegmentLike] | None = None) -> Flow:
        """The same flow with the text of its ids, and perhaps documents.

        Args:
            tokenizer: the model's tokenizer.
            documents: strings that occur once in the prompt, (start, stop) characters of its decoded text, or Segments.

        Raises:
            InputError: ids that are not this tokenizer's, documents that are not in the text.
        """
        k = self.prompt_length
        text, offsets = token_offsets(tokenizer, self.ids[:k])
        answer, answer_offsets = token_offsets(tokenizer, self.ids[k:])
        return dataclasses.replace(
            self,
            text=text,
            offsets=offsets,
            answer=answer,
            answer_offsets=answer_offsets,
            documents=find_documents(text, documents or ()),
        )

    def with_documents(self, documents: Sequence[SegmentLike]) -> Flow:
        """The same flow with documents: strings that occur once in the text, (start, stop) characters, or Segments."""
        text, _ = self._need_text("with_documents()")
        return dataclasses.replace(self, documents=find_documents(text, documents))

    def by(self, segments: str | Sequence[SegmentLike], how: str = "sum") -> Grouped:
        """Scores of larger pieces than tokens.

        A token belongs to the piece with the largest overlap; what belongs to none is `rest`.

        Args:
            segments: "token", "sentence", "document", or a list of Segments, (start, stop) characters, and strings that
                occur once in the text.
            how: "sum", "mean", "max", or "topK" such as "top5": the mean of a piece's K largest tokens.

        Raises:
            InputError: no text or documents yet, spans that overlap or leave the text, strings found never or twice.
        """
        name = segments if isinstance(segments, str) else None
        if name == "token":
            return Grouped.of_tokens(self.scores, self._token_segments, how)
        if name not in ("sentence", "document") and not is_list(segments):
            raise InputError(f'segments must be "token", "sentence", "document" or a list, got {segments!r}')
        text, offsets = self._need_text(f"by={name!r}" if name else "by()")
        found: Sequence[Segment]
        if name == "sentence":
            found = self.sentences
        elif name == "document":
            found = self.documents
            if not found:
                raise InputError(
                    "this flow has no documents: give them with flow.with_documents([...]), as strings that occur once "
                    "in the prompt or as (start, stop) characters of flow.text"
                )
        else:
            found = find_segments(text, segments, self.documents)
        return aggregate(self.scores, assign_tokens(offsets.numpy(), found), found, how)

    def top(self, k: int = 5, by: str | Sequence[SegmentLike] = "token") -> list[Hit]:
        """The k tokens (or other pieces, see `by`) that the answer took most from, largest first."""
        if not (isinstance(by, str) and by == "token"):
            return self.by(by).top(k)
        total, segments = self.total(), self._token_segments
        return [
            Hit(segments[i].text, float(total[i]), segments[i].start, segments[i].stop, i) for i in largest(total, k)
        ]

    def to_numpy(self) -> npt.NDArray[np.float32]:
        """Scores as an (o, k) float32 array, a copy."""
        return np.array(self.scores.numpy(), dtype=np.float32)

    def to_pandas(self, by: str | Sequence[SegmentLike] = "token") -> pandas.DataFrame:
        """A table with a row a token (or other piece): text, label, document, start, stop, share.

        Raises:
            ImportError: pandas is not installed.
        """
        import_extra("pandas", "to_pandas()")
        return self.by(by).to_pandas()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file (docs/flow-file.md); an old file of that name is replaced in one step.

        Raises:
            InputError: the path is neither text nor a Path.
            OutputError: the file cannot be written.
        """
        from attributor._file import write_flow

        write_flow(self, check_path(path))

    def plot(self, kind: str = "heat", by: str = "sentence", ax: Axes | None = None) -> Axes:
        """Draw with matplotlib: "heat", answer tokens x segments, or "bars", the top segments. Returns the axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from attributor._plot import draw

        return draw(self, kind, by, ax)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One standalone page that works offline; also written to `path` where given.

        Raises:
            InputError: the path is neither text nor a Path.
            OutputError: the file cannot be written.
            AttributorError: this installation has no front end to put into the page.
        """
        from attributor._html import page, write_page

        target = None if path is None else check_path(path)
        html = page(self)
        if target is not None:
            write_page(html, target)
        return html

    def _repr_html_(self) -> str:
        from attributor._html import notebook

        return notebook(self)

    def __repr__(self) -> str:
        o, k = self.scores.shape
        answered = self.ids.numel() - k
        after = f"{o} answer token{'s' * (o != 1)}" if answered else "the next token"
        missing = ""
        if self.missing_mass is not None:
            missing = f", missing mass {float(self.missing_mass.abs().max()):.1e}"
        model = f", {self.meta['model']}" if "model" in self.meta else ""
        lines = [f"Flow({k:,} prompt tokens -> {after}{missing}{model})"]
        if self.answer:
            lines.append(f"  answer: {shorten(self.answer)!r}")
        kind = "sentence" if self.text is not None and self.sentences else "token"
        for hit in self.top(1, by=kind):
            lines.append(f"  top {kind}: {hit.share:{'.1%' if self.normalized else '.3g'}} {shorten(hit.text)!r}")
        return "\n".join(lines)

    def _need_text(self, what: str) -> tuple[str, Tensor]:
        if self.text is None or self.offsets is None:
            raise InputError(f"{what} needs the prompt's text: flow.with_text(tokenizer) attaches it")
        return self.text, self.offsets

    @cached_property
    def _token_segments(self) -> tuple[Segment, ...]:
        if self.text is None or self.offsets is None:
            return tuple(
                Segment(i, i + 1, f"#{token}") for i, token in enumerate(self.ids[: self.prompt_length].tolist())
            )
        inside = assign_tokens(self.offsets.numpy(), self.documents)
        spans = zip(self.offsets.tolist(), inside.tolist(), strict=True)
        return tuple(Segment(a, b, self.text[a:b], None, d if d >= 0 else None) for (a, b), d in spans)


def load(path: str | os.PathLike[str]) -> Flow:
    """Read a file that `Flow.save` wrote.

    Raises:
        InputError: the path is neither text nor a Path.
        FileNotFoundError: there is no such file.
        FileFormatError: the file is of another kind, corrupt, truncated, or from a newer version.
    """
    from attributor._file import read_flow

    return read_flow(check_path(path))


def _pieces(text: str | None, offsets: Tensor | None) -> tuple[str, ...] | None:
    if text is None or offsets is None:
        return None
    return tuple(text[start:stop] for start, stop in offsets.tolist())
