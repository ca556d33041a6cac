"""removal_step's Triton kernel, compiled for GPUs that are not installed, fits, spills no registers, uses tensor cores.

A subset of the output of `python tests/helpers/triton_removal_resources.py`.
"""

import os

import pytest
from removal_step_cases import case

pytest.importorskip("triton.language", reason="triton is not installed")

from triton_removal_resources import Variant, compiled, resources, source, variants

from attributor._errors import ImplementationError
from attributor._step import removal_step
from attributor.kernels.common.errors import UnsupportedCall
from attributor.kernels.removal_step import triton
from attributor.kernels.removal_step.tiles import MAX_HEAD_SIZE, choose_tile
from attributor.kernels.removal_step.triton_device import removal_kernel

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET is set: there is nothing to compile", allow_module_level=True)

KB = 1024
# Shared memory limits of a program. 8.0 has 163, but 8.6 to 8.9 and 12.x use its tiles.
SHARED = {80: 99 * KB, 90: 227 * KB, 100: 227 * KB}
MATRIX = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}

BOTH = {"window": True, "softcap": True}
CHECKED = [
    Variant(80, "bf16", 128, 128),
    Variant(80, "bf16", 80, 80, **BOTH),
    Variant(80, "bf16", 256, 256, **BOTH),
    Variant(80, "fp32", 128, 128, **BOTH),
    Variant(90, "bf16", 64, 64),
    Variant(90, "bf16", 128, 128),
    Variant(90, "bf16", 128, 128, softcap=True),
    Variant(90, "fp16", 128, 128, **BOTH),
    Variant(90, "bf16", 192, 128),
    Variant(90, "bf16", 256, 256, **BOTH),
    Variant(90, "fp32", 128, 128, **BOTH),
    Variant(100, "bf16", 128, 128, **BOTH),
]


@pytest.mark.parametrize("variant", CHECKED, ids=str)
def test_a_variant_fits_and_uses_the_tensor_cores(variant):
    taken = resources(variant)
    assert taken.stack == 0
    assert taken.spills == 0
    assert taken.shared <= SHARED[variant.capability]
    assert taken.tensor_core > 0
    assert MATRIX[variant.capability] in taken.which.split(" + ")
    tile = variant.tile
    # No element is computed twice: one exponential per element, two for capped logits. For capability 10 the compiler
    # peels the last iteration off the loop.
    copies = 2 if variant.capability == 100 else 1
    each = tile.queries * tile.keys // (32 * tile.warps)
    assert taken.exponentials == copies * each * (2 if variant.softcap else 1)


def test_another_length_needs_no_compilation():
    """No size is a constant of the kernel; in a tuple, sizes of 1 and multiples of 16 would be."""
    numbers = {name for name, kind in source(CHECKED[0]).signature.items() if kind == "i32"}
    assert numbers == {"Q", "N", "T", "heads", "parts", "window"}
    assert numbers == {parameter.name for parameter in removal_kernel.params if parameter.do_not_specialize}


def test_the_checked_variants_are_rows_of_the_table():
    for capability in SHARED:
        assert {v for v in CHECKED if v.capability == capability} <= set(variants(capability))


def test_the_kernel_compiles_for_amd():
    """There is no inline PTX and no vendor library, so a compiler with the AMD backend accepts the same source."""
    pytest.importorskip("triton.backends.amd", reason="this triton has no backend for AMD")
    kernel = compiled(Variant(0, "bf16", 128, 128))
    assert "v_mfma" in kernel.asm["amdgcn"]
    assert kernel.metadata.shared <= 64 * KB


@pytest.mark.parametrize("capability", [0, 80, 86, 90, 100, 120])
@pytest.mark.parametrize("bits", [16, 32])
def test_every_call_has_a_tile(capability, bits):
    for D in (1, 16, 17, 64, 80, 128, 129, MAX_HEAD_SIZE):
        for Dv in (1, 40, 128, MAX_HEAD_SIZE):
            for window in (True, False):
                tile = choose_tile(D, Dv, bits, window=window, capability=capability)
                assert tile.held == (bits == 16)
                assert min(tile.columns, tile.value_columns) >= 16
                assert (tile.columns >= D and tile.value_columns >= Dv) or bits == 32
                assert tile.queries % 16 == 0
                assert tile.described == (capability in (90, 100))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda args: [x.double() for x in args[:4]], r"got torch\.float64, D = 16 and Dv = 16"),
        (lambda args: [*args[:3], args[3].half()], r"of one dtype.* got torch\.float16, torch\.float32, D"),
        (lambda args: [x.repeat(1, 1, 17) for x in args[:4]], "up to 256 elements, got torch.float32, D = 272"),
    ],
)
def test_unsupported_calls_are_refused(change, message):
    args, options = case(5, D=16)
    with pytest.raises(UnsupportedCall, match=message):
        triton.removal_step(*change(args), *args[4:], **options)


def test_without_the_interpreter_tensors_on_the_cpu_are_refused():
    args, options = case(5, D=16)
    with pytest.raises(ImplementationError, match=r"no GPU|needs tensors on a GPU"):
        removal_step(*args, **options, impl="triton")
