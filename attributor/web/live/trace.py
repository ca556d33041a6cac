"""Finds the strongest paths of a flow, from rows of the answer down the layers to tokens of the prompt.

A level is the residual stream between two layers with chosen heads; a node is a position of it. The share that flows
from node i to node j of the next level is a step of the sweep,
(delta_ij + sum_h w_h P[h, i, j]^p c_h[j]) / (1 + sum_h w_h). The mass of a path is the product of its steps. All paths
together are the flow.

Full levels have too many nodes, so paths are searched in three passes, each with a few queries for each layer:

    down    the `wide` positions of each level that most mass reaches, F
    up      the share of their mass that reaches the target through such positions, V
    down    the few positions of each level that are drawn, by F V, where F comes through drawn positions only

With `wide` = N the first two passes are exact: F = R_l of the sweep, and F V sums to the flow at every level. The
masses of the drawn network are exact for any `wide`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from attributor._errors import InputError
from attributor._flow import Recording
from attributor._record import HeadWeights
from attributor.web.live.attention import Check, no_check
from attributor.web.live.layered_network import Network, WeightedPath, find_best_paths
from attributor.web.live.sparse_sweep import SparseSweep

__all__ = ["Edge", "Extent", "Node", "PathTrace", "mean_start_row", "trace"]

PATHS = 20
HEADS = 6  # heads that are named for each edge; the rest of its mass has no head
WORK = 1e8  # attention weights of the first pass: less than a second on two cores; more did not change any picture
LEAST, MOST = 64, 2048  # positions of each level in the first pass, if there are so many
UNDRAWN = 0.02  # the part of what `keep` leaves out that may be lost with thin edges

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Node:
    """A position at a level; `mass` is the mass of the drawn paths through it."""

    id: int
    position: int
    mass: float


@dataclass(frozen=True)
class Edge:
    """A step between two nodes: the residual (`heads` is empty), or attention with each head's share of it."""

    start: int
    stop: int
    mass: float
    heads: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class PathTrace:
    """The drawn network. Its mass is a lower bound of the flow's.

    Attributes:
        layers: for each level, how many of the model's layers lie below it. The heads of the highest of these layers
            lead to the next level. Layers without chosen heads are skipped, and the last number is 0.
        levels: the nodes, by position.
        edges: from a level to the next, largest first.
        exact: the mass of all paths from the rows to the target.
        mass: of the drawn paths; the share that is shown is mass / exact.
        paths: the heaviest drawn paths, (mass, node ids).
    """

    layers: tuple[int, ...]
    levels: tuple[tuple[Node, ...], ...]
    edges: tuple[Edge, ...]
    exact: float
    mass: float
    paths: tuple[WeightedPath, ...]


@dataclass(frozen=True)
class Extent:
    """How many of the paths are searched and drawn.

    Attributes:
        keep: above 0, at most 1. Nodes are added to a level until the drawn paths can carry this share of all mass.
            Levels near the top have a larger share, so that the last level ends at `keep`.
        nodes: the largest number of nodes of a level.
        edges: the largest number of pairs of nodes, the heaviest first. A pair with residual and attention has two
            edges.
        wide: positions of a level in the search; None: as many as can be searched in a second.

    Raises:
        InputError: a field that is out of its range.
    """

    keep: float = 0.9
    nodes: int = 24
    edges: int = 10_000
    wide: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        if not 0 < self.keep <= 1 or self.nodes < 1 or self.edges < 1:
            raise InputError(
                "keep must be above 0 and at most 1, nodes and edges 1 or more, got "
                f"{self.keep:g}, {self.nodes}, {self.edges}"
            )


@torch.no_grad()
def trace(
    recording: Recording,
    rows: Floats,
    target: Ints,
    weights: HeadWeights,
    *,
    exact: float,
    extent: Extent | None = None,
    check: Check = no_check,
) -> PathTrace:
    """Find the paths from `rows` to `target` with the largest mass.

    Args:
        recording: with N positions.
        rows: (N,) or shorter, where the flow starts, as in the sweep: >= 0, most of it 0, sums to 1.
        target: ascending positions at which the paths end.
        weights: of the run.
        exact: the mass of all paths: the scores of the run's flow on the target.
        extent: how much is drawn; None: the defaults.
        check: called between layers and blocks; an exception that it raises ends the work.

    Raises:
        InputError: arguments that are out of range.
        RecordingError: a head that the weights need was not recorded.
    """
    extent = extent or Extent()
    sweep = SparseSweep(recording, weights, check=check)
    N = sweep.length
    if rows.ndim != 1 or rows.shape[0] > N or not (rows >= 0).all() or not rows.any():
        raise InputError(f"rows must be ({N},) numbers >= 0, not all 0, or fewer")
    rows = np.pad(rows, (0, N - len(rows)))
    if not target.size or target[0] < 0 or target[-1] >= N or (np.diff(target) <= 0).any():
        raise InputError(f"target must be ascending positions within 0 to {N - 1}")
    wide = extent.wide
    if wide is None:
        heads = sum(len(chosen) for chosen in sweep.heads)
        wide = int(np.clip(WORK / (heads * N), LEAST, MOST))
    candidates = _search_down(sweep, rows, target, min(max(wide, extent.nodes), N))
    reach = _search_up(sweep, candidates, target)
    network = _choose_drawn(sweep, rows, candidates, reach, exact, extent)
    return _describe(sweep, network, exact)


