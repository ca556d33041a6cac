"""The GPU kernel of removal_step agrees with the reference in float64 on the device, where kernels tend to fail.

The error budget is twice the error of the reference in float32 on the same arguments; errors are relative to the sizes
of the terms. `delta` is arbitrary here: the operation does not require delta = dO . o.
"""

import pytest
import torch
from gpu_cases import DEVICE, FLOOR, IMPL, REHEARSAL, at_most, lse_of, poison, why_not
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from removal_step_cases import make_stops

from attributor._step import removal_step
from attributor._step.implementations import choose_impl

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
DTYPES = pytest.mark.parametrize("dtype", [BF16, FP16, FP32], ids=str)


def case(N, Q=None, *, D=64, Dv=None, H=4, G=2, dtype=FP32, window=None, softcap=None, seed=0):
    """Return arguments on the device with sharp attention and its log-sum-exp."""
    Q, Dv = min(Q or N, N), Dv or D
    g = torch.Generator().manual_seed(seed)
    # the sharper half of the heads has logits of up to about 30
    query = (torch.randn(H, N, D, generator=g) * torch.linspace(1, 4, H)[:, None, None]).to(DEVICE, dtype)
    key, value = (torch.randn(G, N, size, generator=g).to(DEVICE, dtype) for size in (D, Dv))
    d_output = torch.randn(H, Q, Dv, generator=g).to(DEVICE, dtype)
    options = {"scale": D**-0.5, "window": window, "softcap": softcap}
    lse = lse_of(query, key.repeat_interleave(H // G, 0), **options, dtype=torch.float64)[:, N - Q :].float()
    delta = torch.randn(H, Q, generator=g).to(DEVICE)
    return (query[:, N - Q :], key, value, d_output, lse, delta, make_stops(N, g).to(DEVICE)), options


def term_sizes(args, options, block=512):
    """Return (N,) float64: for each key the sum of |P| |dO . v - delta|."""
    query, key, value, d_output, lse, delta, stops = args
    (H, Q, _), (G, N, _) = query.shape, key.shape
    sizes = torch.zeros(N, dtype=torch.float64, device=DEVICE)
    for low in range(0, Q, block):
        rows = slice(low, min(low + block, Q))
        position = torch.arange(N - Q, N, device=DEVICE)[rows, None]
        hidden = (position < stops) | (position - torch.arange(N, device=DEVICE) >= (options["window"] or N))
        for h in range(H):
            logit = options["scale"] * query[h, rows].double() @ key[h // (H // G)].double().T
            if options["softcap"] is not None:
                logit = options["softcap"] * torch.tanh(logit / options["softcap"])
            change = d_output[h, rows].double() @ value[h // (H // G)].double().T - delta[h, rows, None].double()
            sizes += ((logit - lse[h, rows, None].double()).exp() * change.abs()).masked_fill(hidden, 0.0).sum(0)
    return sizes


def measure(effects, exact, sizes):
    return float((effects - exact).abs().sum() / sizes.sum().clamp(min=1e-30))


def exact_of(args, options):
    doubled = (tensor.double() for tensor in args[:-1])
    return removal_step(*doubled, args[-1], **options, impl="reference")


def check(args, options):
    """Return the kernel's result after a check that its error is at most twice that of plain torch on this device."""
    exact, sizes = exact_of(args, options), term_sizes(args, options)
    budget = measure(removal_step(*args, **options, impl="reference"), exact, sizes)
    effects = removal_step(*args, **options, impl=IMPL)
    assert effects.dtype == torch.float64
    assert effects.device == args[0].device
    assert torch.isfinite(effects).all()
    assert measure(effects, exact, sizes) <= 2 * budget + FLOOR
    assert (effects - exact).abs().max() <= 1e-4 * sizes.max() + 1e-12
    return effects


@pytest.mark.skipif(bool(REHEARSAL), reason="the reference takes everything")
def test_the_kernel_is_the_default_on_a_gpu():
    assert choose_impl(None, DEVICE, BF16, 128, step="removal_step") == IMPL


@DTYPES
@pytest.mark.parametrize("N", [1, 63, 64, 65, 127, 128, 129, 1003])
def test_lengths(dtype, N):
    check(*case(at_most(N), dtype=dtype))


@pytest.mark.parametrize(("N", "dtype"), [(4096, FP32), (8191, FP16), (16_384, BF16)])
def test_long_inputs(N, dtype):
    check(*case(at_most(N), D=128, H=8, dtype=dtype))


@pytest.mark.parametrize("dtype", [BF16, FP32], ids=str)
@pytest.mark.parametrize("Q", [1, 60, 65, 300])
def test_the_last_rows_of_a_long_input(dtype, Q):
    check(*case(at_most(3001), at_most(Q, 30), D=128, dtype=dtype))


@pytest.mark.parametrize("dtype", [BF16, FP32], ids=str)
@pytest.mark.parametrize(
    ("D", "Dv"), [(16, 16), (36, 36), (40, 64), (64, 40), (80, 80), (128, 128), (192, 128), (256, 256), (64, 200)]
)
def test_head_sizes(dtype, D, Dv):
    check(*case(150, 140, D=D, Dv=Dv, dtype=dtype))


@pytest.mark.parametrize(("H", "G"), [(1, 1), (8, 1), (9, 3), (32, 8), (12, 12)])
def test_grouped_heads(H, G):
    check(*case(at_most(400), H=H, G=G, dtype=BF16))


@pytest.mark.parametrize("Q", [1003, 77])
@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 128, 200, 1002, 10_000])
def test_windows(Q, window):
    check(*case(at_most(1003), at_most(Q, 40), dtype=BF16, window=window))


@DTYPES
@pytest.mark.parametrize("options", [{"softcap": 5.0}, {"softcap": 50.0}, {"softcap": 20.0, "window": 170}])
def test_options(dtype, options):
    check(*case(at_most(500), D=128, H=6, dtype=dtype, **options))


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, 170), slice(40, 41), slice(-1, None)])
def test_rows_where_the_gradient_is_zero(rows):
    args, options = case(at_most(700), dtype=BF16)
    for tensor in (args[3], args[5]):
        chosen = tensor[:, rows].clone()
        tensor.zero_()
        tensor[:, rows] = chosen
    effects = check(args, options)
    assert bool(effects.any()) == bool(args[3].any())
    if rows == slice(40, 41):  # no keys after the row's own position
        assert not effects[41:].any()


