"""Resources of the compiled CUDA kernel, read from the installed extension; prints a Markdown table when run.

    python tests/helpers/cuda_resources.py

cuobjdump extracts the machine code from the extension. The report of ptxas is in the folder of the editable build. A
small program prints the sizes that are computed at compile time. No GPU is needed.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cuda_sass import Function, functions

__all__ = [
    "SOURCES",
    "Resources",
    "Variant",
    "cuobjdump",
    "kernels",
    "module",
    "nvcc_version",
    "reports",
    "resources",
    "table",
    "why_not",
]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "csrc" / "cuda"
REPORTS = ROOT / "build" / "editable"


@dataclass(frozen=True)
class Variant:
    """The template arguments of one kernel instance, by their names in variant.cuh without the underscore."""

    arguments: tuple[tuple[str, int], ...]

    def __getitem__(self, name: str) -> int:
        return dict(self.arguments)[name]

    @property
    def rows(self) -> str:
        """Describe the rows of Y of this variant."""
        names = re.search(r"enum class Rows \{([^}]*)\}", _kernel_source())
        assert names
        return names[1].replace("_", " ").split(", ")[self["ROWS"]].strip()

    @property
    def cut(self) -> tuple[tuple[str, int], ...]:
        """The arguments that vary only in a build for measurements."""
        return tuple(item for item in self.arguments if item[0] not in ("D", "ROWS", "HALF", "GENERAL"))

    def __str__(self) -> str:
        return " ".join(f"{name} {value}" for name, value in self.arguments)


@dataclass(frozen=True)
class Resources:
    """The resources of one variant: registers and stack per thread, bytes of shared memory, instructions.

    `width` is the number of queries of one S, whose exponentials hide the products of the next.
    """

    registers: int
    stack: int
    shared: int
    width: int
    products: int
    hidden: int
    exponentials: int
    instructions: int


def why_not() -> str | None:
    """Return the reason why there is nothing to read; None if there is."""
    if find_spec("attributor._cuda") is None:
        return "attributor was built without the CUDA kernel"
    if shutil.which("nvcc") is None:
        return "there is no nvcc on PATH"
    if _tool() is None:
        return "there is no cuobjdump, neither on PATH nor in triton's package"
    return None


def module() -> Path:
    """Return the file of the extension."""
    spec = find_spec("attributor._cuda")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@cache
def cuobjdump(option: str, file: Path) -> str:
    """Return the output of cuobjdump for an extension or a cubin."""
    return subprocess.run([str(_tool()), option, file], capture_output=True, text=True, check=True).stdout


def nvcc_version() -> str:
    """Return the version of the compiler on PATH, such as 13.0.88."""
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bV(\d+\.\d+\.\d+)", said)
    assert found, said
    return found[1]


@cache
def kernels() -> dict[Variant, Function]:
    """Return the machine code of every variant of the kernel."""
    found = {}
    for function in functions(cuobjdump("-sass", module())):
        arguments = re.search(r"flow_step_kernelINS0_7VariantI(.*?)EEEv", function.name)
        if arguments:
            found[_variant(arguments[1] + "E")] = function
    return found


@cache
def resources() -> dict[Variant, Resources]:
    """Return the resources of every variant, in the order of head size, rows and options."""
    usage = dict(
        re.findall(r"Function (\w+):\s+(REG:\d+ STACK:\d+ SHARED:\d+ LOCAL:\d+)", cuobjdump("-res-usage", module()))
    )
    order = sorted(kernels(), key=lambda v: tuple(v[name] for name in ("GENERAL", "D", "ROWS", "HALF")))
    found = {}
    for variant, (shared, width) in zip(order, _constants(order), strict=True):
        function = kernels()[variant]
        numbers = {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", usage[function.name])}
        found[variant] = Resources(
            registers=numbers["REG"],
            stack=numbers["STACK"] + numbers["LOCAL"],
            shared=shared,
            width=width,
            products=function.count("HGMMA"),
            hidden=min((run.hidden for run in function.products if run.hidden), default=0),
            exponentials=function.count("MUFU.EX2"),
            instructions=len(function.code),
        )
    return found


def reports() -> str:
    """Return the output of ptxas during the build; empty unless it was an editable install of this checkout."""
    files = sorted(REPORTS.glob("CMakeFiles/flow_step_cuda.dir/**/*.o.txt"))
    return "".join(file.read_text("utf-8") for file in files)


def table() -> list[str]:
    """Return the lines of a Markdown table of calls without tuning; one line if both types use the same resources."""
    lines = ["| D | rows | key bias, softcap | registers | spilled | shared KB | products | exp2 | hidden | code |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    usual = next(variant.cut for variant in resources() if variant["GENERAL"])  # these exist in one schedule only
    for variant, found in resources().items():
        if variant.cut == usual:
            line = (
                f"| {variant['D']} | {variant.rows} | {'yes' if variant['GENERAL'] else 'no'} | {found.registers} "
                f"| {found.stack} | {found.shared / 1024:.0f} | {found.products} | {found.exponentials} "
                f"| {found.hidden} | {found.instructions} |"
            )
            if line not in lines:
                lines.append(line)
    return lines


@cache
def _kernel_source() -> str:
    return (SOURCES / "variant.cuh").read_text("utf-8")


def _variant(mangled: str) -> Variant:
    """Parse a variant from Li128ELNS0_4RowsE3ELb0E... and the template's parameters in variant.cuh."""
    parameters = re.search(r"template <([^>]*)>\s*struct Variant", _kernel_source())
    assert parameters
    names = re.findall(r"(\w+)_\b", parameters[1])
    values = [int(value) for value in re.findall(r"L(?:[ib]|NS\d*_\d+[A-Za-z]+E)(\d+)E", mangled)]
    return Variant(tuple(zip(names, values, strict=True)))


def _constants(variants: Iterable[Variant]) -> list[tuple[int, int]]:
    """Return SHARED_BYTES and WIDTH of each variant, from a program that prints them."""
    casts = {"ROWS": "static_cast<Rows>", "OVERLAP": "static_cast<Overlap>"}
    lists = [", ".join(f"{casts.get(name, '')}({value})" for name, value in v.arguments) for v in variants]
    lines = [f"show<Variant<{arguments}>>();" for arguments in lists]
    program = (
        '#include <cstdio>\n#include "kernel.cuh"\nusing namespace attributor::cuda;\n'
        'template <class V> void show() { std::printf("%d %d\\n", V::SHARED_BYTES, V::WIDTH); }\n'
        "int main() {\n" + "\n".join(lines) + "\n}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "show.cu").write_text(program, "utf-8")
        options = ["-std=c++17", "-arch=sm_90a", f"-I{SOURCES}", "-o", f"{folder}/show", f"{folder}/show.cu"]
        subprocess.run(["nvcc", *options], check=True)
        said = subprocess.run([f"{folder}/show"], capture_output=True, text=True, check=True).stdout
    return [(int(shared), int(width)) for shared, width in (line.split() for line in said.splitlines())]


def _tool() -> str | None:
    """Return cuobjdump from CUDA, otherwise the one shipped with triton."""
    triton = find_spec("triton")
    brought = Path(triton.origin).parent / "backends/nvidia/bin" if triton and triton.origin else None
    return shutil.which("cuobjdump") or (shutil.which("cuobjdump", path=brought) if brought else None)


def main() -> None:
    """Print the table."""
    print(f"By nvcc {nvcc_version()}:\n")
    print("\n".join(table()))


if __name__ == "__main__":
    main()
