"""flow_step on a GPU: the kernel against the reference in float64 on the device, where kernels break.

The budget of an error is measured there too: twice what plain torch makes of the same arguments by the same units.
"""

import pytest
import torch
from gpu_cases import DEVICE, IMPL, REHEARSAL, at_most, case, check, error, exact, lse_of, plain, why_not
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attributor import flow_step
from attributor._backend import availability, choose

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
DTYPES = pytest.mark.parametrize("dtype", [BF16, FP16, FP32], ids=str)


def test_the_kernel_is_what_a_gpu_gets():
    found = {entry.name: entry for entry in availability()}
    assert found[IMPL].usable, found[IMPL].reason
    print(f"    {IMPL}: {found[IMPL].reason}")
    if not REHEARSAL:
        assert choose(None, DEVICE, BF16, 128) == IMPL


@DTYPES
@pytest.mark.parametrize("N", [1, 63, 64, 65, 127, 128, 129, 1003])
def test_lengths(dtype, N):
    check(*case(at_most(N), dtype=dtype))


@DTYPES
@pytest.mark.parametrize("N", [4096, 8191])
def test_long_inputs(dtype, N):
    check(*case(at_most(N), 128, 8, 2, 16, dtype=dtype))


@pytest.mark.parametrize("O", [1, 16, 40])
@pytest.mark.parametrize("N", [131_072])
def test_the_longest_inputs(O, N):
    """All of the answer against float64: offsets pass 2^31 bytes, and weights are as small as they get."""
    check(*case(at_most(N), 128, 2, 1, O, dtype=BF16))


@pytest.mark.parametrize("dtype", [BF16, FP32], ids=str)
@pytest.mark.parametrize("D", [16, 36, 40, 64, 80, 96, 128, 192, 256])
def test_head_sizes(dtype, D):
    check(*case(150, D, dtype=dtype))
    check(*case(150, D, O=1, dtype=dtype))


@pytest.mark.parametrize("O", [1, 2, 15, 16, 17, 32, 33, 128, 512, 513])
def test_numbers_of_rows(O):
    check(*case(at_most(331), 64, O=O, dtype=BF16))


@pytest.mark.parametrize("dtype", [BF16, FP32], ids=str)
@pytest.mark.parametrize("O", [1, 7])
@pytest.mark.parametrize(("H", "G"), [(1, 1), (8, 1), (9, 3), (5, 3), (32, 8), (32, 32)])
def test_grouped_heads(dtype, O, H, G):
    check(*case(at_most(400), 64, H, G, O, dtype=dtype))


@pytest.mark.parametrize("O", [1, 7])
@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 128, 200, 1002, 10_000])
def test_windows(O, window):
    check(*case(at_most(1003), 64, O=O, dtype=BF16, window=window))


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
def test_options(dtype, O, which):
    check(*case(at_most(500), 64, 6, 2, O, dtype=dtype, **OPTIONS[which]))


@pytest.mark.parametrize("O", [1, 6])
def test_a_bias_of_minus_infinity_leaves_out(O):
    args, options = case(at_most(400), 64, O=O, dtype=BF16, key_bias=True)
    args[3][:, 70] = float("-inf")
    args[3][1, 100:140] = float("-inf")
    args[4][:, 0] = float("-inf")
    args[4][2, 30:50] = float("-inf")
    got = check(args, options)
    assert not got[:, 0].any()
    args[3][:] = float("-inf")
    assert not flow_step(*args, **options, impl=IMPL).any()


@pytest.mark.parametrize("O", [1, 6, 40])
def test_rows_that_are_zero_are_exact_zeros(O):
    args, options = case(at_most(700, 200), 64, O=O, dtype=BF16)
    args[0][:, :170] = 0
    args[0][O // 2] = 0
    got = check(args, options)
    assert not got[O // 2].any()
    args[0][:] = 0
    args[0][:, 40] = 1  # nothing beyond the row's own position
    got = check(args, options)
    assert not got[:, 41:].any()
    args[0][:] = 0
    assert not flow_step(*args, **options, impl=IMPL).any()


@DTYPES
@pytest.mark.parametrize("O", [1, 6])
def test_signed_rows(dtype, O):
    (rows, *others), options = case(at_most(400), 64, O=O, dtype=dtype)
    args = (rows - 0.5, *others)
    true = exact(args, options)
    budget = (plain(args, options).double() - true).abs().max()
    got = flow_step(*args, **options, impl=IMPL)
    assert (got.double() - true).abs().max() <= 2 * budget + 1e-5 * true.abs().max()


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e20])
def test_rows_of_any_size(size):
    """R goes through float16 in two parts: they must be scaled, or these would vanish or overflow."""
    (rows, *others), options = case(at_most(400), 64, O=6, dtype=BF16)
    rows[0, 0] = 1.0  # one large number among them, as an attention sink leaves it
    args = (rows * size, *others)
    true, got = exact(args, options), flow_step(*args, **options, impl=IMPL)
    assert torch.isfinite(got).all()
    budget = error(plain((rows, *others), options), exact((rows, *others), options))
    assert error(got / size, true / size) <= 2 * budget + 1e-5


