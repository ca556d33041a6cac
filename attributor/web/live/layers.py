"""Finds the largest attention shares of a few heads of one layer, from rows of the answer to units of the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._flow import Recording
from attributor.web.live.attention import Check, Queries, RecordingReader, no_check

__all__ = ["LayerEdges", "find_layer_edges"]

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerEdges:
    """The E largest edges, largest first, and the sums of all edges.

    Attributes:
        query: (E,) index into the positions.
        key: (E,) unit of the prompt.
        head: (E,) head of the model.
        mass: (E,) share of that query's attention.
        totals: (heads,) the mass of all edges of each head to the selected units, shown or not.
        relative: (heads,) each head's weight in the run as a share of the largest weight of all heads.
    """

    query: Ints
    key: Ints
    head: Ints
    mass: Floats
    totals: Floats
    relative: Floats


@torch.no_grad()
def find_layer_edges(
    recording: Recording,
    layer: int,
    heads: Sequence[int],
    positions: Sequence[int],
    unit_of: npt.NDArray[np.integer],
    weights: Tensor,
    *,
    limit: int,
    units: tuple[int, int] | None = None,
    check: Check = no_check,
) -> LayerEdges:
    """Find the edges of raw attention, summed over the tokens of a unit; every head gets an equal part of `limit`.

    Otherwise a head that attends to a single token would leave no edges to heads whose attention is spread out.

    Args:
        recording: with N positions.
        layer: counted from 0.
        heads: of the model, each once.
        positions: R ascending positions, the queries.
        unit_of: (k,) the unit of each prompt token, ascending from 0.
        weights: (L, H) of the run.
        limit: the largest number of edges.
        units: only edges to units [start, stop); None: to all.
        check: called between blocks; an exception that it raises ends the work.

    Raises:
        InputError: heads, positions, units or a limit that cannot be used.
        RecordingError: the layer or a head was not recorded.
    """
    reader = RecordingReader(recording)
    if not heads or len(set(heads)) != len(heads):
        raise InputError(f"name at least one head, each once, got {list(heads)}")
    if limit < len(heads):
        raise InputError(f"limit must be at least {len(heads)}, an edge a head, got {limit}")
    count = int(unit_of[-1]) + 1
    start, stop = units or (0, count)
    if not 0 <= start < stop <= count:
        raise InputError(f"units need 0 <= start < stop <= {count}, got {start} and {stop}")
    queries = reader.queries(layer, positions, heads)
    low, high = np.searchsorted(unit_of, [start, stop])
    of = torch.from_numpy(unit_of[low:high].astype(np.int64) - start).to(queries.query.device)
    largest = weights.max().clamp(min=torch.finfo(weights.dtype).tiny)
    edges, totals = [], np.zeros(len(heads), np.float32)
    for group in queries.groups():
        for index in group:  # one head at a time, so that memory holds R x units of one head
            sums = _sum_by_unit(queries, index, of, int(low), int(high), stop - start, check)
            totals[index] = float(sums.sum(dtype=torch.float64))
            mass, where = sums.flatten().topk(min(limit // len(heads), sums.numel()))
            mass, where = mass[mass > 0].cpu(), where[mass > 0].cpu()
            edges.append((where // sums.shape[1], where % sums.shape[1] + start, torch.full_like(where, index), mass))
    query, key, which, mass = (torch.cat(parts) for parts in zip(*edges, strict=True))
    order = mass.argsort(descending=True, stable=True)
    return LayerEdges(
        query=query[order].numpy().astype(np.int32),
        key=key[order].numpy().astype(np.int32),
        head=np.asarray(heads, np.int32)[which[order].numpy()],
        mass=mass[order].numpy().astype(np.float32),
        totals=totals,
        relative=(weights[layer, list(heads)] / largest).to("cpu", torch.float32).numpy(),
    )


def _sum_by_unit(queries: Queries, index: int, of: Tensor, low: int, high: int, units: int, check: Check) -> Tensor:
    """(R, units) attention of one head on keys low..high-1, summed by unit; `of` (high - low,) has each key's unit."""
    sums = queries.query.new_zeros(len(queries.positions), units)
    first, last = queries.seen
    for begin, end in queries.blocks(1, max(low, first), min(high, last)):
        check()
        sums.index_add_(1, of[begin - low : end - low], queries.log_attention([index], begin, end)[0].exp())
    return sums
