"""Compile the Triton kernel for GPUs that are not installed; prints a Markdown table of the resources when run.

    python tests/helpers/triton_resources.py [80 90 100]

This takes a minute or two per GPU; Triton caches the compiled kernels, so a second run takes seconds.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attributor.kernels.common.triton_device import Scales
from attributor.kernels.flow_step.tiles import Tile, choose_tile
from attributor.kernels.flow_step.triton_device import Bias, Lists, Rows, Strides, step_kernel

BITS = {"bf16": 16, "fp16": 16, "fp32": 32}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
Types = dict[str, str | tuple[str, ...]]
TYPES: Types = {
    "rows": Rows("*fp32", "*fp16", "*fp16", "*fp32"),
    "bias": Bias("*fp32", "*fp32"),
    "lists": Lists("*i32", "*i32", "*i32", "*i32"),
    "p_result": "*fp32",
    "scales": Scales("fp32", "fp32"),
    "strides": Strides("i32", "i32", "i32", "i32"),
}  # all other arguments are i32


@dataclass(frozen=True)
class Variant:
    """One specialisation of the kernel, as a call on that GPU selects it."""

    capability: int
    dtype: str
    D: int
    O: int
    key_bias: bool = False
    softcap: bool = False
    window: bool = False

    @property
    def tile(self) -> Tile:
        plain = not self.key_bias and not self.softcap
        return choose_tile(self.O, self.D, BITS[self.dtype], plain=plain, capability=self.capability)

    @property
    def options(self) -> str:
        names = [name for name in ("key_bias", "softcap", "window") if getattr(self, name)]
        return ", ".join(names).replace("_", " ") or "none"

    def __str__(self) -> str:
        return f"sm_{self.capability} {self.dtype} D {self.D} O {self.O} {self.options}"


@dataclass(frozen=True)
class Resources:
    """Resources of a compiled variant: registers and stack per thread, shared memory in bytes, instructions."""

    registers: int
    stack: int
    shared: int
    spills: int
    tensor_core: int
    which: str
    exponentials: int
    instructions: int


def source(variant: Variant) -> ASTSource:
    """Return the kernel with its types and constants, as the first call compiles it."""
    tile, dtype = variant.tile, variant.dtype
    constants = {
        "D": variant.D,
        "BD": tile.columns,
        "BQ": tile.queries,
        "BK": tile.keys,
        "BO": tile.rows,
        "SINGLE": tile.rows == 1,
        "HELD": tile.held,
        "AHEAD": tile.ahead,
        "KEY_BIAS": variant.key_bias,
        "WINDOW": variant.window,
        "SOFTCAP": variant.softcap,
        "DESCRIBED": tile.described,
        "UPCAST": False,
        "PRECISION": "tf32x3" if variant.capability else "ieee",
    }
    blocks = {"query": tile.queries, "key": tile.keys}
    sources = {name: source_type(dtype, block, tile.columns, tile.described) for name, block in blocks.items()}
    return specialise(step_kernel, TYPES | sources, constants)


def source_type(dtype: str, block: int, columns: int, described: bool) -> str:
    """Return the type of the source of `load_tile`."""
    return f"tensordesc<{dtype}[1, {block}, {columns}]>" if described else f"*{dtype}"


def specialise(kernel: triton.JITFunction, types: Types, constants: dict[str, object]) -> ASTSource:
    """Return a kernel with its types and constants; pointers and strides are aligned as with torch and usual shapes."""
    signature, aligned = {}, []
    for i, name in enumerate(kernel.arg_names):
        kind = signature[name] = "constexpr" if name in constants else types.get(name, "i32")
        if isinstance(kind, tuple):
            aligned += [(i, j) for j, part in enumerate(kind) if part.startswith("*") or name == "strides"]
        elif kind.startswith("*"):
            aligned.append((i,))
    attrs = {path: [["tt.divisibility", 16]] for path in aligned}
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attrs)


@cache
def compiled(variant: Variant) -> triton.compiler.CompiledKernel:
    """Compile for an NVIDIA GPU, or for gfx942 if the capability is 0."""
    return compile_source(source(variant), variant.capability, variant.tile.warps, variant.tile.stages)


def compile_source(source: ASTSource, capability: int, warps: int, stages: int) -> triton.compiler.CompiledKernel:
    """Compile for an NVIDIA GPU, or for gfx942 if the capability is 0."""
    target = GPUTarget("cuda", capability, 32) if capability else GPUTarget("hip", "gfx942", 64)
    return triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages})


def resources(variant: Variant) -> Resources:
    """Return the resources of the variant."""
    return read_resources(compiled(variant))


def read_resources(kernel: triton.compiler.CompiledKernel) -> Resources:
    """Read the resources from the machine code with the tools shipped with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([TOOLS / "cuobjdump", option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    names = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", code, re.MULTILINE)
    kinds = [name.split(".")[0] for name in names]
    matrix = {kind for kind in kinds if kind in ("HGMMA", "HMMA", "QGMMA", "UTCHMMA", "UTCQMMA")}
    return Resources(
        registers=int(found[1]),
        stack=int(found[2]),
        shared=kernel.metadata.shared,
        spills=sum(kind in ("LDL", "STL") for kind in kinds),
        tensor_core=sum(kind in matrix for kind in kinds),
        which=" + ".join(sorted(matrix)),
        exponentials=sum(name.startswith("MUFU.EX2") for name in names),
        instructions=len(names),
    )


def variants(capability: int) -> list[Variant]:
    """Return every row of the table of tiles, without options and with all of them."""
    shapes = [("bf16", D, O) for D in (64, 128, 256) for O in (1, 16, 65)]
    shapes += [("fp16", 128, 65), ("fp32", 64, 1), ("fp32", 128, 16), ("fp32", 256, 17)]
    plain = [Variant(capability, *shape) for shape in shapes]
    return plain + [Variant(capability, *shape, True, True, True) for shape in shapes if shape[1] != 64]


def main() -> None:
    """Print the table."""
    print("| GPU | Q, K | D | O | options | tile | warps | registers | spilled | shared KB | matrix | exp2 | code |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for capability in [int(argument) for argument in sys.argv[1:]] or [80, 90, 100]:
        for variant in variants(capability):
            tile, found = variant.tile, resources(variant)
            print(
                f"| sm_{capability} | {variant.dtype} | {variant.D} | {variant.O} | {variant.options} "
                f"| {tile.queries} x {tile.keys} | {tile.warps} | {found.registers} | {found.stack} "
                f"| {found.shared / 1024:.0f} | {found.tensor_core} {found.which} | {found.exponentials} "
                f"| {found.instructions} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
