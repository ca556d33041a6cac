"""The Triton kernel, compiled for GPUs that are not installed, fits, spills no registers and uses the tensor cores.

A subset of the output of `python tests/helpers/triton_resources.py`.
"""

import ast
import inspect
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton.language", reason="triton is not installed")

from triton_resources import Variant, compiled, resources, source, variants

from attributor.kernels.flow_step import triton_device
from attributor.kernels.flow_step.tiles import MAX_HEAD_SIZE, choose_tile

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET is set: there is nothing to compile", allow_module_level=True)

KB = 1024
# Shared memory limits of a program. 8.0 has 163, but 8.6 to 8.9 and 12.x use its tiles.
SHARED = {80: 99 * KB, 90: 227 * KB, 100: 227 * KB}
MATRIX = {80: {"HMMA"}, 90: {"HGMMA"}, 100: {"UTCHMMA", "HMMA"}}

EVERYTHING = {"key_bias": True, "softcap": True, "window": True}
CHECKED = [
    Variant(80, "bf16", 128, 1),
    Variant(80, "bf16", 128, 65, **EVERYTHING),
    Variant(80, "bf16", 256, 65),
    Variant(80, "fp32", 128, 16),
    Variant(90, "bf16", 128, 1),
    Variant(90, "bf16", 128, 16),
    Variant(90, "bf16", 128, 65),
    Variant(90, "fp16", 128, 65, **EVERYTHING),
    Variant(90, "bf16", 64, 65),
    Variant(90, "bf16", 256, 65, **EVERYTHING),
    Variant(90, "fp32", 128, 16),
    Variant(100, "bf16", 128, 65),
]


@pytest.mark.parametrize("variant", CHECKED, ids=str)
def test_a_variant_fits_and_uses_the_tensor_cores(variant):
    found = resources(variant)
    assert found.stack == 0
    assert found.spills == 0
    assert found.shared <= SHARED[variant.capability]
    assert found.tensor_core > 0
    assert MATRIX[variant.capability] & set(found.which.split(" + "))
    tile = variant.tile
    # No element is computed twice: each copy of the loop has one exponential per element, two for capped logits.
    # There is one copy with and one without a mask; for capability 10 the compiler peels the last iteration off each.
    copies = 4 if variant.capability == 100 else 2
    each = tile.queries * tile.keys // (32 * tile.warps)
    assert found.exponentials == copies * each * (2 if variant.softcap else 1)


def test_another_length_needs_no_compilation():
    """No size is a constant of the kernel; in a tuple, sizes of 1 and multiples of 16 would be."""
    numbers = {name for name, kind in source(CHECKED[0]).signature.items() if kind == "i32"}
    assert numbers == {"O", "N", "H", "T", "NK", "parts", "window"}
    assert numbers == {parameter.name for parameter in triton_device.step_kernel.params if parameter.do_not_specialize}


def test_the_checked_variants_are_rows_of_the_table():
    for capability in SHARED:
        assert {v for v in CHECKED if v.capability == capability} <= set(variants(capability))


def test_the_kernel_compiles_for_amd():
    """There is no inline PTX and no vendor library, so a compiler with the AMD backend accepts the same source."""
    pytest.importorskip("triton.backends.amd", reason="this triton has no backend for AMD")
    kernel = compiled(Variant(0, "bf16", 128, 65))
    assert "v_mfma" in kernel.asm["amdgcn"]
    assert kernel.metadata.shared <= 64 * KB


def test_the_device_code_uses_no_vendor_library():
    tree = ast.parse(inspect.getsource(triton_device))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"inline_asm_elementwise", "extra", "libdevice", "make_tensor_descriptor", "atomic_add"}
    assert not choose_tile(1, 128, 16, plain=True, capability=0).described
    assert not choose_tile(1, 128, 16, plain=True, capability=80).described


@pytest.mark.parametrize("capability", [0, 80, 86, 90, 100, 120])
@pytest.mark.parametrize("bits", [16, 32])
def test_every_call_has_a_tile(capability, bits):
    for O in (1, 2, 16, 17, 32, 33, 513):
        for D in (1, 16, 17, 64, 80, 128, 129, MAX_HEAD_SIZE):
            for plain in (True, False):
                tile = choose_tile(O, D, bits, plain=plain, capability=capability)
                assert (tile.rows == 1) == (O == 1)
                assert tile.rows >= O or not tile.held
                assert tile.columns >= 16
                assert tile.columns >= D or bits == 32
                assert tile.described == (capability in (90, 100))


def test_the_package_does_not_import_triton():
    """A call on the CPU does not import it either, which saves a second without a GPU."""
    code = """
import sys, torch, attributor
assert "triton" not in sys.modules
attributor.flow_step(torch.ones(1, 4), torch.ones(1, 4, 2), torch.ones(1, 4, 2), torch.zeros(1, 4), scale=1.0)
assert "attributor.kernels.flow_step.triton" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_missing_triton_is_reported():
    code = """
import sys
sys.modules["triton"] = None  # what an import of something that is not there does
import attributor, torch
from attributor._step.implementations import choose_impl, list_availability
found = {entry.name: entry for entry in list_availability()}["triton"]
assert not found.usable and "not installed" in found.reason and "pip install triton" in found.reason, found
assert choose_impl(None, torch.device("cuda"), torch.bfloat16) == "reference"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_missing_gpu_is_reported(monkeypatch):
    from attributor._step import implementations

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    implementations._probe_triton.cache_clear()
    try:
        found = {entry.name: entry for entry in implementations.list_availability()}["triton"]
        assert not found.usable
        assert "finds no GPU" in found.reason
    finally:
        implementations._probe_triton.cache_clear()
