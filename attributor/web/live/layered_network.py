"""Compute the mass that flows through a layered network, which the page draws, and its heaviest paths."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Network", "WeightedPath", "find_best_paths"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
WeightedPath = tuple[float, tuple[int, ...]]  # mass, node ids from the top down


@dataclass(frozen=True)
class Network:
    """Nodes in levels, and steps from each level to the next.

    Attributes:
        positions: (n_l,) ascending, the nodes of each level.
        mass: (n_0,) the mass that starts at each node of the first level.
        links: (n_l, n_(l+1)) the share of a node's mass that a step takes to the next level.
    """

    positions: list[Ints]
    mass: Floats
    links: list[Floats]

    def arriving_mass(self) -> list[Floats]:
        """(n_l,) the mass that arrives at each node."""
        masses = [self.mass]
        for link in self.links:
            masses.append(masses[-1] @ link)
        return masses

    def arriving_share(self) -> list[Floats]:
        """(n_l,) the share of each node's mass that arrives at the last level."""
        shares = [np.ones(len(self.positions[-1]))]
        for link in reversed(self.links):
            shares.append(link @ shares[-1])
        return shares[::-1]

    def mass_through_nodes(self) -> list[Floats]:
        """(n_l,) the mass of all paths through each node; each level sums to `total`."""
        return [arriving * share for arriving, share in zip(self.arriving_mass(), self.arriving_share(), strict=True)]

    def mass_through_links(self) -> list[Floats]:
        """(n_l, n_(l+1)) the mass of all paths through each step."""
        parts = zip(self.arriving_mass()[:-1], self.links, self.arriving_share()[1:], strict=True)
        return [arriving[:, None] * link * share for arriving, link, share in parts]

    @property
    def total(self) -> float:
        """The mass of all paths."""
        return float(self.arriving_mass()[-1].sum())

    def prune(self, loss: float, most: int) -> "Network":
        """The network without the thinnest steps, and without nodes that then have no path.

        Args:
            loss: the share of the mass that all removed steps together may carry.
            most: the largest number of steps, whatever that loses, in equal parts for each level. The best path stays.
        """
        links = []
        each = max(1, most // max(1, len(self.links)))  # of a level, where all steps are thin if the mass is spread out
        levels = np.zeros(len(self.positions), dtype=np.int64)
        best = [path for _, path in find_best_paths(self, levels, 1)]  # always stays, so that the network is not empty
        for level, (masses, link) in enumerate(zip(self.mass_through_links(), self.links, strict=True)):
            order = np.argsort(masses, axis=None, kind="stable")
            spent = np.cumsum(masses.ravel()[order])
            thin = np.union1d(order[spent <= loss * self.total / len(self.links)], order[: max(0, order.size - each)])
            remaining = link.copy()
            remaining.ravel()[thin] = 0
            for path in best:
                remaining[path[level], path[level + 1]] = link[path[level], path[level + 1]]
            links.append(remaining)
        rest = Network(self.positions, self.mass, links)
        on = [masses > 0 for masses in rest.mass_through_nodes()]
        return Network(
            [positions[some] for positions, some in zip(self.positions, on, strict=True)],
            self.mass[on[0]],
            [link[np.ix_(on[level], on[level + 1])] for level, link in enumerate(links)],
        )


def find_best_paths(network: Network, first: Ints, count: int) -> list[WeightedPath]:
    """The `count` heaviest paths, exactly, heaviest first; node i of level l has the id first[l] + i.

    From the last level up every node keeps its `count` heaviest ways down. This is exact: every part of a heaviest path
    is itself among the heaviest.
    """
    masses: Floats = np.ones((len(network.positions[-1]), 1))  # (n_l, ways), heaviest first
    choices: list[tuple[Ints, Ints]] = []  # for each way of a node: the next node, and the rank of the way from there
    for link in [*reversed(network.links), network.mass[None]]:
        ways = (link[:, :, None] * masses).reshape(len(link), link.shape[1] * masses.shape[1])
        order = np.argsort(-ways, axis=1, kind="stable")[:, :count]
        choices.append((order // masses.shape[1], order % masses.shape[1]))
        masses = np.take_along_axis(ways, order, axis=1)
    paths = []
    for rank, mass in enumerate(masses[0]):
        if mass <= 0:
            break
        ids, i, r = [], 0, rank
        for start, (nodes, ranks) in zip(first, reversed(choices), strict=False):
            i, r = int(nodes[i, r]), int(ranks[i, r])
            ids.append(int(start) + i)
        paths.append((float(mass), tuple(ids)))
    return paths
