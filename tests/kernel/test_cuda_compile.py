"""The compiled CUDA kernel, without a GPU: it fits, spills no registers, and products overlap with exponentials."""

import os
import re
import subprocess
import sys

import pytest
from cuda_resources import (
    SOURCES,
    cuobjdump,
    kernels,
    module,
    nvcc_version,
    reports,
    resources,
    table,
    why_not,
)
from cuda_sass import Function, functions

WANTED = os.environ.get("ATTRIBUTOR_CUDA") == "ON"  # then a missing kernel fails the tests
if why_not():
    assert not WANTED, why_not()
    pytest.skip(str(why_not()), allow_module_level=True)

THREADS = 384
REGISTERS = 65_536  # per multiprocessor
SHARED = 232_448  # bytes per thread block
README = SOURCES / "README.md"
COMPLAINT = r"(?:C75\d\d|[Ww]arning|[Ee]rror|setmaxnreg|[Ss]erializ)"  # messages of ptxas


def faults(function, width, D, queries, emulated, turns):
    """Return the errors in the order of products, waits and exponentials."""
    found = []
    of_keys, of_rows = D // 16, 3 * queries // 16  # instructions for one S and for W R^T
    runs = function.products
    for run in runs:
        if run.count not in (of_keys, of_rows):
            found.append(f"{run.count} products at {run.first:#x} are waited for by themselves")
    hidden = [run.hidden for run in runs if run.count == of_keys]
    if turns:  # the exponentials of the other warpgroup hide them
        found += [] if function.count("BAR.ARV") and function.count("BAR.SYNC") else ["the warpgroups take no turns"]
        return found
    # On the path with the fewest; one path checks which pairs are hidden, one does not.
    enough = width // 2 * (8 - emulated) // 8
    if hidden.count(0) != 1:
        found.append(
            f"{hidden.count(0)} waits have nothing before them; the first head of a tile is to be the only one"
        )
    if len(hidden) != 3:
        found.append(f"{len(hidden)} runs of products of Q and K, not 3: the first, and two halves")
    found += [f"a wait comes after {number} exponentials" for number in hidden if 0 < number < enough]
    return found


def faults_of(variant, function, width=64):
    turns = variant["OVERLAP"] == 1
    return faults(function, width, variant["D"], variant["QUERIES"], variant["EMULATED"], turns)


def test_every_call_has_a_variant():
    variants = [v for v in resources() if v.cut == next(u.cut for u in resources() if u["GENERAL"])]
    for D in (64, 128, 256):
        for half in (0, 1):
            for general in (0, 1):
                rows = {v.rows for v in variants if (v["D"], v["HALF"], v["GENERAL"]) == (D, half, general)}
                assert {"one", "to 16", "more"} < rows
                assert len(rows) == 4
    assert len(variants) == 48


def test_no_registers_are_spilled():
    for variant, found in resources().items():
        assert found.stack == 0, variant
        assert not kernels()[variant].count("STL"), variant
        assert not kernels()[variant].count("LDL"), variant


def test_ptxas_reports_no_warnings():
    """C7510 and related messages report serialised products; others report an ignored setmaxnreg."""
    said = reports()
    if not said and not WANTED:
        pytest.skip("the extension was not built here: no report of ptxas in build/editable")
    compiled = set(re.findall(r"Compiling entry function '(\w+)'", said))
    assert {function.name for function in kernels().values()} <= compiled
    assert not re.findall(f".*{COMPLAINT}.*", said)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert len(frames) >= len(compiled)
    assert set(frames) == {("0", "0", "0")}


