"""Computes a method's scores for segments and documents, and their cost."""

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
    """The scores of one method for one reading.

    Attributes:
        name: name of the method.
        segments: (S,) float64 by aggregation: sum, mean, top5 (the sum of the five largest) and max over the segment's
            tokens, or "segment" alone for a method that scores segments.
        documents: (Dn,) float64 by aggregation, over the tokens or the segments of each of the prompt's documents.
        seconds: time of the method itself, without the recorded forward pass, and with passes that `Reading.once`
            shares.
        reads: whether it uses the shared forward pass.
        passes: sequences that the model read for it in addition; a gradient's backward pass is not counted.
    """

    name: str
    segments: dict[str, Tensor]
    documents: dict[str, Tensor]
    seconds: float
    reads: bool
    passes: int


Scored = MethodScores  # the former name


def union(methods: Iterable[Method], model: Any) -> HeadWeights | None:
    """Return weights to record with: weight 1 for every head that any of the methods reads.

    Call it once, before the first case, because methods do slow preparation in it.

    Returns:
        The weights; None if no method reads attention, so that nothing must be recorded.
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
        NumericsError: a score is not finite; the error names the method.
        InputError: the method returns another shape than `by` says.
    """
    before, shared_before = reading.passes, reading.shared_seconds
    began = time.perf_counter()
    scores = method(reading)
    seconds = time.perf_counter() - began + reading.shared_seconds - shared_before
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
    """(count,) float64 by aggregation: one number for each owner, from its values; 0 for an owner without values.

    Args:
        values: (k,).
        owner: (k,) int64, 0 to count - 1, or -1 for a value without owner.
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
