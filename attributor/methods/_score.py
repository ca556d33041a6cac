"""A method's scores for segments and documents, with what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._errors import InputError, NumericsError
from attributor._record import HeadWeights
from attributor._text import assign_tokens
from attributor.methods._method import Method
from attributor.methods._reading import Reading
from attributor.methods._texts import find_documents_of

__all__ = ["AGGREGATIONS", "MethodScores", "Scored", "aggregate", "score", "union"]

AGGREGATIONS = ("sum", "mean", "top5", "max")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MethodScores:
    """What one method made of one reading.

    Attributes:
        name: the method's.
        segments: (S,) float64 by aggregation: sum, mean, top5 (the sum of the five largest) and max over the segment's
            tokens, or "segment" alone for a method that scores segments.
        documents: (Dn,) float64 likewise, over the tokens or the segments of each of the prompt's documents.
        seconds: of the method itself, without the shared forward pass.
        reads: whether it uses the shared forward pass.
        passes: sequences that it had the model read beside it; a gradient's backward pass is not counted.
    """

    name: str
    segments: dict[str, Tensor]
    documents: dict[str, Tensor]
    seconds: float
    reads: bool
    passes: int


Scored = MethodScores  # its first name


def union(methods: Iterable[Method], model: Any) -> HeadWeights | None:
    """Weights to record with so that all `methods` find what they need: weight 1 for every head that any of them reads.

    Call it once before the first case: it is where methods prepare what takes long.

    Returns:
        None where no method reads attention: nothing need be recorded.
    """
    heads: Tensor | None = None
    values = False
    for method in methods:
        needs = method.needs(model)
        if needs.heads is not None:
            heads = needs.heads.clone() if heads is None else heads | needs.heads
            values = values or needs.values
    if heads is None:
        return None
    return HeadWeights(heads.to(torch.float32, copy=True), value_norms=values, note="every head that a method reads")


def score(method: Method, reading: Reading) -> MethodScores:
    """Run one method on one reading.

    Raises:
        NumericsError: scores that are not finite, with the method's name.
        InputError: a method that returns another shape than it promises.
    """
    before = reading.passes
    began = time.perf_counter()
    scores = method(reading)
    seconds = time.perf_counter() - began
    k, S = len(reading.prompt.ids), len(reading.segments)
    count = k if method.by == "token" else S
    if tuple(scores.shape) != (count,):
        raise InputError(f"method {method.name!r} must return ({count},) scores by {method.by}, got {scores.shape}")
    values: Floats = scores.detach().cpu().double().numpy()
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise NumericsError(f"method {method.name!r}: {wrong} of {count} scores are NaN or infinite")
    documents = reading.prompt.documents
    if method.by == "token":
        offsets = reading.prompt.offsets.numpy()
        by_segment = aggregate(values, reading.segment_of.numpy(), S)
        by_document = aggregate(values, assign_tokens(offsets, documents), len(documents))
    else:
        owner = find_documents_of(reading.segments, documents)
        by_segment = {"segment": torch.from_numpy(values)}
        by_document = {"segment": aggregate(values, owner, len(documents))["sum"]}
    return MethodScores(method.name, by_segment, by_document, seconds, method.reads, reading.passes - before)


def aggregate(values: Floats, owner: Ints, count: int) -> dict[str, Tensor]:
    """(count,) float64 by aggregation: the values of each owner brought to one; 0 for an owner without any.

    Args:
        values: (k,).
        owner: (k,) int64, 0 to count - 1, or -1 for a value that belongs to none.
        count: how many owners there are.
    """
    values, owner = values[owner >= 0], owner[owner >= 0]
    sizes = np.bincount(owner, minlength=count)
    sums = np.bincount(owner, values, minlength=count)
    order = np.lexsort((-values, owner))  # by owner, the largest first
    values, owner = values[order], owner[order]
    firsts = np.cumsum(sizes) - sizes
    best = np.arange(len(owner)) - firsts[owner] < 5
    largest = np.zeros(count)
    largest[sizes > 0] = values[firsts[sizes > 0]]
    aggregated = {
        "sum": sums,
        "mean": sums / np.maximum(sizes, 1),
        "top5": np.bincount(owner[best], values[best], minlength=count),
        "max": largest,
    }
    return {name: torch.from_numpy(np.asarray(aggregated[name], dtype=np.float64)) for name in AGGREGATIONS}
