"""The GPU kernels of flow_step agree with the reference in float64 on the device, at sizes where kernels tend to fail.

The error budget is also measured there: twice the error of plain torch for the same arguments on the same units.
"""

import pytest
import torch
from gpu_cases import (
    DEVICE,
    EVERY_KERNEL,
    IMPL,
    REHEARSAL,
    at_most,
    case,
    check,
    error,
    exact,
    lse_of,
    plain,
    refused,
    why_not,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attributor import flow_step
from attributor._step.implementations import choose_impl, list_availability

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

pytestmark = EVERY_KERNEL
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
DTYPES = pytest.mark.parametrize("dtype", [BF16, FP16, FP32], ids=str)


def test_both_kernels_are_usable_and_triton_is_the_default(impl):
    """Both are usable on a tested GPU; triton is the default."""
    found = {entry.name: entry for entry in list_availability()}
    assert found[impl].usable, found[impl].reason
    for entry in found.values():
        print(f"    {entry.name}: {entry.reason}")
    if not REHEARSAL:
        assert choose_impl(None, DEVICE, BF16, 128) == IMPL


@DTYPES
@pytest.mark.parametrize("N", [1, 63, 64, 65, 127, 128, 129, 1003])
def test_lengths(impl, dtype, N):
    check(*case(at_most(N), dtype=dtype), impl)


@DTYPES
@pytest.mark.parametrize("N", [4096, 8191])
def test_long_inputs(impl, dtype, N):
    check(*case(at_most(N), 128, 8, 2, 16, dtype=dtype), impl)


@pytest.mark.parametrize(
    ("D", "O", "dtype"), [(128, 128, BF16), (128, 1, FP16), (128, 512, BF16), (64, 16, BF16), (256, 128, BF16)]
)
def test_shapes_of_large_models(impl, D, O, dtype):
    """32k positions, compared in full."""
    check(*case(at_most(32_768), D, 8, 2, at_most(O, 20), dtype), impl)


@pytest.mark.parametrize("O", [1, 16, 40])
@pytest.mark.parametrize("N", [131_072])
def test_the_longest_inputs(impl, O, N):
    """Compared in full with float64: offsets exceed 2^31 bytes, and weights are as small as possible."""
    check(*case(at_most(N), 128, 2, 1, O, dtype=BF16), impl)


@pytest.mark.parametrize("dtype", [BF16, FP32], ids=str)
@pytest.mark.parametrize("D", [16, 36, 40, 64, 80, 96, 128, 192, 256])
def test_head_sizes(impl, dtype, D):
    check(*case(150, D, dtype=dtype), impl)
    check(*case(150, D, O=1, dtype=dtype), impl)


@pytest.mark.parametrize("O", [1, 2, 15, 16, 17, 32, 33, 128, 512, 513])
def test_numbers_of_rows(impl, O):
    check(*case(at_most(331), 64, O=O, dtype=BF16), impl)


@pytest.mark.parametrize("dtype", [BF16, FP32], ids=str)
@pytest.mark.parametrize("O", [1, 7])
@pytest.mark.parametrize(("H", "G"), [(1, 1), (8, 1), (9, 3), (5, 3), (32, 8), (32, 32)])
def test_grouped_heads(impl, dtype, O, H, G):
    check(*case(at_most(400), 64, H, G, O, dtype=dtype), impl)


KEY_HEADS = {
    "backwards": [3, 3, 2, 2, 1, 1, 0, 0],
    "mixed": [2, 0, 3, 0, 1, 2, 0, 3],
    "some": [2, 0, 2, 2, 0, 2, 2, 0],
    "one": [3, 3, 3, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("O", [1, 40])
@pytest.mark.parametrize("D", [64, 128])
@pytest.mark.parametrize("which", KEY_HEADS)
def test_key_heads_in_any_order(impl, O, D, which):
    """Heads may share key heads in any way; unused key heads are NaN here."""
    args, options = case(at_most(400), D, 8, 4, O, dtype=BF16)
    index = torch.tensor(KEY_HEADS[which], device=DEVICE)
    options["kv_index"] = index
    lse = lse_of(args[1], args[2][index], scale=options["scale"], dtype=torch.float64)
    args = (*args[:3], (-lse - torch.log(torch.tensor(8.0))).float(), None)
    check(args, options, impl)
    unused = [g for g in range(4) if g not in KEY_HEADS[which]]
    expected = flow_step(*args, **options, impl=impl)
    args[2][unused] = float("nan")
    assert torch.equal(flow_step(*args, **options, impl=impl), expected)


@pytest.mark.parametrize("O", [1, 7])
@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 128, 200, 1002, 10_000])
def test_windows(impl, O, window):
    check(*case(at_most(1003), 64, O=O, dtype=BF16, window=window), impl)


OPTIONS = {
    "softcap": {"softcap": 5.0},
    "softcap 50": {"softcap": 50.0},
    "power 3": {"power": 3.0},
    "power one half": {"power": 0.5},
    "key bias": {"key_bias": True},
    "all at once": {"softcap": 20.0, "power": 2.0, "key_bias": True, "window": 170},
}


@DTYPES
@pytest.mark.parametrize("O", [1, 6])
@pytest.mark.parametrize("which", OPTIONS)
def test_options(impl, dtype, O, which):
    check(*case(at_most(500), 64, 6, 2, O, dtype=dtype, **OPTIONS[which]), impl)


@pytest.mark.parametrize("O", [1, 6])
def test_a_bias_of_minus_infinity_excludes_its_pairs(impl, O):
    args, options = case(at_most(400), 64, O=O, dtype=BF16, key_bias=True)
    args[3][:, 70] = float("-inf")
    args[3][1, 100:140] = float("-inf")
    args[4][:, 0] = float("-inf")
    args[4][2, 30:50] = float("-inf")
    got = check(args, options, impl)
    assert not got[:, 0].any()
    args[3][:] = float("-inf")
    assert not flow_step(*args, **options, impl=impl).any()


@pytest.mark.parametrize("O", [1, 6, 40])
def test_zero_rows_give_exact_zeros(impl, O):
    args, options = case(at_most(700, 200), 64, O=O, dtype=BF16)
    args[0][:, :170] = 0
    args[0][O // 2] = 0
    got = check(args, options, impl)
    assert not got[O // 2].any()
    args[0][:] = 0
    args[0][:, 40] = 1  # no scores after the row's own position
    got = check(args, options, impl)
    assert not got[:, 41:].any()
    args[0][:] = 0
    assert not flow_step(*args, **options, impl=impl).any()


@DTYPES
@pytest.mark.parametrize("O", [1, 6])
def test_signed_rows(impl, dtype, O):
    (rows, *others), options = case(at_most(400), 64, O=O, dtype=dtype)
    args = (rows - 0.5, *others)
    if refused(args, options, impl):
        return
    true = exact(args, options)
    budget = (plain(args, options).double() - true).abs().max()
    got = flow_step(*args, **options, impl=impl)
    assert (got.double() - true).abs().max() <= 2 * budget + 1e-5 * true.abs().max()


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e20])
def test_rows_of_any_size(impl, size):
    """The kernel splits R into two float16 parts; without scaling, these rows would vanish or overflow."""
    (rows, *others), options = case(at_most(400), 64, O=6, dtype=BF16)
    rows[0, 0] = 1.0  # one large number, as from an attention sink
    args = (rows * size, *others)
    true, got = exact(args, options), flow_step(*args, **options, impl=impl)
    assert torch.isfinite(got).all()
    budget = error(plain((rows, *others), options), exact((rows, *others), options))
    assert error(got / size, true / size) <= 2 * budget + 1e-5


@settings(
    max_examples=8 if REHEARSAL else 60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.data())
def test_any_shape(impl, data):
    """Only sizes that need no new compilation; each other head size would take seconds."""
    N, O = data.draw(st.integers(1, at_most(1200, 80))), data.draw(st.integers(1, 60))
    G, H = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    window = data.draw(st.none() | st.integers(1, N + 2))
    power, seed = data.draw(st.floats(0.25, 4)), data.draw(st.integers(0, 99))
    check(*case(N, 64, H, G, O, BF16, window=window, power=power, seed=seed), impl)


def test_a_wrong_bias_exceeds_the_budget(impl):
    """A bias that is off by a thousandth exceeds the budget."""
    args, options = case(at_most(1003), 64, dtype=BF16)
    true = exact(args, options)
    budget = error(plain(args, options), true)
    wrong = (*args[:3], args[3] + 1e-3, args[4])
    assert error(flow_step(*wrong, **options, impl=impl), true) > 2 * budget + 1e-5
    mine = error(flow_step(*args, **options, impl=impl), true)
    print(f"    plain torch errs {budget:.1e} at 16 bits, the kernel {mine:.1e}")
    sums = lse_of(args[1], args[2].repeat_interleave(2, 0), scale=options["scale"], dtype=torch.float32)
    assert (sums.double() + args[3].double() + torch.log(torch.tensor(4.0))).abs().max() < 1e-3
