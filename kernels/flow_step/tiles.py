"""How the Triton kernel cuts its work: one tile a kind of call, chosen on paper and by compiling.

A fixed choice compiles once (a few seconds, kept in Triton's cache on disk) where a search would compile and time every
candidate at the first call of every new shape. docs/gpu.md has the registers and shared memory of each.
"""

from dataclasses import dataclass

__all__ = ["MAX_HEAD_SIZE", "Tile", "choose_tile"]

MAX_HEAD_SIZE = 256  # beyond, two tiles of Q and K do not fit into shared memory


@dataclass(frozen=True)
class Tile:
    """What one program works on.

    Attributes:
        queries, keys: the tile of W that is summed over the heads, in registers.
        rows: rows of R that are multiplied at once; 1 where there is only one, which needs no product.
        held: the rows of Y stay in registers; otherwise they are added up in memory, tile by tile.
        heads: query heads that share one load of K in every step of the loop.
        ahead: the next head's products are computed while this head is exponentiated.
        warps, stages: warps a program, and tiles of Q and K on their way.
        described: Q and K are loaded through tensor descriptors.
    """

    queries: int
    keys: int
    rows: int
    held: bool
    heads: int
    ahead: bool
    warps: int
    stages: int
    described: bool


def choose_tile(O: int, D: int, bits: int, *, paired: bool, capability: int) -> Tile:
    """The tile of a call with O rows and heads of D elements of `bits` bits.

    paired: most heads have a neighbour with the same key head. capability: 80, 90, 100 ...; 0 for what is not NVIDIA.
    """
    described = capability >= 90
    wide = D > 128
    if bits == 32:
        rows, held = _rows(O, most=16)
        return Tile(64, 32 if wide else 64, rows, held, 1, False, 4, 1 if wide else 2, described)
    if described:
        if O == 1:
            heads = 2 if paired and not wide else 1
            return Tile(64 if wide else 128, 128, 1, True, heads, heads == 1 and not wide, 4 if wide else 8, 2, True)
        rows, held = _rows(O, most=32)
        return Tile(64 if wide else 128, 128, rows, held, 1, False, 4 if wide else 8, 2, True)
    rows, held = _rows(O, most=32)
    return Tile(128, 64, rows, held, 1, False, 8, 2, False)


def _rows(O: int, *, most: int) -> tuple[int, bool]:
    if O == 1:
        return 1, True
    if most <= 16:
        return 16, O <= 16
    return (16, True) if O <= 16 else (32, O <= 32)
