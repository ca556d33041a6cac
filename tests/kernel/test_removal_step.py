"""removal_step: every usable implementation and instruction set agrees with the definition in float64.

The terms of c cancel, so errors are relative to the sum of the terms' sizes. The budget is twice the measured error of
the reference against the definition in float64, plus a floor, because the log-sum-exp is rounded once more, in base 2.
"""

import ast
import signal
import threading
import time
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from removal_step_cases import FLOOR, LETTERS, case, error, term_sizes, truth

from attributor import ImplementationError, InputError
from attributor._step import choose_impl, list_availability, removal_step
from attributor.kernels.removal_step import reference

try:
    from attributor import _core
except ImportError:  # an install without the extension
    ISAS: list[str] = []
else:
    ISAS = _core.isas()

ALL_ISAS = ["amx", "avx512_bf16", "avx512", "avx2", "scalar"]
ENTRIES = {entry.name: entry for entry in list_availability("removal_step")}
ON_GPU = [name for name in ("triton",) if name in ENTRIES and ENTRIES[name].usable and torch.cuda.is_available()]
USABLE = [name for name, entry in ENTRIES.items() if entry.usable and name not in ON_GPU]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TENSOR_CORE_FLOOR = 1e-5  # tensor cores truncate the last bits of float32 sums


def run(args, options, impl=None):
    """Call the checked function; implementations that need a GPU run there."""
    if impl not in ON_GPU:
        return removal_step(*args, **options, impl=impl)
    return removal_step(*(x.cuda() for x in args), **options, impl=impl).cpu()


def missing(isa):
    return pytest.mark.skipif(isa not in ISAS, reason=f"this machine or install has no {isa} kernels")


NATIVE = [pytest.param(f"cpu-{isa}", marks=missing(isa)) for isa in ALL_ISAS]
GPU = [
    pytest.param(name, marks=pytest.mark.skipif(name not in ON_GPU, reason=f"{name}: {ENTRIES[name].reason}"))
    for name in ("triton",)
    if name in ENTRIES
]
EVERY = ["reference", *NATIVE, *GPU]