def test_registers_are_distributed_as_setmaxnreg_requests():
    for variant, function in kernels().items():
        assert resources()[variant].registers == 168, variant
        changes = {}
        for i, instruction in enumerate(function.code):
            if instruction.kind == "USETMAXREG":
                count = int(instruction.operands.split()[-1], 16)
                kind = instruction.name.split(".")[1]
                assert kind not in changes, f"{variant}: {instruction.name} twice"
                changes[kind] = count
                assert max(later.highest for later in function.reached(i)) < count, variant
        feeding, computing = changes.get("DEALLOC"), changes.get("TRY_ALLOC", changes.get("ALLOC"))
        assert (feeding, computing) == (24, 240), variant
        # registers come from the thread block's own, and a warpgroup without enough of them waits forever
        assert (feeding + 2 * computing) * 128 <= resources()[variant].registers * THREADS <= REGISTERS, variant


def test_barriers_are_not_device_wide_fences():
    """Only the two waits of the whole cluster order memory beyond the thread block."""
    for variant, function in kernels().items():
        assert function.count("MEMBAR") <= 4, variant
        assert function.count("CCTL") <= 2, variant


def test_shared_memory_is_within_limits():
    for variant, found in resources().items():
        assert 0 < found.shared <= SHARED, variant


def test_products_run_behind_exponentials():
    for variant, function in kernels().items():
        assert not faults_of(variant, function, resources()[variant].width), variant


def test_tiles_of_queries_are_multicast_to_the_cluster():
    for variant, function in kernels().items():
        all_copies, to_all = function.count("UTMALDG"), function.count("UTMALDG.3D.MULTICAST")
        assert (to_all > 0) == (variant["CLUSTER"] > 1), variant
        assert all_copies > to_all, variant  # each thread block copies its own keys
        assert function.count("UBLKCP"), variant  # and the biases


def test_the_extension_is_imported_without_a_driver():
    """In a new process, with or without torch; the extension links no CUDA library and exports no CUDA symbol."""
    code = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("attributor._cuda", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.kernels(), module.versions()[1])
options = {"key_bias": False, "window": 100, "device": 0, "tuning": module.Tuning()}
for sizes, changed, raised in (
    ((5, 100, 4, 2, 300), {}, ValueError),
    ((5, 100, 4, 2, 64), {"tuning": module.Tuning(cluster=3)}, ValueError),
    ((5, 100, 4, 2, 64), {"device": 10_000}, module.Error),
):
    try:
        module.scratch_bytes(sizes=sizes, **options | changed)
    except raised as error:
        print(error)
    else:
        raise AssertionError(sizes)
try:
    module.Tuning(colour=1)
except AttributeError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-I", "-c", code, module()], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert "D 64" in ran.stdout
    needed = readelf("-d")
    libraries = re.findall(r"\(NEEDED\).*\[(.*)\]", needed)
    assert "libc.so.6" in libraries
    assert not [name for name in libraries if re.match(r"lib(cuda|cudart|nv|torch|c10)", name)]
    symbols = [line.split()[-1].split("@")[0] for line in readelf("--dyn-syms").splitlines() if " GLOBAL " in line]
    assert "PyInit__cuda" in symbols
    assert not [name for name in symbols if re.match(r"_*cu(da)?[A-Z]", name)]


def readelf(option):
    return subprocess.run(["readelf", "-W", option, module()], capture_output=True, text=True, check=True).stdout


def test_the_readme_has_the_table():
    text = README.read_text("utf-8")
    made_by = re.search(r"By nvcc (\d+\.\d+\.\d+):\n\n((?:\|.*\n)+)", text)
    assert made_by, "python tests/helpers/cuda_resources.py prints the table"
    if made_by[1] != nvcc_version():
        pytest.skip(f"the table is of nvcc {made_by[1]}, this is {nvcc_version()}")
    assert made_by[2].splitlines() == table()


COMMIT = 'asm volatile("wgmma.commit_group.sync.aligned;"'
WAIT = 'asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");'
WORSE = {
    "waits where products are issued": (
        COMMIT,
        COMMIT.replace(';"', ';\\nwgmma.wait_group.sync.aligned 0;"'),
        "waits have nothing before them",
        False,
    ),
    "leaves the waiting to the compiler": (WAIT, "", "1 products at .* are waited for by themselves", True),
}


