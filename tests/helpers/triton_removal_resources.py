"""Compile the Triton kernel of removal_step for GPUs that are not installed; prints a table of its resources when run.

python tests/helpers/triton_removal_resources.py [80 90 100]
"""

import sys
from dataclasses import dataclass
from functools import cache

import triton
from triton.compiler import ASTSource
from triton_resources import BITS, Resources, Types, compile_source, read_resources, source_type, specialise

from attributor.kernels.common.triton_device import Scales
from attributor.kernels.removal_step.tiles import Tile, choose_tile
from attributor.kernels.removal_step.triton_device import Lists, Rows, Strides, removal_kernel

TYPES: Types = {
    "rows": Rows("*fp32", "*fp32"),
    "lists": Lists("*i32", "*i32"),
    "p_stops": "*i32",
    "p_result": "*fp32",
    "scales": Scales("fp32", "fp32"),
    "strides": Strides(*["i32"] * 8),
}  # all other arguments are i32


@dataclass(frozen=True)
class Variant:
    """One specialisation of the kernel, as a call on that GPU selects it."""

    capability: int
    dtype: str
    D: int
    Dv: int
    window: bool = False
    softcap: bool = False

    @property
    def tile(self) -> Tile:
        return choose_tile(self.D, self.Dv, BITS[self.dtype], window=self.window, capability=self.capability)

    @property
    def options(self) -> str:
        return ", ".join(name for name in ("window", "softcap") if getattr(self, name)) or "none"

    def __str__(self) -> str:
        return f"sm_{self.capability} {self.dtype} D {self.D} Dv {self.Dv} {self.options}"


def source(variant: Variant) -> ASTSource:
    """Return the kernel with its types and constants, as the first call compiles it."""
    tile = variant.tile
    constants = {
        "D": variant.D,
        "DV": variant.Dv,
        "BD": tile.columns,
        "BV": tile.value_columns,
        "BQ": tile.queries,
        "BK": tile.keys,
        "HELD": tile.held,
        "WINDOW": variant.window,
        "SOFTCAP": variant.softcap,
        "DESCRIBED": tile.described,
        "UPCAST": False,
        "PRECISION": "tf32x3" if variant.capability else "ieee",
    }
    sizes = {
        "query": (tile.queries, tile.columns),
        "key": (tile.keys, tile.columns),
        "d_output": (tile.queries, tile.value_columns),
        "value": (tile.keys, tile.value_columns),
    }
    sources = {name: source_type(variant.dtype, *size, tile.described) for name, size in sizes.items()}
    return specialise(removal_kernel, TYPES | sources, constants)


@cache
def compiled(variant: Variant) -> triton.compiler.CompiledKernel:
    """Compile for an NVIDIA GPU, or for gfx942 if the capability is 0."""
    return compile_source(source(variant), variant.capability, variant.tile.warps, variant.tile.stages)


def resources(variant: Variant) -> Resources:
    """Return the resources of the variant."""
    return read_resources(compiled(variant))


def variants(capability: int) -> list[Variant]:
    """Return every row of the table of tiles, without options, with each option and with both."""
    shapes = [("bf16", 64, 64), ("bf16", 80, 80), ("bf16", 128, 128), ("bf16", 192, 128), ("bf16", 256, 256)]
    shapes += [("fp16", 128, 128), ("fp32", 64, 64), ("fp32", 128, 128), ("fp32", 256, 256)]
    options = [(False, False), (True, False), (False, True), (True, True)]
    return [Variant(capability, *shape, *option) for shape in shapes for option in options]


def main() -> None:
    """Print the table."""
    print("| GPU | dtype | D, Dv | options | tile | warps | registers | spilled | shared KB | matrix | exp2 | code |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for capability in [int(argument) for argument in sys.argv[1:]] or [80, 90, 100]:
        for variant in variants(capability):
            tile, taken = variant.tile, resources(variant)
            print(
                f"| sm_{capability} | {variant.dtype} | {variant.D}, {variant.Dv} | {variant.options} "
                f"| {tile.queries} x {tile.keys} | {tile.warps} | {taken.registers} | {taken.stack} "
                f"| {taken.shared / 1024:.0f} | {taken.tensor_core} {taken.which} | {taken.exponentials} "
                f"| {taken.instructions} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