@pytest.fixture
def force(monkeypatch):
    """Turn a name such as cpu-avx2 into the name of the implementation and force its instruction set."""

    def choose(name):
        impl, _, isa = name.partition("-")
        if isa:
            monkeypatch.setenv("ATTRIBUTOR_ISA", isa)
        return impl

    return choose


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill new float tensors with NaN, so that unwritten elements change the result."""
    empty = torch.empty

    def poison(*args, **options):
        fresh = empty(*args, **options)
        return fresh.fill_(float("nan")) if fresh.is_floating_point() else fresh

    monkeypatch.setattr(torch, "empty", poison)


def check(args, options, impl):
    """Return the result of one implementation after a check of its error."""
    exact, sizes = truth(args, options), term_sizes(args, options)
    budget = error(run(args, options, "reference"), exact, sizes)
    got = run(args, options, impl)
    assert got.dtype == torch.float64
    assert torch.isfinite(got).all()
    assert error(got, exact, sizes) <= 2 * budget + (TENSOR_CORE_FLOOR if impl == "triton" else FLOOR)
    # also for few and small terms: the terms of a key bound its error
    assert ((got - exact).abs() <= 3e-5 * sizes + 1e-30).all()
    assert not got[sizes == 0].any()
    return got


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("N", [1, 63, 64, 65, 1003])
def test_lengths(name, dtype, N, force):
    check(*case(N, D=32, dtype=dtype), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("N", "Q"), [(400, 1), (400, 95), (400, 97), (130, 129), (64, 1)])
def test_the_last_rows_alone(name, dtype, N, Q, force):
    """Blocks of queries may begin at any position; the first row is at N - Q."""
    got = check(*case(N, Q, D=32, dtype=dtype), force(name))
    if Q > 90:
        assert got[: N - Q].abs().max() > 0  # keys before the first query also get values


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("D", "Dv"), [(1, 3), (40, 40), (60, 80), (80, 60), (256, 64), (64, 256), (192, 128)])
def test_head_sizes(name, dtype, D, Dv, force):
    check(*case(150, D=D, Dv=Dv, dtype=dtype), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("H", "G"), [(1, 1), (9, 3), (8, 1), (3, 3), (32, 8)])
def test_grouped_heads(name, H, G, force):
    check(*case(130, D=32, H=H, G=G), force(name))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("window", [1, 2, 17, 64, 65, 200, 399, 10_000])
def test_windows(name, dtype, window, force):
    got = check(*case(400, 350, D=32, dtype=dtype, window=window), force(name))
    assert got.any() == (window > 1)  # a row that sees only itself adds nothing to any key


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [None, 70])
def test_softcap(name, dtype, window, force):
    args, options = case(300, D=40, H=6, G=2, dtype=dtype, softcap=5.0, window=window)
    got = check(args, options, force(name))
    without = run(args, options | {"softcap": None}, "reference")
    assert error(got, without, term_sizes(args, options)) > 1e-2


STOPS = {
    "the next row": lambda j, N: j + 1,
    "the next but one": lambda j, N: j + 2,
    "one segment": lambda j, N: torch.full_like(j, N),
    "two segments": lambda j, N: torch.where(j < 150, 150, N),
    "segments of a panel": lambda j, N: (j // 64 + 1) * 64,
    "beyond the end": lambda j, N: torch.where(j % 2 == 0, j + 1, N + 5),
    "far beyond": lambda j, N: torch.where(j % 3 == 0, j + 1, 2**40),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("which", STOPS)
def test_stops(name, dtype, which, force):
    N = 300
    stops = STOPS[which](torch.arange(N), N)
    got = check(*case(N, D=32, dtype=dtype, stops=stops), force(name))
    assert not got[stops >= N].any()
    assert got[stops < N - 1].all()


@pytest.mark.parametrize("name", EVERY)
def test_stops_of_int32(name, force):
    args, options = case(200, D=32)
    impl = force(name)
    assert torch.equal(run((*args[:-1], args[-1].int()), options, impl), run(args, options, impl))


@pytest.mark.parametrize("name", EVERY)
def test_hidden_weights_may_be_infinite(name, force):
    """Rows before a key's stop add nothing, even if exp(logit - lse) is infinite there."""
    args, options = case(200, D=32, stops=torch.arange(1, 201).clamp(min=150))
    args[4][:, :150] = -1000.0  # these rows add nothing to any key
    impl = force(name)
    check(args, options, impl)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_where_d_output_is_zero(name, dtype, force):
    args, options = case(400, D=32, dtype=dtype)
    impl = force(name)
    d_output, delta = args[3], args[5]
    for rows in (slice(0, 170), slice(250, 260), slice(390, 400)):
        d_output[:, rows] = -0.0
        delta[:, rows] = 0.0
    d_output[1] = 0.0  # a whole head
    delta[1] = 0.0
    check(args, options, impl)
    d_output[:, :-1] = 0.0
    delta[:, :-1] = 0.0
    d_output[:, -1] = 0.5  # the last row alone
    check(args, options, impl)
    d_output.zero_()
    delta.zero_()
    assert not run(args, options, impl).any()


