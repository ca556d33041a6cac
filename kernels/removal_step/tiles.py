"""Choose the tile sizes of the Triton kernel: one choice for each kind of call, as in flow_step.

tests/helpers/triton_removal_resources.py prints the registers of each tile.
"""

from dataclasses import dataclass

__all__ = ["MAX_HEAD_SIZE", "Tile", "choose_tile"]

MAX_HEAD_SIZE = 256  # for more, tiles of Q, K, dO and V do not fit into shared memory


@dataclass(frozen=True)
class Tile:
    """The tile of one program.

    Attributes:
        queries, keys: rows of Q and dO, and of K and V, that are multiplied at once.
        columns, value_columns: columns of D and Dv that are multiplied at once; all of them, except in float32.
        held: the program's tiles of K and V stay in shared memory.
        warps, stages: warps per program, and tiles of Q and dO that are loaded ahead.
        described: all four are loaded through tensor descriptors.
    """

    queries: int
    keys: int
    columns: int
    value_columns: int
    held: bool
    warps: int
    stages: int
    described: bool


def choose_tile(D: int, Dv: int, bits: int, *, window: bool, capability: int) -> Tile:
    """The tile of a call with heads of D and Dv elements of `bits` bits.

    window: whether the call has a window, whose masks need registers. capability: 80, 90, 100 ...; 0 without NVIDIA.
    """
    described = 90 <= capability < 120  # 12.x has the 99 KB of shared memory of 8.6 to 8.9, not 227
    columns, value_columns = (max(16, 1 << (size - 1).bit_length()) for size in (D, Dv))
    if bits == 32:  # products of TF32 split both operands in registers: few columns at once
        most = 32 if described else 16
        return Tile(64, 64, min(columns, most), min(value_columns, most), False, 4, 2, described)
    if max(columns, value_columns) > 128:
        queries, keys, warps = (64, 64 if described else 32, 4)
    elif described:
        wide = not window and capability < 100  # otherwise 128 keys would spill registers
        queries, keys, warps = 128, 128 if wide else 64, 8
    else:
        queries, keys, warps = (128, 64, 8) if capability else (64, 64, 4)
    return Tile(queries, keys, columns, value_columns, True, warps, 2, described)
