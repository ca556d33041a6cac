"""flow_step: every usable implementation and instruction set agrees with the definition in float64.

The error budget is twice the measured error of the reference in float32 against the definition in float64. A floor is
added for exponents whose bias is rounded once more, in base 2.
"""

import ast
import signal
import threading
import time
from pathlib import Path

import numpy
import pytest
import torch
from flow_step_cases import FLOOR, TENSOR_CORE_FLOOR, case, error, truth
from hypothesis import given, settings
from hypothesis import strategies as st

import attributor
from attributor import ImplementationError, InputError
from attributor._step.implementations import list_availability
from attributor.kernels.flow_step import reference

try:
    from attributor import _core
except ImportError:  # an install without the extension
    ISAS: list[str] = []
else:
    ISAS = _core.isas()

ALL_ISAS = ["amx", "avx512_bf16", "avx512", "avx2", "scalar"]
ENTRIES = {entry.name: entry for entry in list_availability()}
ON_GPU = [name for name in ("cuda", "triton") if ENTRIES[name].usable and torch.cuda.is_available()]
USABLE = [name for name, entry in ENTRIES.items() if entry.usable and name not in ON_GPU]


def flow_step(*args, impl=None, **options):
    """Call the public function; implementations that need a GPU run there."""
    if impl not in ON_GPU:
        return attributor.flow_step(*args, impl=impl, **options)
    args = [x.cuda() if isinstance(x, torch.Tensor) else x for x in args]
    options = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in options.items()}
    return attributor.flow_step(*args, impl=impl, **options).cpu()


def missing(isa):
    return pytest.mark.skipif(isa not in ISAS, reason=f"this machine or install has no {isa} kernels")


NATIVE = [pytest.param(f"cpu-{isa}", marks=missing(isa)) for isa in ALL_ISAS]
GPU = [
    pytest.param(name, marks=pytest.mark.skipif(name not in ON_GPU, reason=f"{name}: {ENTRIES[name].reason}"))
    for name in ("triton", "cuda")
]
EVERY = [*(name for name in ENTRIES if name not in ("cpu", "triton", "cuda")), *NATIVE, *GPU]


@pytest.fixture
def force(monkeypatch):
    """Turn a name such as cpu-avx2 into keyword arguments that select it."""

    def choose(name):
        impl, _, isa = name.partition("-")
        if isa:
            monkeypatch.setenv("ATTRIBUTOR_ISA", isa)
        return {"impl": impl}

    return choose


def usual(name):
    """Return float32 if the implementation supports it."""
    return torch.bfloat16 if name == "cuda" else torch.float32


