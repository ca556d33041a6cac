"""How the work of one call is shared out over the multiprocessors: csrc/cuda/schedule.h without windows, in counts."""

import heapq
from dataclasses import dataclass

__all__ = ["Plan", "plan"]

ITEMS_WANTED, MOST_PARTS, MOST_PART_BYTES = 2048, 16, 1 << 28


@dataclass(frozen=True)
class Plan:
    """What the schedule comes to.

    Attributes:
        parts: of the queries.
        items: blocks of keys times parts that have tiles of queries.
        longest: tiles that the busiest cluster walks; items are handed out in order.
        mean: tiles of a cluster, were they shared out evenly.
        written: columns of partial results, summed over the parts.
    """

    parts: int
    items: int
    longest: int
    mean: float
    written: int


def plan(N: int, O: int, keys: int, queries: int, group: int, clusters: int, parts: int = 0) -> Plan:
    """The schedule of a call; `keys` of a whole cluster, `clusters` that run at a time, `parts` 0 chooses."""
    blocks, tiles = -(-N // keys), -(-N // queries)
    wanted = parts or max(1, min(-(-ITEMS_WANTED // blocks), MOST_PARTS, MOST_PART_BYTES // (4 * O * N)))
    part_tiles = -(-tiles // min(wanted, tiles))
    parts = -(-tiles // part_tiles)
    counts = []
    for begin in range(0, blocks, group):
        firsts = [block * keys // queries for block in range(begin, min(begin + group, blocks))]
        for part in range(parts - 1, firsts[0] // part_tiles - 1, -1):
            end = min((part + 1) * part_tiles, tiles)
            counts += [max(0, end - max(first, part * part_tiles)) for first in firsts]
    busy = [0] * clusters
    for count in counts:
        heapq.heapreplace(busy, busy[0] + count)
    used = [count for count in counts if count]
    return Plan(parts, len(used), max(busy), sum(counts) / clusters, len(used) * keys)