@pytest.mark.parametrize("what", WORSE)
def test_a_worse_kernel_is_detected(tmp_path, what):
    old, new, fault, complaint = WORSE[what]
    folder = tmp_path / "cuda"
    folder.mkdir()
    for source in SOURCES.glob("*.*h"):
        (folder / source.name).write_text(source.read_text("utf-8"), "utf-8")
    (tmp_path / "step.h").write_text((SOURCES.parent / "step.h").read_text("utf-8"), "utf-8")
    ptx = (folder / "ptx.cuh").read_text("utf-8")
    assert ptx.count(old) == 1
    (folder / "ptx.cuh").write_text(ptx.replace(old, new), "utf-8")
    (folder / "worse.cu").write_text(
        '#include "launch.h"\nnamespace attributor::cuda {\n'
        "template __global__ void flow_step_kernel<Variant<128, Rows::one, false, false>>(\n"
        "    const __grid_constant__ Arguments);\n}\n",
        "utf-8",
    )
    options = ["-std=c++17", "-arch=sm_90a", "-O3", "-Xptxas=-v", "-cubin", "-o", "worse.cubin", "worse.cu"]
    ran = subprocess.run(["nvcc", *options], cwd=folder, check=True, capture_output=True, text=True)
    assert bool(re.search(COMPLAINT, ran.stdout + ran.stderr)) == complaint
    (function,) = functions(cuobjdump("-sass", folder / "worse.cubin"))
    assert any(re.search(fault, found) for found in faults(function, 64, 128, 128, 0, False))


def made_up(lines):
    """Return a function of these instructions, 16 bytes apart; `@P0` and branch addresses as printed by cuobjdump."""
    text = "\n".join(f"        /*{16 * i:04x}*/                   {line} ;" for i, line in enumerate(lines))
    (function,) = functions(f"\t\tFunction : made_up\n{text}\n")
    assert isinstance(function, Function)
    return function


FIRST = ["WARPGROUP.ARRIVE", *["HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], R24"] * 4, "WARPGROUP.DEPBAR.LE gsb0, 0x0"]
HALF = [*FIRST[:-1], *["MUFU.EX2 R3, R3"] * 32, FIRST[-1]]
GOOD = [*FIRST, *HALF, *HALF, "EXIT"]


def test_the_machine_code_reader_finds_faults():
    def wrong(lines):
        return faults(made_up(lines), 64, 64, 128, 0, False)

    assert not wrong(GOOD)
    assert "waits have nothing" in wrong([*FIRST, *HALF, *FIRST, "EXIT"])[0]
    assert "after 31" in wrong([*FIRST, *HALF, *HALF[:5], *HALF[6:], "EXIT"])[0]
    # a path around the exponentials
    around = [*FIRST, *HALF[:5], f"@P0 BRA 0x{16 * (len(FIRST) + 5 + 1 + 32):x}", *HALF[5:], *HALF, "EXIT"]
    assert "waits have nothing" in wrong(around)[0]
    # serialised: the compiler waits for each product
    each = ["WARPGROUP.ARRIVE", "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], R24", "WARPGROUP.DEPBAR.LE gsb0, 0x0"]
    assert "1 products" in wrong([*FIRST, *each * 4, *HALF, "EXIT"])[0]
    with pytest.raises(AssertionError, match="nothing waits"):
        wrong([*FIRST[:-1], "EXIT"])


def test_the_machine_code_reader_follows_branches():
    function = made_up(
        ["BRA 0x30", "MOV R90, R1", "EXIT", "@!P1 BRA 0x10", "HGMMA.64x64x16.F32.BF16 R24, R4, gdesc[UR8], R24", "EXIT"]
    )
    assert [i.address for i in function.reached(0)] == [0x10, 0x20, 0x30, 0x40, 0x50]
    assert max(i.highest for i in function.reached(3)) == 90
    assert function.code[4].highest == 55
    assert [i.address for i in made_up(["EXIT", "MOV R9, R1"]).reached(0)] == []
