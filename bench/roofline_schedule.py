"""How the work of one call is shared out over the multiprocessors: csrc/cuda/plan.h without windows, in counts."""

import heapq
from dataclasses import dataclass

from gpu_shapes import Step

__all__ = ["Plan", "plan"]

MOST_PARTS, MOST_PART_BYTES = 16, 1 << 28


@dataclass(frozen=True)
class Plan:
    """What the schedule comes to.

    Attributes:
        parts: of the queries.
        counts: tiles of queries of each item, a block of keys and a part, in the order that they are handed out.
        longest: tiles that the busiest cluster walks.
        written: columns of partial results, summed over the parts.
    """

    parts: int
    counts: tuple[int, ...]
    longest: int
    written: int


def plan(step: Step, keys: int, queries: int, group: int, clusters: int, parts: int = 0) -> Plan:
    """The schedule of a call; `keys` of a whole cluster, `clusters` that run at a time, `parts` 0 chooses."""
    if parts:
        return _in_parts(step, keys, queries, group, clusters, parts)
    best, least = _in_parts(step, keys, queries, group, clusters, 1), 0.0
    for wanted in (1, 2, 4, 8, 16):
        found = _in_parts(step, keys, queries, group, clusters, wanted)
        if wanted > 1 and (found.parts * step.O * 4 > MOST_PART_BYTES // step.N or found.parts == best.parts):
            continue
        time = _duration(found, step, queries, clusters)
        if wanted == 1 or time < least:
            best, least = found, time
    return best


def _in_parts(step: Step, keys: int, queries: int, group: int, clusters: int, wanted: int) -> Plan:
    blocks, tiles = -(-step.N // keys), -(-step.N // queries)
    part_tiles = -(-tiles // min(wanted, tiles))
    parts = -(-tiles // part_tiles)
    counts = []
    for begin in range(0, blocks, group):
        firsts = [block * keys // queries for block in range(begin, min(begin + group, blocks))]
        for part in range(parts - 1, firsts[0] // part_tiles - 1, -1):
            end = min((part + 1) * part_tiles, tiles)
            counts += [max(0, end - max(first, part * part_tiles)) for first in firsts]
    written = sum(1 for count in counts if count) * keys
    return Plan(parts, tuple(counts), int(_last(counts, clusters, 0, 1)), written)


def _last(counts: list[int] | tuple[int, ...], clusters: int, start: float, tile: float) -> float:
    """When the last item is done, each handed to whoever is free first."""
    busy = [0.0] * clusters
    for count in counts:
        heapq.heapreplace(busy, busy[0] + start + count * tile)
    return max(busy)


def _duration(found: Plan, step: Step, queries: int, clusters: int) -> float:
    """The seconds that plan.h compares."""
    rows = 0 if step.O == 1 else 6 * step.O / 4096
    size = 64 if step.D <= 64 else 128 if step.D <= 128 else 256
    tile = 128 * queries * (step.H * max(2 * size / 4096, 1 / 16) + rows) / 1.755e9
    last = _last(found.counts, clusters, 3e-6, tile)
    return last + (4 * step.O * (2 * found.written + step.N) / 3e12 if found.parts > 1 else 0)
