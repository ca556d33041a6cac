"""What the CUDA kernel of flow_step can reach at most on an H100, by arithmetic alone: python bench/roofline.py.

Prints the tables of docs/gpu-roofline.md. Nothing in them was measured. Imports nothing but Python.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gpu_shapes import Step
from roofline_units import UNITS, ceiling, compiled, seconds

__all__ = ["LAYOUTS", "main", "markdown"]

# What differs from the layout that is compiled for a call.
LAYOUTS: dict[str, dict[str, Any]] = {
    "as compiled": {},
    "K from shared memory": {"from_registers": False},
    "K from registers": {"from_registers": True},
    "K from registers, Y in memory": {"from_registers": True, "held": 16},
    "K from shared memory, Y in registers": {"from_registers": False, "held": 128},
    "4 key heads resident": {"resident": 4},
    "in turns, 128 queries": {"from_registers": False, "width": 128},
    "in turns, 192 queries": {"from_registers": False, "queries": 192, "width": 192, "held": 16},
    "cluster 1": {"cluster": 1},
    "64 queries": {"queries": 64},
    "64 keys": {"keys": 64},
    "192 keys": {"keys": 192},
    "2 of 8 exponentials emulated": {"emulated": 2},
    "W in one part": {"products": 2},
}

HEADS = ((1, 1), (2, 2), (4, 4), (4, 1), (8, 8), (8, 2), (32, 32), (32, 8))  # (H, G)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def _of_units() -> str:
    rows = []
    for D, H, G, O in ((128, 32, 8, 1), (128, 32, 8, 128), (128, 32, 8, 512), (128, 4, 4, 16), (128, 4, 1, 16),
                       (128, 1, 1, 1), (128, 1, 1, 128), (64, 32, 8, 128), (256, 32, 8, 128)):  # fmt: skip
        found = ceiling(Step(D=D, H=H, G=G, O=O))
        cells = [f"**{found.busy[u]:.0f}**" if u == found.bound else f"{found.busy[u]:.0f}" for u in UNITS]
        rows.append([f"{D}", f"{H}, {G}", f"{O}", *cells])
    return _table(("D", "H, G", "O", *UNITS), rows)


def _of_calls() -> str:
    rows = []
    for D in (64, 128, 256):
        for O in (1, 16, 128, 512):
            found = [ceiling(Step(D=D, H=H, G=G, O=O)) for H, G in HEADS]
            rows.append([f"{D}", f"{O}", *(f"{c.overlapped:.0f} {c.bound}, {c.written:.0f}" for c in found)])
    return _table(("D", "O", *(f"{H}, {G}" for H, G in HEADS)), rows)


def _of_layouts() -> str:
    calls = ((32, 8, 128), (32, 8, 512), (4, 4, 16), (4, 4, 128), (2, 2, 16), (1, 1, 1), (1, 1, 128))
    rows = []
    for name, changes in LAYOUTS.items():
        steps = [Step(H=H, G=G, O=O) for H, G, O in calls]
        found = [ceiling(step, replace(compiled(step), **changes)) for step in steps]
        rows.append([name, *(f"{c.overlapped:.0f}, {c.written:.0f}" for c in found)])
    return _table(("layout", *(f"H {H}, G {G}, O {O}" for H, G, O in calls)), rows)


def _of_lengths() -> str:
    rows = []
    for N in (8192, 32_768, 131_072):
        for H, G in ((32, 8), (4, 4), (1, 1)):
            steps = [Step(N=N, H=H, G=G, O=O) for O in (1, 128, 512)]
            rows.append([f"{N:,}", f"{H}, {G}", *(f"{1e3 * s:.3g} ms, {t.flops / s / 1e12:.0f} TF" for t in steps
                                                  for s in [seconds(t)])])  # fmt: skip
    return _table(("N", "H, G", "O 1", "O 128", "O 512"), rows)


PARTS = (
    (
        "Clocks of each unit for a head and a pair of tiles, 128 keys x 128 queries, on one multiprocessor; the\n"
        "product with R is shared out over the heads. The unit that works most is the bound.",
        _of_units,
    ),
    (
        "TF of Q K^T by H, G: if the bound never waits, and what bounds; then as written, where the loop over heads\n"
        "overlaps and the split of W and the product with R come after it.",
        _of_calls,
    ),
    ("The same two by layout, D 128; each changes one thing, and some would not fit into the registers.", _of_layouts),
    (
        "The whole call as written, D 128, with tiles at the diagonal, the clusters that end last, and the sum of the\n"
        "parts; without the small kernels before it and what their launches cost.",
        _of_lengths,
    ),
)


def markdown() -> str:
    """All tables."""
    return "\n".join(f"{said}\n\n{table()}" for said, table in PARTS)


def main() -> None:
    """Print them."""
    print(markdown(), end="")


if __name__ == "__main__":
    main()