def check(args, options, choice, floor=FLOOR):
    """Return the result of one implementation after a check of its error; None if it refuses float32."""
    if choice["impl"] == "cuda" and args[1].dtype == torch.float32:
        with pytest.raises(ImplementationError, match=r"takes bfloat16 or float16 .* float32; use impl='triton'"):
            flow_step(*args, **options, **choice)
        return None
    exact = truth(args, options)
    budget = error(flow_step(*args, **options, impl="reference"), exact)
    got = flow_step(*args, **options, **choice)
    assert got.dtype == torch.float32
    assert torch.isfinite(got).all()
    assert error(got, exact) <= 2 * budget + (TENSOR_CORE_FLOOR if choice["impl"] in ("cuda", "triton") else floor)
    # also for small values: the largest value of a row bounds the error of each element
    assert ((got.double() - exact).abs() <= 1e-4 * exact.abs().amax(1, keepdim=True) + 1e-12).all()
    return got


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("N", [1, 2, 63, 64, 65, 257, 1003])
def test_lengths(name, dtype, N, force):
    check(*case(N, dtype=dtype), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("D", [1, 8, 16, 36, 40, 60, 80, 96, 128, 192, 256, 300])
def test_head_sizes(name, dtype, D, force):
    if name in ("cuda", "triton") and D > 256:
        with pytest.raises(ImplementationError, match="up to 256 elements, got 300"):
            check(*case(10, D, dtype=dtype), force(name))
        return
    check(*case(150, D, dtype=dtype), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("O", [1, 2, 16, 17, 128, 513, 2000])
def test_numbers_of_rows(name, O, force):
    check(*case(131, 32, O=O, dtype=usual(name)), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("H", "G"), [(1, 1), (9, 3), (8, 1), (3, 3), (5, 3), (32, 8)])
def test_grouped_heads(name, dtype, H, G, force):
    check(*case(130, 32, H, G, dtype=dtype), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [1, 2, 17, 63, 64, 65, 200, 399, 400, 10_000])
def test_windows(name, dtype, window, force):
    check(*case(400, 32, dtype=dtype, window=window), force(name))


OPTIONS = {
    "softcap": {"softcap": 5.0},
    "power 3": {"power": 3.0},
    "power one half": {"power": 0.5},
    "key bias": {"key_bias": True},
    "all at once": {"softcap": 20.0, "power": 2.0, "key_bias": True, "window": 70},
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("which", OPTIONS)
def test_options(name, dtype, which, force):
    args, options = case(300, 40, 6, 2, dtype=dtype, **OPTIONS[which])
    got = check(args, options, force(name))
    if got is not None and which != "all at once":  # the option changes the result
        plain = {"softcap": None, "power": 1.0}
        without = flow_step(*args[:4], None, **options | plain, impl="reference")
        assert error(got, without.double()) > 1e-2


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_bias_of_minus_infinity_excludes_its_pairs(name, dtype, force):
    args, options = case(200, 32, dtype=dtype, key_bias=True)
    args[3][:, 70] = float("-inf")  # a query
    args[3][1, 100:140] = float("-inf")  # some of one head
    args[4][:, 0] = float("-inf")  # the key of the sink
    args[4][2, 30:50] = float("-inf")
    got = check(args, options, force(name))
    if got is None:
        return
    assert not got[:, 0].any()
    args[3][:] = float("-inf")
    assert not flow_step(*args, **options, **force(name)).any()


@pytest.mark.parametrize("name", EVERY)
def test_zero_rows_give_exact_zeros(name, force):
    args, options = case(300, 32, dtype=usual(name))
    args[0][:, :170] = 0
    args[0][2] = 0
    got = check(args, options, force(name))
    assert not got[2].any()
    args[0][:] = 0
    args[0][:, 40] = 1  # no scores after the row's own position
    got = check(args, options, force(name))
    assert not got[:, 41:].any()


@pytest.mark.parametrize("name", EVERY)
def test_signed_rows(name, force):
    args, options = case(200, 32, dtype=usual(name))
    signed = (args[0] - 0.5, *args[1:])
    exact = truth(signed, options)
    got = flow_step(*signed, **options, **force(name))
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_inputs_may_be_non_contiguous(name, force):
    (rows, query, key, row_bias, _), options = case(120, 32, 4, 2, dtype=usual(name))
    expected = flow_step(rows, query, key, row_bias, **options, **force(name))
    spread = torch.full((120, 4, 3, 32), float("nan"), dtype=query.dtype)
    spread[:, :, 1] = query.transpose(0, 1)  # the layout of a fused projection of q, k and v
    transposed = key.mT.contiguous().mT  # the last dimension is not contiguous
    wide = torch.full((5, 400), float("nan"))
    wide[:, 30:150] = rows
    got = flow_step(
        wide[:, 30:150],
        spread[:, :, 1].transpose(0, 1),
        transposed,
        row_bias.T.contiguous().T,
        **options,
        **force(name),
    )
    assert torch.equal(got, expected)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("O", [1, 40])
def test_the_same_bits_for_any_number_of_threads(name, dtype, O, force):
    args, options = case(1003, 64, 6, 2, O=O, dtype=dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(flow_step(*args, **options, **force(name)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.skipif(not ISAS, reason="a pure install")
def test_the_forced_instruction_set_runs(monkeypatch):
    """They round differently, so their bits differ."""
    args, options = case(300, 128, dtype=torch.bfloat16)
    results = {}
    for isa in ISAS:
        monkeypatch.setenv("ATTRIBUTOR_ISA", isa)
        results[isa] = flow_step(*args, **options, impl="cpu")
    assert set(ISAS) <= set(ALL_ISAS)
    assert "scalar" in ISAS
    for isa, result in results.items():
        if isa != "scalar":
            assert not torch.equal(result, results["scalar"])
    monkeypatch.delenv("ATTRIBUTOR_ISA")
    assert torch.equal(flow_step(*args, **options), results[_core.isa()])


@pytest.mark.skipif(not ISAS, reason="a pure install")
def test_an_unsupported_instruction_set_is_refused(monkeypatch):
    args, options = case(10)
    monkeypatch.setenv("ATTRIBUTOR_ISA", "sse9")
    with pytest.raises(ImplementationError, match=r"sse9.*scalar"):
        flow_step(*args, **options, impl="cpu")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data):
    N, D = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 130))
    G = data.draw(st.integers(1, 3))
    H, O = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 40))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    window = data.draw(st.none() | st.integers(1, N + 2))
    softcap = data.draw(st.none() | st.floats(2, 50))
    power = data.draw(st.floats(0.25, 4))
    key_bias, seed = data.draw(st.booleans()), data.draw(st.integers(0, 99))
    args, options = case(
        N, D, H, G, O, dtype, window=window, softcap=softcap, power=power, key_bias=key_bias, seed=seed
    )
    # logit and bias are rounded to float32 before they cancel; this averages out over many weights, not over two
    floor = FLOOR + float(args[3].abs().max()) * 2**-23
    for impl in USABLE:
        check(args, options, {"impl": impl}, floor)


def test_float64_goes_to_the_reference():
    args, options = case(30)
    double = tuple(None if x is None else x.double() for x in args)
    assert flow_step(*double, **options).dtype == torch.float64
    if "cpu" in USABLE:
        with pytest.raises(ImplementationError, match="float64"):
            flow_step(*double, **options, impl="cpu")


@pytest.mark.skipif(not ISAS, reason="a pure install")
def test_the_call_releases_the_interpreter():
    args, options = case(3000, 64, 8, 8)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.perf_counter()
    for _ in range(3):
        flow_step(*args, **options, impl="cpu")
    ended = time.perf_counter()
    stop.set()
    thread.join()
    assert sum(began < t < ended for t in ticks) >= 3


@pytest.mark.skipif(not ISAS, reason="a pure install")
def test_ctrl_c_ends_a_long_call(monkeypatch):
    monkeypatch.setenv("ATTRIBUTOR_ISA", "scalar")  # would take minutes without the interrupt
    O, N, H, D = 1, 20_000, 8, 128
    args = (torch.ones(O, N), torch.randn(H, N, D), torch.randn(H, N, D), torch.full((H, N), -20.0))
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    began = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        flow_step(*args, scale=0.01, impl="cpu")
    assert time.perf_counter() - began < 30
    assert torch.isfinite(flow_step(*(x[..., :50, :] if x.ndim == 3 else x[..., :50] for x in args), scale=0.01)).all()


good, how = case(12, 8, 4, 2, O=3)
BAD = {
    "rows of one dimension": ({0: torch.ones(12)}, {}, r"rows must be \(O, N\)"),
    "no rows": ({0: torch.ones(0, 12)}, {}, "rows must not be empty"),
    "rows no tensor": ({0: [[1.0]]}, {}, "rows must be a tensor"),
    "rows integer": ({0: torch.ones(3, 12, dtype=torch.long)}, {}, "float"),
    "query of another length": ({1: torch.ones(4, 11, 8)}, {}, r"query must be \(H, N=12, D\), got \(4, 11, 8\)"),
    "key of another size": ({2: torch.ones(2, 12, 9)}, {}, r"key must be \(G, N=12, D=8\)"),
    "row_bias of other heads": ({3: torch.ones(2, 12)}, {}, r"row_bias must be \(H=4, N=12\)"),
    "key_bias of other heads": ({4: torch.ones(2, 12)}, {}, r"key_bias must be \(H=4, N=12\)"),
    "two dtypes": ({2: torch.ones(2, 12, 8, dtype=torch.bfloat16)}, {}, "one dtype"),
    "two devices": ({2: torch.ones(2, 12, 8, device="meta")}, {}, "one device"),
    "heads that do not divide": ({2: torch.ones(3, 12, 8)}, {}, "kv_index"),
    "kv_index too short": ({}, {"kv_index": torch.tensor([0, 1])}, r"\(4,\)"),
    "kv_index of floats": ({}, {"kv_index": torch.zeros(4)}, "int32 or int64"),
    "kv_index out of range": ({}, {"kv_index": torch.tensor([0, 1, 2, 0])}, "0 to 1, got 0 to 2"),
    "kv_index a list": ({}, {"kv_index": [0, 0, 1, 1]}, r"kv_index must be a tensor .*, got list"),
    "kv_index elsewhere": ({}, {"kv_index": torch.zeros(4, dtype=torch.int64, device="meta")}, "kv_index on meta"),
    "scale None": ({}, {"scale": None}, "scale must be a finite number, got None"),
    "scale text": ({}, {"scale": "x"}, "scale must be a finite number, got 'x'"),
    "scale True": ({}, {"scale": True}, "scale must be a finite number, got True"),
    "power text": ({}, {"power": "a"}, "power must be a finite number > 0, got 'a'"),
    "power True": ({}, {"power": True}, "power must be a finite number > 0, got True"),
    "window 2.5": ({}, {"window": 2.5}, "window .* >= 1 or None, got 2.5"),
    "window True": ({}, {"window": True}, "window .* >= 1 or None, got True"),
    "softcap text": ({}, {"softcap": "50"}, "softcap must be a finite number > 0, or None, got '50'"),
    "scale nan": ({}, {"scale": float("nan")}, "scale"),
    "power 0": ({}, {"power": 0.0}, "power"),
    "window 0": ({}, {"window": 0}, "window"),
    "softcap 0": ({}, {"softcap": 0.0}, "softcap"),
}


@pytest.mark.parametrize("which", BAD)
def test_bad_arguments_are_refused(which):
    changed, options, match = BAD[which]
    args = [changed.get(i, value) for i, value in enumerate(good)]
    with pytest.raises(InputError, match=match):
        flow_step(*args, **how | options)


@pytest.mark.parametrize("impl", [None, *USABLE])
def test_meta_tensors_are_refused(impl):
    with pytest.raises(InputError, match="meta"):
        flow_step(*(tensor.to("meta") for tensor in good[:4]), **how, impl=impl)


def test_numpy_numbers_are_accepted():
    expected = flow_step(*good, **how | {"window": 3, "softcap": 2.0})
    scale, window, softcap = numpy.float64(how["scale"]), numpy.int64(3), numpy.float32(2)
    assert torch.equal(flow_step(*good, scale=scale, window=window, softcap=softcap), expected)


@pytest.mark.parametrize("which", range(4))
def test_the_reference_supports_gradients(which):
    args = [tensor.double() for tensor in good[:4]]
    args[which].requires_grad_()
    flow_step(*(tensor.float() for tensor in args), **how).square().sum().backward()
    got, args[which].grad = args[which].grad, None
    assert got is not None
    assert got.abs().sum() > 0
    logit = how["scale"] * args[1] @ args[2].repeat_interleave(2, 0).mT
    weight = (logit + args[3][:, :, None]).exp().tril()
    (args[0] @ weight.sum(0)).square().sum().backward()
    torch.testing.assert_close(got, args[which].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif("cpu" not in USABLE, reason="needs the C++ extension")
def test_a_gradient_through_a_kernel_is_an_error(monkeypatch):
    rows = good[0].clone().requires_grad_()
    args = (rows, *good[1:])
    with pytest.raises(ImplementationError, match=r"'cpu' has no gradient; use impl='reference'.*torch.no_grad"):
        flow_step(*args, **how, impl="cpu")
    with torch.no_grad():
        assert torch.equal(flow_step(*args, **how, impl="cpu"), flow_step(*args, **how))
    monkeypatch.setenv("ATTRIBUTOR_IMPL", "cpu")
    with pytest.raises(ImplementationError, match="no gradient"):
        flow_step(*args, **how)


def test_unusable_implementations_are_refused():
    with pytest.raises(ImplementationError, match="unknown implementation 'gpu'"):
        flow_step(*good, **how, impl="gpu")
    for name in {"cuda", "triton"} - set(USABLE):
        with pytest.raises(ImplementationError, match=r"cannot be used here|needs tensors on a GPU"):
            attributor.flow_step(*good, **how, impl=name)


def test_implementations_have_one_signature():
    """Triton's and CUDA's have one more argument for tuning. Read from the source: not all can be imported here."""
    signatures = {}
    for name in ("definition", *ENTRIES):
        source = Path(reference.__file__).with_name(f"{name}.py").read_text("utf-8")
        nodes = ast.parse(source).body
        (step,) = (node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "flow_step")
        signatures[name] = ast.unparse(step.args).split(", tile:")[0].split(", tuning:")[0]
    assert set(signatures.values()) == {signatures["definition"]}, signatures


def test_an_environment_variable_chooses_the_implementation(monkeypatch):
    monkeypatch.setenv("ATTRIBUTOR_IMPL", "reference")
    expected = flow_step(*good, **how)
    monkeypatch.setattr(reference, "flow_step", lambda *_, **__: "the reference was called")
    assert flow_step(*good, **how) == "the reference was called"
    monkeypatch.setenv("ATTRIBUTOR_IMPL", "fastest")
    with pytest.raises(ImplementationError, match="fastest"):
        flow_step(*good, **how)
    assert torch.isfinite(expected).all()
