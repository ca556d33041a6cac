"""Computes steps of the sweep between a few positions of each layer, without the (N, N) matrix of any layer."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._flow import Recording
from attributor._record import HeadWeights
from attributor.web.live.attention import HIDDEN, Check, Queries, RecordingReader, no_check

__all__ = ["SparseSweep"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class SparseSweep:
    """The layers of a run with chosen heads, the last layer first: depth 0 leads from the top level to the next.

    Attributes:
        length: N.
        layers: the layer of each depth.
        heads: the chosen heads of each depth.
        depth: how many of these layers there are.
        levels: for each level, how many of the model's layers lie below it; there is one level more than layers.

    Raises:
        InputError: weights of another model.
        RecordingError: as `Recording.layer`.
    """

    def __init__(self, recording: Recording, weights: HeadWeights, *, check: Check = no_check) -> None:
        self._reader, self._weights, self._check = RecordingReader(recording), weights, check
        table = weights.heads
        if weights.shape != self._reader.shape:
            raise InputError(f"weights must be numbers of shape {self._reader.shape}, layers and heads of the model")
        self.length = self._reader.length
        self.layers = tuple(layer for layer in reversed(range(table.shape[0])) if bool(table[layer].any()))
        self.heads = [tuple(table[layer].nonzero()[:, 0].tolist()) for layer in self.layers]
        self._w = [table[layer][list(heads)].double() for layer, heads in zip(self.layers, self.heads, strict=True)]
        self.depth = len(self.layers)
        self.levels = (*(layer + 1 for layer in self.layers), 0)

    def push_down(self, depth: int, positions: Ints, mass: Floats) -> Floats:
        """(N,) the mass at each position one step further down, for mass that starts at some positions."""
        queries = self._queries(depth, positions)
        w, start_mass = self._w[depth], torch.from_numpy(mass).to(queries.query)
        low, high = queries.seen
        flowed = torch.zeros(self.length, dtype=torch.float64, device=start_mass.device)
        for group in queries.groups():
            bias = w[group].to(start_mass).log()[:, None, None]
            for start, stop in queries.blocks(len(group), low, high):
                self._check()
                keys = torch.arange(start, stop, device=start_mass.device)
                logs = queries.log_attention(group, start, stop)
                weight = self._weight(depth, queries, group, logs, keys).add_(bias).exp_()
                flowed[start:stop] += (start_mass.repeat(len(group)) @ weight.view(-1, stop - start)).double()
        result: Floats = flowed.cpu().numpy()
        result[positions] += mass
        return result / float(1 + w.sum())

    def pull_up(self, depth: int, positions: Ints, below: Ints, values: Floats) -> Floats:
        """(positions,) the sum of `values` at the positions below, weighted with the steps from each position."""
        queries = self._queries(depth, positions)
        keys = torch.from_numpy(below).to(queries.query.device)
        value = torch.from_numpy(values).to(queries.query)
        reached = torch.zeros(len(positions), dtype=torch.float64, device=value.device)
        for group in queries.groups():
            for index in group:  # one head at a time, so that memory holds positions x below of one head
                self._check()
                logs = self._weight(depth, queries, [index], queries.log_attention_at([index], keys), keys)
                reached += float(self._w[depth][index]) * (logs[0].exp() @ value).double()
        result: Floats = reached.cpu().numpy()
        same, here, there = np.intersect1d(positions, below, assume_unique=True, return_indices=True)
        if same.size:
            result[here] += values[there]
        return result / float(1 + self._w[depth].sum())

    def link_levels(self, depth: int, positions: Ints, below: Ints) -> Floats:
        """(positions, below) the steps between these positions, residual and all heads together."""
        links: Floats = self.split_links(depth, positions, below)[0].sum(0)
        return links

    def split_links(self, depth: int, positions: Ints, below: Ints) -> tuple[Floats, tuple[int, ...]]:
        """(1 + H, positions, below), the residual's part of each step, then each head's part; and these heads."""
        self._check()
        queries = self._queries(depth, positions)
        keys = torch.from_numpy(below).to(queries.query.device)
        links = np.zeros((1 + len(self.heads[depth]), len(positions), len(below)))
        links[0] = positions[:, None] == below
        for group in queries.groups():
            logs = self._weight(depth, queries, group, queries.log_attention_at(group, keys), keys)
            weight = logs.double().exp() * self._w[depth][group, None, None].to(logs.device)
            links[[1 + index for index in group]] = weight.cpu().numpy()
        return links / float(1 + self._w[depth].sum()), self.heads[depth]

    def _queries(self, depth: int, positions: Ints) -> Queries:
        return self._reader.queries(self.layers[depth], torch.from_numpy(positions), self.heads[depth])

    def _weight(self, depth: int, queries: Queries, group: list[int], logs: Tensor, keys: Tensor) -> Tensor:
        """Turn ln P into ln(P^power c), in place, without the attention to a dropped sink."""
        weights = self._weights
        if weights.power != 1:
            logs.mul_(weights.power)
        if weights.value_norms:
            norms = self._reader.log_value(self.layers[depth], self.heads[depth])[group]
            logs.add_(norms[:, None, keys].to(logs))
        if weights.sink == "drop":
            logs.masked_fill_(keys == 0, HIDDEN)
        return logs