@DTYPES
def test_inputs_that_are_not_contiguous(dtype):
    (rows, query, key, row_bias, _), options = case(120, 32, 4, 2, dtype=dtype)
    expected = flow_step(rows, query, key, row_bias, **options, impl=IMPL)
    spread = torch.full((120, 4, 3, 32), float("nan"), dtype=dtype, device=DEVICE)
    spread[:, :, 1] = query.transpose(0, 1)  # as a fused projection of q, k and v leaves it
    odd = torch.full((4, 120, 37), float("nan"), dtype=dtype, device=DEVICE)  # rows that start at no multiple of 16 B
    odd[..., 3:35] = query
    wide = torch.full((5, 400), float("nan"), device=DEVICE)
    wide[:, 30:150] = rows
    transposed = key.mT.contiguous().mT  # the last dimension is not contiguous
    for view in (spread[:, :, 1].transpose(0, 1), odd[..., 3:35]):
        bias = row_bias.T.contiguous().T
        assert torch.equal(flow_step(wide[:, 30:150], view, transposed, bias, **options, impl=IMPL), expected)
    one = query[:1].expand(4, 120, 32)  # a stride of 0 between heads
    args = (rows, one, key, row_bias, None)
    assert torch.equal(
        flow_step(*args, **options, impl=IMPL), flow_step(rows, one.contiguous(), *args[2:], **options, impl=IMPL)
    )


@DTYPES
@pytest.mark.parametrize(("O", "options"), [(1, {}), (16, {}), (40, {}), (7, {"window": 70, "key_bias": True})])
def test_the_same_bits_every_time(dtype, O, options):
    args, rest = case(at_most(2003), 64, 6, 2, O, dtype=dtype, **options)
    first = flow_step(*args, **rest, impl=IMPL)
    for _ in range(9):
        assert torch.equal(flow_step(*args, **rest, impl=IMPL), first)


@pytest.mark.filterwarnings("ignore")  # of operations without a deterministic form, which are not what is tested
@pytest.mark.parametrize(("N", "O"), [(1, 1), (65, 1), (65, 5), (1003, 1), (1003, 16), (1003, 40), (1003, 513)])
def test_every_element_of_the_answer_is_written(N, O):
    """Memory that nobody wrote to holds NaN here: torch fills it in this mode."""
    args, options = case(at_most(N), 64, O=at_most(O, 60), dtype=BF16)
    expected = flow_step(*args, **options, impl=IMPL)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(1000, device=DEVICE).isnan().all()
        got = flow_step(*args, **options, impl=IMPL)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(got, expected)


def test_what_is_behind_the_inputs_is_not_read():
    """Every argument lies between NaN: a read beyond its end shows."""
    (rows, query, key, row_bias, key_bias), options = case(131, 64, 3, 3, 5, dtype=BF16, key_bias=True)

    def inside(tensor):
        room = torch.full((tensor.shape[0] + 2, tensor.shape[1] + 64, *tensor.shape[2:]), float("nan")).to(tensor)
        room[1:-1, : tensor.shape[1]] = tensor
        return room[1:-1, : tensor.shape[1]]

    expected = flow_step(rows, query, key, row_bias, key_bias, **options, impl=IMPL)
    surrounded = [inside(tensor) for tensor in (rows, query, key, row_bias, key_bias)]
    assert torch.equal(flow_step(*surrounded, **options, impl=IMPL), expected)


@settings(
    max_examples=8 if REHEARSAL else 60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.data())
def test_any_shape(data):
    """Sizes that need no compiling anew: another head size would take seconds each."""
    N, O = data.draw(st.integers(1, at_most(1200, 80))), data.draw(st.integers(1, 60))
    G, H = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    window = data.draw(st.none() | st.integers(1, N + 2))
    power, seed = data.draw(st.floats(0.25, 4)), data.draw(st.integers(0, 99))
    check(*case(N, 64, H, G, O, BF16, window=window, power=power, seed=seed))


def test_other_streams_and_devices_are_respected():
    """Work on a side stream must not overtake what made its inputs, nor what reads its answer."""
    args, options = case(at_most(2003), 64, O=5, dtype=BF16)
    expected = flow_step(*args, **options, impl=IMPL)
    if DEVICE.type == "cuda":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)
            late = args[0] * 1.0
            got = flow_step(late, *args[1:], **options, impl=IMPL)
        torch.cuda.current_stream().wait_stream(stream)
        assert torch.equal(got, expected)
        for index in range(1, torch.cuda.device_count()):
            there = [None if x is None else x.to(f"cuda:{index}") for x in args]
            assert torch.equal(flow_step(*there, **options, impl=IMPL).to(DEVICE), expected)


def test_the_tests_tell_right_from_wrong():
    """A bias that is off by a thousandth is found: the budget is not loose."""
    args, options = case(at_most(1003), 64, dtype=BF16)
    true = exact(args, options)
    budget = error(plain(args, options), true)
    wrong = (*args[:3], args[3] + 1e-3, args[4])
    assert error(flow_step(*wrong, **options, impl=IMPL), true) > 2 * budget + 1e-5
    mine = error(flow_step(*args, **options, impl=IMPL), true)
    print(f"    plain torch errs {budget:.1e} at 16 bits, the kernel {mine:.1e}")
    sums = lse_of(args[1], args[2].repeat_interleave(2, 0), scale=options["scale"], dtype=torch.float32)
    assert (sums.double() + args[3].double() + torch.log(torch.tensor(4.0))).abs().max() < 1e-3