def _search_down(sweep: SparseSweep, rows: Floats, target: Ints, wide: int) -> list[Ints]:
    """The positions of each level that most mass reaches, and the target's own, where the residual keeps mass."""
    is_target = np.zeros(sweep.length, dtype=bool)
    is_target[target] = True
    candidates = []
    mass = rows
    for depth in range(sweep.depth + 1):
        most = target[_largest(mass[target], wide // 2)] if depth else target[:0]
        others = np.flatnonzero((mass > 0) & ~np.isin(np.arange(sweep.length), most))
        if depth == sweep.depth:
            others = others[is_target[others]]
        most = np.sort(np.concatenate([most, others[_largest(mass[others], wide - len(most))]]))
        candidates.append(most)
        if depth < sweep.depth:
            mass = sweep.push_down(depth, most, mass[most])
    return candidates


def _search_up(sweep: SparseSweep, candidates: list[Ints], target: Ints) -> list[Floats]:
    """The share of each candidate's mass that reaches the target through candidates: a lower bound."""
    reach = [np.isin(candidates[-1], target).astype(np.float64)]
    for depth in reversed(range(sweep.depth)):
        reach.append(sweep.pull_up(depth, candidates[depth], candidates[depth + 1], reach[-1]))
    return reach[::-1]


def _choose_drawn(
    sweep: SparseSweep,
    rows: Floats,
    candidates: list[Ints],
    reach: list[Floats],
    exact: float,
    extent: Extent,
) -> Network:
    """Choose, level by level, the candidates that receive most from drawn nodes and pass most of it to the target.

    The share `extent.keep` of the mass `exact` should be drawn.
    """
    here, mass = candidates[0], rows[candidates[0]]
    positions: list[Ints] = []
    masses: list[Floats] = []
    links: list[Floats] = []
    for depth in range(sweep.depth + 1):
        value = mass * reach[depth]
        order = _largest(value, extent.nodes)
        order = order[value[order] > 0]
        if extent.keep < 1:
            share = extent.keep ** ((depth + 1) / (sweep.depth + 1))
            order = order[: 1 + int(np.searchsorted(np.cumsum(value[order]), share * exact))]
        picked = np.sort(order)
        positions.append(here[picked])
        masses.append(mass[picked])
        if depth == sweep.depth or not picked.size:
            break
        here = candidates[depth + 1]
        links.append(sweep.link_levels(depth, positions[-1], here))
        mass = masses[-1] @ links[-1]
    for depth, link in enumerate(links):  # the links lead to all candidates; only those to drawn nodes stay
        links[depth] = link[:, np.isin(candidates[depth + 1], positions[depth + 1])]
    return Network(positions, masses[0], links).prune((1 - extent.keep) * UNDRAWN, extent.edges)


def _describe(sweep: SparseSweep, network: Network, exact: float) -> PathTrace:
    """Nodes and edges with the mass of the drawn paths, and the heaviest of these paths."""
    total = network.total
    if not total:
        return PathTrace(sweep.levels, ((),) * len(sweep.levels), (), exact, 0.0, ())
    through = network.mass_through_nodes()
    first = np.cumsum([0, *(len(positions) for positions in network.positions)])
    levels = tuple(
        tuple(Node(int(start + i), int(position), float(carried[i])) for i, position in enumerate(positions))
        for start, positions, carried in zip(first, network.positions, through, strict=False)
    )
    edges = []
    for depth, carried in enumerate(network.mass_through_links()):
        links, heads = sweep.split_links(depth, network.positions[depth], network.positions[depth + 1])  # (1 + H, i, j)
        total_step = links.sum(0)
        for i, j in zip(*np.nonzero(carried), strict=True):
            shares = links[:, i, j] / total_step[i, j]
            ends = int(first[depth] + i), int(first[depth + 1] + j)
            mass = float(carried[i, j])
            if shares[0] > 0:
                edges.append(Edge(*ends, mass * float(shares[0]), ()))
            attended = float(shares[1:].sum())
            if attended > 0:
                named = [h for h in np.argsort(-shares[1:], kind="stable")[:HEADS] if shares[1 + h] > 0]
                parts = tuple((heads[h], float(shares[1 + h]) / attended) for h in named)
                edges.append(Edge(*ends, mass * attended, parts))
    edges.sort(key=lambda edge: -edge.mass)
    return PathTrace(
        layers=sweep.levels,
        levels=levels,
        edges=tuple(edges),
        exact=exact,
        mass=total,
        paths=tuple(find_best_paths(network, first, PATHS)),
    )


def _largest(values: Floats, count: int) -> Ints:
    """The indices of the `count` largest values, largest first; equal values keep their order."""
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    return np.argsort(-values, kind="stable")[: min(count, len(values))]


def mean_start_row(
    positions: Sequence[int], length: int, question: npt.NDArray[np.integer] | None, share: float
) -> Floats:
    """(N,) the mean of the sweep's start rows at these positions (see `start_rows`)."""
    rows = np.zeros(length)
    np.add.at(rows, list(positions), (1.0 if question is None else 1 - share) / len(positions))
    if question is not None and share:
        np.add.at(rows, question, share / len(question))
    return rows
