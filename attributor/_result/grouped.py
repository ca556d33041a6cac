"""Sum token scores over sentences, documents or other segments of the prompt.

Torch is imported only where a tensor is made, so that `attributor explore` starts without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attributor._checks import shorten_value
from attributor._errors import InputError
from attributor._text import Segment, sum_tokens, token_runs

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped, unused-ignore]
    from torch import Tensor

__all__ = ["Grouped", "Hit", "aggregate", "import_extra", "largest", "mean_of_rows", "shorten"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One of the tokens or segments of the prompt with the largest scores.

    Attributes:
        text: its text.
        share: its score, averaged over the answer's tokens; a share of the whole if rows of the flow sum to 1.
        start, stop: its characters in the prompt's text; without text, its position in the prompt, in tokens.
        index: which token, sentence, document or segment it is, counted from 0.
        label: a name to show, such as a document's title.
    """

    text: str
    share: float
    start: int
    stop: int
    index: int
    label: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Grouped:
    """Scores of an answer's o tokens for s segments of the prompt.

    Attributes:
        scores: (o, s) float32.
        segments: the s segments.
        rest: (o,) sums over tokens outside all segments (template, question); None if scores are not sums.
        how: "sum", "mean", "max" or "topK".
    """

    scores: Tensor
    segments: tuple[Segment, ...]
    rest: Tensor | None = None
    how: str = "sum"

    @classmethod
    def of_tokens(cls, scores: Tensor, tokens: Sequence[Segment], how: str = "sum") -> Grouped:
        """One segment per token; `how` does not change the scores."""
        import torch

        _parse_how(how)
        return cls(scores, tuple(tokens), torch.zeros(len(scores)) if how == "sum" else None, how)

    def __len__(self) -> int:
        """Count the segments."""
        return len(self.segments)

    def total(self) -> Tensor:
        """Scores averaged over the answer's tokens: (s,) float32."""
        return mean_of_rows(self.scores)

    def top(self, k: int = 5) -> list[Hit]:
        """The k segments with the largest scores, largest first."""
        total = self.total()
        return [
            Hit(s.text, float(total[i]), s.start, s.stop, i, s.label)
            for i in largest(total, k)
            for s in (self.segments[i],)
        ]

    def to_numpy(self) -> npt.NDArray[np.float32]:
        """Scores as an (o, s) float32 array, a copy."""
        return np.array(self.scores.numpy(), dtype=np.float32)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row per segment: text, label, document, start, stop, share.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas = import_extra("pandas", "to_pandas()")
        return pandas.DataFrame(
            {
                "text": [s.text for s in self.segments],
                "label": [s.label for s in self.segments],
                "document": pandas.array([s.document for s in self.segments], dtype="Int64"),
                "start": [s.start for s in self.segments],
                "stop": [s.stop for s in self.segments],
                "share": self.total().numpy().astype(np.float64),
            }
        )

    def __repr__(self) -> str:
        rows, columns = self.scores.shape
        best = "".join(f"\n  top: {hit.share:.3g} {shorten(hit.text)!r}" for hit in self.top(1))
        return f"Grouped({columns} segments x {rows} answer token{'s' * (rows != 1)}, how={self.how!r}){best}"


def mean_of_rows(scores: Tensor) -> Tensor:
    """(k,) float32 of (o, k), averaged in double precision."""
    import torch

    return scores.mean(dim=0, dtype=torch.float64).float()


def aggregate(
    values: npt.NDArray[np.float32], assigned: npt.NDArray[np.int64], segments: Sequence[Segment], how: str = "sum"
) -> Grouped:
    """Aggregate the scores of the tokens of each segment.

    Args:
        values: (o, k) float32, scores of tokens.
        assigned: (k,) the segment of each token, -1 for no segment.
        segments: the s segments.
        how: "sum"; "mean" over a segment's tokens; "max"; "topK" such as "top5", the mean of the K largest tokens (of
            all tokens, if a segment has fewer). A segment without tokens gets 0.
    """
    import torch

    k = _parse_how(how)
    count = len(segments)
    if k:
        grouped = _top_means(values, assigned, count, k)
        return Grouped(torch.from_numpy(grouped), tuple(segments), None, how)
    if how == "max":
        return Grouped(torch.from_numpy(_maxima(values, assigned, count)), tuple(segments), None, how)
    sums = sum_tokens(values, assigned, count)
    if how == "mean":
        tokens = np.bincount(assigned[assigned >= 0], minlength=count)
        sums[:, :count] /= np.maximum(tokens, 1)
    narrow = torch.from_numpy(sums.astype(np.float32))
    rest = narrow[:, count].clone() if how == "sum" else None
    return Grouped(narrow[:, :count].contiguous(), tuple(segments), rest, how)


def _parse_how(how: str) -> int:
    """K of "topK", 0 for the other ways."""
    match = re.fullmatch(r"sum|mean|max|top([1-9]\d{0,8})", how if isinstance(how, str) else "")
    if match is None:
        raise InputError(f'how must be "sum", "mean", "max" or "topK" such as "top5", got {shorten_value(how)}')
    return int(match.group(1) or 0)


def _maxima(values: npt.NDArray[np.float32], assigned: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    starts, targets = token_runs(assigned, count)
    out = np.full((len(values), count + 1), -np.inf, dtype=np.float32)
    np.maximum.at(out.T, targets, np.maximum.reduceat(values, starts, axis=1).T)
    out[np.isneginf(out)] = 0.0
    return np.ascontiguousarray(out[:, :count])


def _top_means(
    values: npt.NDArray[np.float32], assigned: npt.NDArray[np.int64], count: int, k: int
) -> npt.NDArray[np.float32]:
    """Mean of the k largest tokens of each segment; segments of similar size are batched, padded with -inf."""
    import torch

    out = np.zeros((len(values), count), dtype=np.float32)
    order = np.argsort(assigned, kind="stable")
    first, last = (np.searchsorted(assigned[order], np.arange(count), side=side) for side in ("left", "right"))
    size = last - first
    rounded = np.where(size > 0, 2 ** np.ceil(np.log2(np.maximum(size, 1))).astype(np.int64), 0)
    for width in np.unique(rounded[rounded > 0]):
        which = np.flatnonzero(rounded == width)
        columns = first[which, None] + np.arange(width)  # [segment, place]
        outside = np.arange(width) >= size[which, None]
        columns = order[np.where(outside, 0, columns)]
        keep = min(k, int(width))
        rows_at_once = max(1, 4_000_000 // columns.size)
        for row in range(0, len(values), rows_at_once):
            block = slice(row, row + rows_at_once)
            tiles = torch.from_numpy(np.where(outside, np.float32(-np.inf), values[block][:, columns]))
            best = tiles.topk(keep, dim=-1, sorted=False).values
            sums = best.nan_to_num(neginf=0.0).sum(-1, dtype=torch.float64).numpy()
            out[block, which] = sums / np.minimum(size[which], keep)
    return out


def largest(total: Tensor, k: int) -> list[int]:
    """Indices of the k largest values, largest first; equal values in their order."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"top() takes a number of at least 1, got {shorten_value(k)}")
    import torch

    return [int(i) for i in torch.argsort(total, descending=True, stable=True)[:k]]


def shorten(text: str, width: int = 60) -> str:
    """The text on one line, cut to a width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def import_extra(module: str, what: str) -> Any:
    """Import a module of the extra `plot`; the error says how to install it."""
    try:
        return __import__(module, fromlist=["_"])
    except ImportError as error:
        raise ImportError(
            f"{what} needs {module.partition('.')[0]}: pip install 'attributor[plot]' ({error})", name=module
        ) from error
