"""The arithmetic of roofline.py: how long each unit of an H100 works for one call of the CUDA kernel of flow_step.

Counts, for one pair of tiles (128 keys x 128 queries) on one multiprocessor, the clocks that each of its units is busy:
once a head, and once a pair for the product with R. Nothing here was measured; the rates are the data sheet's, the
second-level cache's is what others report. Imports nothing but Python.
"""

from dataclasses import dataclass

from gpu_shapes import Step
from roofline_schedule import plan

__all__ = ["UNITS", "Ceiling", "Layout", "ceiling", "clocks", "compiled", "seconds"]

PROCESSORS, CLOCK = 132, 1.755e9
TENSOR = 4096  # FLOP a clock, dense, 16 bits
EXPONENTIALS, LANES = (
    16,
    128,
)  # elements a clock: of the exponential unit; of the multipliers, and of all that is issued
SHARED = 128  # bytes a clock
L2, HBM = (rate / PROCESSORS / CLOCK for rate in (5.5e12, 3.35e12))  # bytes a clock for each multiprocessor
PAIR = 128  # keys and queries
UNITS = ("tensor", "exponentials", "multipliers", "issue", "shared memory", "L2", "HBM")
POLYNOMIAL = 8, 11  # of one exponential without the unit: multiplications and additions, instructions
SPLIT = 2, 5  # of one element of W in two parts: the same


@dataclass(frozen=True)
class Layout:
    """How the kernel is cut.

    Attributes:
        keys: of a thread block, 64 for each warpgroup.
        queries: of a tile.
        width: queries of one product, the n of m64nNk16.
        cluster: thread blocks that share each tile of queries and of R.
        resident: key heads that stay in shared memory from one tile to the next.
        from_registers: whether the tensor cores read K from registers instead of shared memory.
        held: rows of Y that stay in registers; more are added up in memory.
        products: of the parts of W and R, 3, or 2 with W in one part.
        emulated: of 8 exponentials, those that the multipliers compute.
        group: blocks of keys that run side by side.
    """

    keys: int = 128
    queries: int = 128
    width: int = 64
    cluster: int = 2
    resident: int = 1
    from_registers: bool = False
    held: int = 128
    products: int = 3
    emulated: int = 0
    group: int = 8


def compiled(step: Step) -> Layout:
    """The layout that csrc/cuda/launch.h chooses: K in registers where Y leaves room for it."""
    held = 64 if step.D > 128 else 16 if step.D > 64 and step.H >= 8 else 128
    return Layout(from_registers=step.D <= 128 and not 16 < step.O <= held, held=held)


def padded(O: int) -> int:
    """Rows of R that are multiplied; one row takes no product."""
    return 0 if O == 1 else 16 if O <= 16 else -(-O // 64) * 64


def key_loads(step: Step, layout: Layout) -> float:
    """How often a tile of queries loads keys: heads are walked up and down, so the last stay for the next tile."""
    return max(0, step.G - layout.resident)


def clocks(step: Step, layout: Layout) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Clocks of each unit: of a head's products, of its exponentials, and of what follows once for all heads."""
    area, share = PAIR * PAIR, PAIR / layout.queries  # share: of a tile of queries' own costs in one pair
    O, size = padded(step.O), 2 * step.D
    keys_loaded = key_loads(step, layout) / step.H * PAIR * size * share  # bytes a head
    queries_loaded = PAIR * (size + 4) * PAIR / layout.keys
    a, b = (0 if layout.from_registers else 64 / layout.width), 1.0  # K and Q, of 2 KB for 64 x 64 x 16
    operands = (a + b) * area * size / 64
    if layout.from_registers:  # a key head's keys come from shared memory once a tile
        operands += (step.G - 1) / step.H * PAIR * size * share
    biases = area / 128  # clocks: a warp loads those of 16 keys x 8 queries at once
    head = {
        "tensor": 2 * area * step.D / TENSOR,
        "shared memory": (operands + keys_loaded + queries_loaded) / SHARED,
        "L2": (keys_loaded + queries_loaded / layout.cluster) / L2,
        "HBM": queries_loaded / (layout.group * layout.cluster) / HBM,
    }
    slow = layout.emulated / 8
    exponentials = {
        "exponentials": area * (1 - slow) / EXPONENTIALS,
        "multipliers": area * (2 + slow * POLYNOMIAL[0]) / LANES,
        "issue": area * (2.25 + (1 - slow) + slow * POLYNOMIAL[1]) / LANES,
        "shared memory": biases,
    }
    if step.O == 1:
        return head, exponentials, {"multipliers": area / LANES, "issue": 1.25 * area / LANES}
    rows = 2 * O * PAIR * 2 * PAIR / layout.keys  # bytes of both parts of R
    sums = PAIR * O * share  # elements of Y that each tile adds to
    added = 4 * sums if layout.held < step.O else 0  # bytes, in the second-level cache
    tile = {
        "tensor": layout.products * 2 * area * O / TENSOR,
        "shared memory": (layout.products * area * O * 2 / 64 + rows) / SHARED,
        "multipliers": (SPLIT[0] * area + 2 * sums) / LANES,
        "issue": (SPLIT[1] * area + 3 * sums) / LANES,
        "L2": (rows / layout.cluster + added) / L2,
        "HBM": rows / (layout.group * layout.cluster) / HBM,
    }
    return head, exponentials, tile


@dataclass(frozen=True)
class Ceiling:
    """Bounds of one call that nothing waits for, TF of Q K^T.

    Attributes:
        busy: clocks a head and pair of tiles that each unit works, the product with R shared out over the heads.
        bound: the unit that works most.
        overlapped: it never waits.
        written: the loop over heads overlaps like that; the split of W and the product with R come after it.
        series: products, exponentials, split and product with R after one another.
    """

    busy: dict[str, float]
    bound: str
    overlapped: float
    written: float
    series: float


def ceiling(step: Step, layout: Layout | None = None) -> Ceiling:
    """The bounds of one call, in the layout that is compiled for it or in another one."""
    layout = layout or compiled(step)
    head, exponentials, tile = clocks(step, layout)
    inside = {unit: head.get(unit, 0) + exponentials.get(unit, 0) for unit in UNITS}
    busy = {unit: clock + tile.get(unit, 0) / step.H for unit, clock in inside.items()}
    split = SPLIT[1] * PAIR * PAIR / LANES if step.O > 1 else 0
    end = (split + max(tile.values())) / step.H
    flops = 2 * PAIR * PAIR * step.D * PROCESSORS * CLOCK / 1e12
    return Ceiling(
        busy,
        max(busy, key=lambda unit: busy[unit]),
        flops / max(busy.values()),
        flops / (max(inside.values()) + end),
        flops / (max(head.values()) + max(exponentials.values()) + end),
    )


def seconds(step: Step, layout: Layout | None = None, parts: int = 0) -> float:
    """Of a whole call as written: tiles at the diagonal, the clusters that end last, and the sum of the parts too.

    `parts` of the queries; 0 is what the schedule chooses.
    """
    layout = layout or compiled(step)
    keys, clusters = layout.keys * layout.cluster, PROCESSORS // layout.cluster
    work = plan(step, keys, layout.queries, layout.group, clusters, parts)
    rate = ceiling(step, layout).written / PROCESSORS * 1e12  # of one multiprocessor
    walked = work.longest * 2 * layout.keys * layout.queries * step.D * step.H / rate
    return walked + (2 * work.written * step.O * 4 / (HBM * PROCESSORS * CLOCK) if work.parts > 1 else 0.0)
