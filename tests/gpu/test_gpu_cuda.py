"""The CUDA kernel: every compiled variant is right, calls do not wait for it, and it refuses unsupported calls."""

import pytest
import torch
from gpu_cases import DEVICE, KERNELS, REHEARSAL, at_most, case, check, error, exact, plain, why_not

from attributor import ImplementationError, flow_step
from attributor._step.implementations import list_availability
from attributor.kernels.common.errors import UnsupportedCall

if why_not():
    pytest.skip(why_not(), allow_module_level=True)
if "cuda" not in KERNELS:
    reasons = {entry.name: entry.reason for entry in list_availability()}
    pytest.skip(f"impl='cuda' cannot run here: {reasons.get('cuda')}", allow_module_level=True)

IMPL = REHEARSAL or "cuda"
BF16, FP16 = torch.bfloat16, torch.float16
GENERAL = {"softcap": 20.0, "power": 2.0, "key_bias": True, "window": 170}


@pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
@pytest.mark.parametrize("options", [{}, GENERAL], ids=["plain", "general"])
@pytest.mark.parametrize("D", [64, 128, 256])
def test_every_variant_is_right(D, options, dtype):
    """With Y in registers or in memory, K in registers or not, few heads or many."""
    for O in (1, 16, 17, 64, 65, 128, 129, 300):
        for H, G in ((2, 2), (9, 3)):
            check(*case(at_most(777, 40), D, H, G, at_most(O, 20), dtype, **options, seed=O), IMPL)


@pytest.mark.parametrize("group", [1, 8, 32])
@pytest.mark.parametrize("parts", [1, 3, 16])
def test_every_schedule_is_right(group, parts):
    """With groups of key blocks and parts of the queries, at lengths that fill neither."""
    for N, window in ((1, None), (129, None), (3001, None), (3001, 500)):
        args, options = case(at_most(N, 60), 64, 4, 2, 40, BF16, window=window)
        true = exact(args, options)
        budget = error(plain(args, options), true)
        got = flow_step(*args, **options, impl=IMPL) if REHEARSAL else tuned(args, options, group=group, parts=parts)
        assert error(got, true) <= 2 * budget + 1e-5


def tuned(args, options, **values):
    """Call the kernel with another schedule; pass a key head for each head as flow_step does."""
    from attributor import _cuda
    from attributor.kernels.flow_step import cuda

    index = options["kv_index"]
    H, G = args[1].shape[0], args[2].shape[0]
    index = torch.arange(H, device=DEVICE) // (H // G) if index is None else index
    return cuda.flow_step(*args, **{**options, "kv_index": index}, tuning=_cuda.Tuning(**values))


@pytest.mark.skipif(bool(REHEARSAL), reason="there is no stream to wait for on a CPU")
@pytest.mark.parametrize("O", [1, 16, 200])
def test_the_call_returns_before_the_kernel_ends(O):
    """The call returns while the device still runs earlier work."""
    args, options = case(4000, 128, 8, 2, O, BF16)
    expected = flow_step(*args, **options, impl=IMPL)  # also runs everything that happens once per process
    before = torch.cuda.Event()
    torch.cuda.synchronize(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(1_000_000_000)  # more than half a second
        before.record()
        got = flow_step(*args, **options, impl=IMPL)
        busy = not before.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert busy, "the call waited for the device"
    assert torch.equal(got, expected)


@pytest.mark.skipif(bool(REHEARSAL), reason="there is no stream to wait for on a CPU")
def test_parallel_streams_do_not_share_memory():
    """Many calls on two streams, each with its own scratch memory, do not affect each other."""
    cases = [case(3000, 64, 4, 2, O, BF16, seed=O) for O in (5, 40)]
    expected = [flow_step(*args, **options, impl=IMPL) for args, options in cases]
    streams = [torch.cuda.Stream() for _ in cases]
    torch.cuda.synchronize(DEVICE)
    got = [[], []]
    for _ in range(20):
        for i, (args, options) in enumerate(cases):
            with torch.cuda.stream(streams[i]):
                got[i].append(flow_step(*args, **options, impl=IMPL))
    torch.cuda.synchronize(DEVICE)
    for answers, true in zip(got, expected, strict=True):
        assert all(torch.equal(answer, true) for answer in answers)


@pytest.mark.skipif(bool(REHEARSAL), reason="the reference takes everything")
def test_refused_calls_name_an_implementation_that_works():
    for changes, said in (({"dtype": torch.float32}, "use impl='triton'"), ({"D": 264}, "use impl='reference'")):
        args, options = case(50, **{"D": 64, "dtype": BF16} | changes)
        with pytest.raises(ImplementationError, match=said):
            flow_step(*args, **options, impl="cuda")
    args, options = case(50, dtype=BF16)
    with pytest.raises(ImplementationError, match="needs tensors on a GPU"):
        flow_step(*(None if x is None else x.cpu() for x in args), **options, impl="cuda")
    with pytest.raises(UnsupportedCall):
        tuned(args, options, queries=100)


@pytest.mark.parametrize("head", [0, 3])
def test_one_head_of_a_strided_stack_is_right(head):
    """One head of a stack of heads, as a recording stores it."""
    args, options = case(at_most(1003), 128, 4, 4, 16, BF16)
    rows, query, key, row_bias, _ = args
    one = (rows, query[head : head + 1], key[head : head + 1], row_bias[head : head + 1], None)
    check(one, {**options, "kv_index": None}, IMPL)
