"""Choose the tile sizes of the Triton kernel: one choice for each kind of call.

A fixed choice compiles once (a few seconds, then in Triton's cache on disk). A search would compile and time every
candidate at the first call of every new shape. tests/helpers/triton_resources.py prints the registers of each tile.
"""

from dataclasses import dataclass

__all__ = ["MAX_HEAD_SIZE", "Tile", "choose_tile"]

MAX_HEAD_SIZE = 256  # for more, two tiles of Q and K do not fit into shared memory


@dataclass(frozen=True)
class Tile:
    """The tile of one program.

    Attributes:
        queries, keys: the tile of W that is summed over the heads, in registers.
        rows: rows of R that are multiplied at once; 1 if R has one row, which needs no product.
        held: the rows of Y stay in registers; otherwise they are added up in memory, tile by tile.
        columns: columns of D that are multiplied at once; all of them, except in float32.
        ahead: the next head's products are computed while this head is exponentiated.
        warps, stages: warps per program, and tiles of Q and K that are loaded ahead.
        described: Q and K are loaded through tensor descriptors.
    """

    queries: int
    keys: int
    rows: int
    held: bool
    columns: int
    ahead: bool
    warps: int
    stages: int
    described: bool


def choose_tile(O: int, D: int, bits: int, *, plain: bool, capability: int) -> Tile:
    """The tile of a call with O rows and heads of D elements of `bits` bits.

    plain: no key bias and no softcap, which need registers. capability: 80, 90, 100 ...; 0 without NVIDIA.
    """
    described = 90 <= capability < 120  # 12.x has the 99 KB of shared memory of 8.6 to 8.9, not 227
    columns = max(16, 1 << (D - 1).bit_length())
    most = 16 if bits == 32 or (columns == 256 and not described) else 32
    rows, held = (1, True) if O == 1 else (16, True) if O <= 16 else (most, False)
    if bits == 32:  # products of TF32 split both operands in registers: small tiles, and few columns at once
        keys, most_columns = (32 if plain else 16, 32) if described else (16, 16)
        stages = 2 if plain or described else 1
        return Tile(64, keys, rows, held, min(columns, most_columns), False, 4, stages, described)
    if columns == 256:
        return Tile(64, 64, rows, held, columns, False, 4 if described else 8, 2, described)
    if not described:
        return Tile(128, 64, rows, held, columns, False, 8, 3 if capability else 2, described)
    wide = O == 1 or (plain and capability < 100)  # otherwise 128 keys would spill registers
    return Tile(128, 128 if wide else 64, rows, held, columns, O == 1 and plain, 8, 2, described)
