"""Fused attention kernels of a GPU are verified on a small call before use; wrong ones are skipped."""

import pytest
import torch

from attributor._record import fused_attention
from attributor._record import mask as mask_module
from attributor._record.attention import _definition, attention

CALL = fused_attention.Call(torch.device("cpu"), torch.bfloat16, 64, 64, 4, True, False)


def tensors(Q=40, K=40, H=4, G=2, D=16, dtype=torch.bfloat16):
    g = torch.Generator().manual_seed(1)
    shapes = ((H, Q, D), (G, K, D), (G, K, D))
    return [torch.randn(1, *shape, generator=g).to(dtype) for shape in shapes]


@pytest.fixture
def routes(monkeypatch):
    """Replace the kernels with stand-ins that log their calls; the cache of verified kernels is empty for each test."""
    called = []

    def stand_in(name, change=lambda output, lse: (output, lse), error=None):
        def kernel(query, key, value, causal, window, scale):
            called.append((name, query.shape[2]))
            if error is not None:
                raise error
            return change(*_definition(query, key, value, causal, window, scale))

        monkeypatch.setitem(fused_attention.KERNELS, name, kernel)

    for name in list(fused_attention.KERNELS):
        stand_in(name)
    monkeypatch.setattr(fused_attention, "_verified", {})
    return stand_in, called


def go(*given, causal=True, window=None):
    return fused_attention.run_fused_kernel(*given, causal=causal, window=window, scale=0.25, definition=_definition)


def test_a_correct_kernel_is_tried_once_and_used(routes):
    _, called = routes
    given = tensors()
    for _ in range(2):
        output, lse = go(*given)
        expected, sums = _definition(*given, True, None, 0.25)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(lse, sums)
    assert called == [("flash", fused_attention.PROBE), ("flash", 40), ("flash", 40)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"change": lambda output, lse: (output, lse * 1.1)},
        {"change": lambda output, lse: (output * 1.1, lse)},
        {"change": lambda output, lse: (output, lse * float("nan"))},
        {"change": lambda output, lse: (output, lse[..., :-1])},
        {"error": RuntimeError("no kernel image")},
        {"error": NotImplementedError()},
    ],
    ids=["lse", "output", "nan", "shape", "refused", "missing"],
)
def test_wrong_and_failing_kernels_are_skipped(routes, wrong):
    stand_in, called = routes
    stand_in("flash", **wrong)
    output, lse = go(*tensors())
    expected, sums = _definition(*tensors(), True, None, 0.25)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(lse, sums)
    assert [name for name, _ in called] == ["flash", "efficient", "efficient"]
    stand_in("efficient", error=RuntimeError("no"))
    fused_attention._verified.clear()
    assert go(*tensors()) is None


def test_a_kernel_that_fails_after_its_trial_is_skipped(routes):
    stand_in, called = routes

    def sizes(output, lse):
        if output.shape[2] != fused_attention.PROBE:
            raise RuntimeError("not this size")
        return output, lse

    stand_in("flash", change=sizes)
    for _ in range(2):
        output, _ = go(*tensors())
        torch.testing.assert_close(output, _definition(*tensors(), True, None, 0.25)[0])
    names = [name for name, _ in called]
    assert names == [
        "flash",
        "flash",
        "efficient",
        "efficient",
        "efficient",
    ]  # verified, failed, then not called again


def test_out_of_memory_does_not_disqualify_a_kernel(routes):
    stand_in, _ = routes
    stand_in("flash", error=torch.OutOfMemoryError("full"))
    with pytest.raises(torch.OutOfMemoryError):
        go(*tensors())
    assert not fused_attention._verified


@pytest.mark.parametrize("said", ["CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED"])
def test_out_of_memory_in_a_library_does_not_disqualify_a_kernel(routes, said):
    stand_in, _ = routes
    go(*tensors())
    stand_in("flash", error=RuntimeError(said))
    with pytest.raises(RuntimeError, match=said):
        go(*tensors())
    assert list(fused_attention._verified.values()) == [True]


def test_each_kind_of_call_has_its_own_trial(routes):
    _, called = routes
    go(*tensors())
    go(*tensors(Q=1), causal=False)
    go(*tensors(), window=7)
    go(*tensors(D=32))
    go(*tensors(G=4))
    go(*tensors(dtype=torch.float16))
    assert (
        len([queries for _, queries in called if queries in (fused_attention.PROBE, 1)]) == 7
    )  # 6 trials, one call of 1
    assert len(fused_attention._verified) == 6


@pytest.mark.parametrize(
    ("changes", "queries", "capability", "expected"),
    [
        ({}, 4096, (9, 0), ["cudnn", "flash", "efficient"]),
        ({}, 4096, (8, 0), ["flash", "efficient"]),
        ({}, 64, (9, 0), ["flash", "efficient"]),
        ({"causal": False}, 4096, (9, 0), ["flash", "efficient"]),
        ({"windowed": True}, 4096, (9, 0), ["flash"]),
        ({"dtype": torch.float32}, 4096, (9, 0), ["efficient"]),
        ({"dtype": torch.float32, "windowed": True}, 4096, (9, 0), []),
        ({"dtype": torch.float64}, 4096, (9, 0), []),
    ],
)
def test_kernels_are_tried_in_a_fixed_order(monkeypatch, changes, queries, capability, expected):
    monkeypatch.setattr(fused_attention, "_capability", lambda _: capability)
    call = fused_attention.Call(**{**vars(CALL), **changes})
    assert fused_attention.kernels_to_try(call, queries) == expected


def test_trials_do_not_change_the_random_state(routes):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    go(*tensors())
    assert torch.equal(torch.rand(1), expected)


class Elsewhere(torch.Tensor):
    """A CPU tensor that reports another device, so that attention takes its GPU path."""

    @property
    def device(self):
        return Device()


class Device:
    type = "cuda"


@pytest.mark.parametrize(
    ("first", "windows"),
    [
        (lambda i: torch.zeros_like(i), [None]),
        (lambda i: (i - 8).clamp(min=0), [9]),
        (lambda i: i, [1]),
        (lambda i: i // 16 * 16, [None, None, None]),  # chunks: one causal call each
        (lambda i: (i - i % 3 - 5).clamp(min=0), [None]),  # the beginning is one causal call; the rest is masked
    ],
    ids=["causal", "window", "window of one", "chunks", "another"],
)
def test_a_prompt_is_split_into_the_expected_calls(monkeypatch, first, windows):
    seen = []

    def fused(query, key, value, *, causal, window, scale, definition):
        seen.append(window)
        return definition(query, key, value, causal, window, scale)

    monkeypatch.setattr(fused_attention, "run_fused_kernel", fused)
    monkeypatch.setattr(torch, "arange", lambda *a, device=None, **k: ARANGE(*a, **k))
    monkeypatch.setattr(torch, "ones", lambda *a, device=None, **k: ONES(*a, **k))
    given = tensors(dtype=torch.float32)
    mask = mask_module.Mask(0, 0, first(torch.arange(40))[None])
    expected = attention(*given, mask, scale=0.25)
    assert not seen  # the CPU has its own kernel
    got = attention(*(tensor.as_subclass(Elsewhere) for tensor in given), mask, scale=0.25)
    assert seen == windows
    for mine, true in zip(got, expected, strict=True):
        torch.testing.assert_close(mine.as_subclass(torch.Tensor), true, rtol=0, atol=1e-5)


ARANGE, ONES = torch.arange, torch.ones