def test_stops_of_documents_and_beyond_the_end():
    args, options = case(at_most(1500), dtype=BF16)
    N = args[-1].numel()
    stops = torch.full((N,), 2 * N, device=DEVICE)
    stops[: N // 3], stops[N // 3 : N // 2] = N // 3, N // 2
    effects = check((*args[:-1], stops), options)
    assert not effects[N // 2 :].any()
    assert effects[: N // 2].any()


@DTYPES
def test_inputs_may_be_non_contiguous(dtype):
    (query, key, value, d_output, lse, delta, stops), options = case(120, D=32, dtype=dtype)
    expected = removal_step(query, key, value, d_output, lse, delta, stops, **options, impl=IMPL)
    spread = torch.full((120, 4, 3, 32), float("nan"), dtype=dtype, device=DEVICE)
    spread[:, :, 1] = query.transpose(0, 1)  # the layout of a fused projection of q, k and v
    odd = torch.full((2, 120, 37), float("nan"), dtype=dtype, device=DEVICE)  # rows do not start at multiples of 16 B
    odd[..., 3:35] = value
    views = spread[:, :, 1].transpose(0, 1), key.mT.contiguous().mT, odd[..., 3:35], d_output.mT.contiguous().mT
    turned = (tensor.T.contiguous().T for tensor in (lse, delta))
    assert torch.equal(removal_step(*views, *turned, stops, **options, impl=IMPL), expected)


@pytest.mark.parametrize("value", [float("nan"), 1e30])
@pytest.mark.parametrize(("N", "Q"), [(1, 1), (1003, 1003), (2003, 70)])
def test_the_same_bits_every_time_for_any_memory_content(N, Q, value):
    args, options = case(at_most(N), at_most(Q, 30), dtype=BF16)
    expected = removal_step(*args, **options, impl=IMPL)
    for _ in range(5):
        poison(value)
        assert torch.equal(removal_step(*args, **options, impl=IMPL), expected)


@settings(
    max_examples=8 if REHEARSAL else 60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.data())
def test_any_shape(data):
    """Only sizes that need no new compilation; each other head size would take seconds."""
    N = data.draw(st.integers(1, at_most(1200, 80)))
    Q, G, heads = data.draw(st.integers(1, N)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    window, seed = data.draw(st.none() | st.integers(1, N + 2)), data.draw(st.integers(0, 99))
    check(*case(N, Q, H=G * heads, G=G, dtype=BF16, window=window, seed=seed))


def test_a_wrong_log_sum_exp_exceeds_the_budget():
    """A log-sum-exp that is off by a thousandth exceeds the budget."""
    args, options = case(at_most(1003), dtype=BF16)
    exact, sizes = exact_of(args, options), term_sizes(args, options)
    budget = measure(removal_step(*args, **options, impl="reference"), exact, sizes)
    wrong = (*args[:4], args[4] + 1e-3, *args[5:])
    assert measure(removal_step(*wrong, **options, impl=IMPL), exact, sizes) > 2 * budget + FLOOR
    mine = measure(removal_step(*args, **options, impl=IMPL), exact, sizes)
    print(f"    plain torch in float32 errs {budget:.1e}, the kernel {mine:.1e}")