@pytest.mark.parametrize("name", NATIVE)
def test_blocks_where_d_output_is_zero_are_skipped(name, force):
    """They are not computed, so their queries may hold any values."""
    args, options = case(400, D=32)
    impl = force(name)
    args[3][:, :200] = 0.0
    args[5][:, :200] = 0.0
    expected = run(args, options, impl)
    args[0][:, :192] = float("nan")
    assert torch.equal(run(args, options, impl), expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_log_sum_exp_of_infinity_excludes_the_row(name, force):
    args, options = case(200, D=32)
    impl = force(name)
    args[4][:, 70] = float("inf")
    args[4][1, 100:140] = float("inf")
    check(args, options, impl)
    args[4].fill_(float("inf"))
    assert not run(args, options, impl).any()


@pytest.mark.parametrize("name", EVERY)
def test_inputs_may_be_non_contiguous(name, force):
    (query, key, value, d_output, lse, delta, stops), options = case(120, 100, D=32, Dv=24)
    impl = force(name)
    expected = run((query, key, value, d_output, lse, delta, stops), options, impl)

    def spread(matrices):
        """Return the layout of a fused projection: heads interleaved with others."""
        wide = torch.full((matrices.shape[1], matrices.shape[0], 3, matrices.shape[2]), float("nan"))
        wide[:, :, 1] = matrices.transpose(0, 1)
        return wide[:, :, 1].transpose(0, 1)

    transposed = value.mT.contiguous().mT  # the last dimension is not contiguous
    strided = torch.zeros(240, dtype=torch.int64)[::2]
    strided += stops
    args = (spread(query), spread(key), transposed, spread(d_output), lse.T.contiguous().T, delta, strided)
    assert torch.equal(run(args, options, impl), expected)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_the_same_bits_for_any_number_of_threads(name, dtype, force):
    args, options = case(1003, 900, D=64, H=6, G=2, dtype=dtype)
    impl = force(name)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(run(args, options, impl))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.skipif(not ISAS, reason="a pure install")
def test_the_forced_instruction_set_runs(monkeypatch):
    """They round differently, so their bits differ."""
    args, options = case(300, D=128, dtype=torch.bfloat16)
    results = {}
    for isa in ISAS:
        monkeypatch.setenv("ATTRIBUTOR_ISA", isa)
        results[isa] = run(args, options, "cpu")
    for isa, result in results.items():
        assert isa == "scalar" or not torch.equal(result, results["scalar"])
    monkeypatch.delenv("ATTRIBUTOR_ISA")
    assert torch.equal(run(args, options), results[_core.isa()])
    monkeypatch.setenv("ATTRIBUTOR_ISA", "sse9")
    with pytest.raises(ImplementationError, match=r"sse9.*scalar"):
        run(args, options, "cpu")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_shape(data):
    N, D, Dv = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 130)), data.draw(st.integers(1, 130))
    Q, G, sharing = data.draw(st.integers(1, N)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    dtype = data.draw(st.sampled_from(DTYPES))
    window = data.draw(st.none() | st.integers(1, N + 2))
    softcap = data.draw(st.none() | st.floats(2, 50))
    seed = data.draw(st.integers(0, 99))
    args, options = case(N, Q, D=D, Dv=Dv, H=G * sharing, G=G, dtype=dtype, window=window, softcap=softcap, seed=seed)
    exact, sizes = truth(args, options), term_sizes(args, options)
    # Rounding errors of few terms do not average out: a weight may have the error of an exponent as large as the lse.
    floor = 2e-6 + float(args[4].abs().max()) * 2**-23
    for impl in USABLE:
        assert error(run(args, options, impl), exact, sizes) <= floor


@pytest.mark.skipif(not ISAS, reason="a pure install")
def test_ctrl_c_ends_a_long_call(monkeypatch):
    monkeypatch.setenv("ATTRIBUTOR_ISA", "scalar")  # would take minutes without the interrupt
    H, N, D = 8, 20_000, 128
    big = [torch.randn(H, N, D) for _ in range(4)]
    args = (*big, torch.full((H, N), 20.0), torch.zeros(H, N), torch.arange(1, N + 1))
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    began = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        removal_step(*args, scale=0.01, impl="cpu")
    assert time.perf_counter() - began < 30


GOOD, HOW = case(12, 5, D=8, Dv=6, stops=torch.arange(1, 13))
BAD = {
    "query of one dimension": ({"query": torch.ones(12)}, {}, r"query must be \(H, Q, D\), got \(12,\)"),
    "no query": ({"query": torch.ones(4, 0, 8)}, {}, "query must not be empty"),
    "query no tensor": ({"query": [[1.0]]}, {}, "query must be a tensor"),
    "key of another size": ({"key": torch.ones(2, 12, 9)}, {}, r"key must be \(G, N, D=8\)"),
    "value of another length": ({"value": torch.ones(2, 11, 6)}, {}, r"value must be \(G=2, N=12, Dv\)"),
    "d_output of another size": ({"d_output": torch.ones(4, 5, 8)}, {}, r"d_output must be \(H=4, Q=5, Dv=6\)"),
    "lse of all positions": ({"lse": torch.ones(4, 12)}, {}, r"lse must be \(H=4, Q=5\), got \(4, 12\)"),
    "delta of other heads": ({"delta": torch.ones(2, 5)}, {}, r"delta must be \(H=4, Q=5\)"),
    "delta integer": ({"delta": torch.ones(4, 5, dtype=torch.int64)}, {}, "delta must be float64, float32"),
    "two dtypes": ({"d_output": torch.ones(4, 5, 6).half()}, {}, "query and d_output need one dtype"),
    "two devices": ({"value": torch.ones(2, 12, 6, device="meta")}, {}, "query on cpu and value on meta"),
    "more queries than keys": (
        {"key": torch.ones(2, 4, 8), "value": torch.ones(2, 4, 6)}, {}, "last Q of N positions, got Q = 5 and N = 4",
    ),
    "heads that do not divide": (
        {"key": torch.ones(3, 12, 8), "value": torch.ones(3, 12, 6)}, {}, "got 4 query heads and 3 key heads",
    ),
    "stops a list": ({"stops": list(range(1, 13))}, {}, "stops must be a tensor .* got list"),
    "stops of floats": ({"stops": torch.arange(1.0, 13.0)}, {}, r"stops must be \(12,\) int32 or int64"),
    "stops too few": ({"stops": torch.arange(1, 12)}, {}, r"stops must be \(12,\) .*, got \(11,\)"),
    "stops elsewhere": ({"stops": torch.ones(12, dtype=torch.int64, device="meta")}, {}, "stops on meta"),
    "a stop at its key": ({"stops": torch.arange(12)}, {}, r"greater than j, got stops\[0\] = 0"),
    "gradient": ({"query": torch.ones(4, 5, 8, requires_grad=True)}, {}, r"no gradient; .*torch\.no_grad"),
    "window 0": ({}, {"window": 0}, "window .* >= 1 or None, got 0"),
    "window 2.5": ({}, {"window": 2.5}, "window .* got 2.5"),
    "scale nan": ({}, {"scale": float("nan")}, "scale must be a finite number, got nan"),
    "softcap 0": ({}, {"softcap": 0.0}, "softcap must be a finite number > 0, or None, got 0.0"),
}  # fmt: skip


@pytest.mark.parametrize("which", BAD)
def test_bad_arguments_are_refused(which):
    changed, options, match = BAD[which]
    args = [changed.get(name, value) for name, value in zip(LETTERS, GOOD, strict=True)]
    with pytest.raises(InputError, match=match):
        removal_step(*args, **HOW | options)


def test_meta_tensors_are_refused():
    with pytest.raises(InputError, match="meta, which holds no numbers"):
        removal_step(*(x.to("meta") for x in GOOD), **HOW)


def test_inputs_that_require_a_gradient_are_accepted_without_one():
    query = GOOD[0].clone().requires_grad_()
    with torch.no_grad():
        got = removal_step(query, *GOOD[1:], **HOW)
    assert not got.requires_grad
    assert torch.equal(got, removal_step(*GOOD, **HOW))


def test_numpy_numbers_are_accepted():
    expected = removal_step(*GOOD, **HOW | {"window": 3, "softcap": 2.0})
    scale, window, softcap = numpy.float64(HOW["scale"]), numpy.int64(3), numpy.float32(2)
    assert torch.equal(removal_step(*GOOD, scale=scale, window=window, softcap=softcap), expected)


def test_float64_goes_to_the_reference():
    double = tuple(x.double() if x.is_floating_point() else x for x in GOOD)
    assert torch.equal(removal_step(*double, **HOW), removal_step(*double, **HOW, impl="reference"))
    if "cpu" in USABLE:
        with pytest.raises(ImplementationError, match="float64 queries need impl='reference'"):
            removal_step(*double, **HOW, impl="cpu")


def test_unusable_implementations_are_refused(monkeypatch):
    with pytest.raises(ImplementationError, match="unknown implementation 'gpu'"):
        removal_step(*GOOD, **HOW, impl="gpu")
    use = "impl='cpu' or impl='reference'" if "cpu" in USABLE else "impl='reference'"
    with pytest.raises(ImplementationError, match=f"implementation 'cuda' has no removal_step; use {use}"):
        removal_step(*GOOD, **HOW, impl="cuda")
    monkeypatch.setenv("ATTRIBUTOR_IMPL", "cuda")
    with pytest.raises(ImplementationError, match="'cuda' has no removal_step"):
        removal_step(*GOOD, **HOW)
    monkeypatch.delenv("ATTRIBUTOR_IMPL")
    if "triton" not in USABLE:
        message = "cannot be used here|needs tensors on a GPU|has no removal_step"
        with pytest.raises(ImplementationError, match=message):
            removal_step(*GOOD, **HOW, impl="triton")
    if "cpu" in USABLE:
        assert choose_impl(None, torch.device("cpu"), torch.bfloat16, 128, step="removal_step") == "cpu"


def test_an_environment_variable_chooses_the_implementation(monkeypatch):
    monkeypatch.setenv("ATTRIBUTOR_IMPL", "reference")
    monkeypatch.setattr(reference, "removal_step", lambda *_, **__: "the reference was called")
    assert removal_step(*GOOD, **HOW) == "the reference was called"


def test_implementations_have_one_signature():
    """Triton's may have one more argument for tuning. Read from the source, because not all can be imported here."""
    signatures = {}
    for name in ("definition", *ENTRIES):
        source = Path(reference.__file__).with_name(f"{name}.py").read_text("utf-8")
        nodes = ast.parse(source).body
        (step,) = (node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "removal_step")
        signatures[name] = ast.unparse(step.args).split(", tile:")[0]
    assert set(signatures.values()) == {signatures["definition"]}, signatures
