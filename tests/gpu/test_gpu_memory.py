"""flow_step on a GPU gives the same bits every time, for any prior memory content, on other streams and devices."""

import pytest
import torch
from gpu_cases import DEVICE, EVERY_KERNEL, at_most, case, poison, refused, why_not

from attributor import flow_step

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

pytestmark = EVERY_KERNEL
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
DTYPES = pytest.mark.parametrize("dtype", [BF16, FP16, FP32], ids=str)


@DTYPES
def test_inputs_may_be_non_contiguous(impl, dtype):
    (rows, query, key, row_bias, _), options = case(120, 32, 4, 2, dtype=dtype)
    if refused((rows, query, key, row_bias, None), options, impl):
        return
    expected = flow_step(rows, query, key, row_bias, **options, impl=impl)
    spread = torch.full((120, 4, 3, 32), float("nan"), dtype=dtype, device=DEVICE)
    spread[:, :, 1] = query.transpose(0, 1)  # the layout of a fused projection of q, k and v
    odd = torch.full((4, 120, 37), float("nan"), dtype=dtype, device=DEVICE)  # rows do not start at multiples of 16 B
    odd[..., 3:35] = query
    wide = torch.full((5, 400), float("nan"), device=DEVICE)
    wide[:, 30:150] = rows
    transposed = key.mT.contiguous().mT  # the last dimension is not contiguous
    for view in (spread[:, :, 1].transpose(0, 1), odd[..., 3:35]):
        bias = row_bias.T.contiguous().T
        assert torch.equal(flow_step(wide[:, 30:150], view, transposed, bias, **options, impl=impl), expected)
    one = query[:1].expand(4, 120, 32)  # a stride of 0 between heads
    args = (rows, one, key, row_bias, None)
    assert torch.equal(
        flow_step(*args, **options, impl=impl), flow_step(rows, one.contiguous(), *args[2:], **options, impl=impl)
    )


@DTYPES
@pytest.mark.parametrize(
    ("O", "options"), [(1, {}), (16, {}), (40, {}), (200, {}), (7, {"window": 70, "key_bias": True})]
)
def test_the_same_bits_every_time(impl, dtype, O, options):
    args, rest = case(at_most(2003), 64, 6, 2, O, dtype=dtype, **options)
    if refused(args, rest, impl):
        return
    first = flow_step(*args, **rest, impl=impl)
    for _ in range(9):
        assert torch.equal(flow_step(*args, **rest, impl=impl), first)


@pytest.mark.filterwarnings("ignore")  # from operations without a deterministic form, which are not under test
@pytest.mark.parametrize(("N", "O"), [(1, 1), (65, 1), (65, 5), (1003, 1), (1003, 16), (1003, 40), (1003, 513)])
def test_every_element_of_the_output_is_written(impl, N, O):
    """In this mode torch fills unwritten memory with NaN."""
    args, options = case(at_most(N), 64, O=at_most(O, 60), dtype=BF16)
    expected = flow_step(*args, **options, impl=impl)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(1000, device=DEVICE).isnan().all()
        got = flow_step(*args, **options, impl=impl)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("value", [float("nan"), 1e30])
@pytest.mark.parametrize(("N", "O"), [(1, 1), (1003, 1), (1003, 16), (2003, 40), (2003, 200)])
def test_previous_memory_content_does_not_change_the_answer(impl, N, O, value):
    """Results, partial results and scratch memory come from torch's cache, here filled with NaN or large numbers."""
    args, options = case(at_most(N), 64, O=at_most(O, 60), dtype=BF16)
    poison(0.0)
    expected = flow_step(*args, **options, impl=impl)
    poison(value)
    assert torch.equal(flow_step(*args, **options, impl=impl), expected)


def test_memory_beyond_the_inputs_is_not_read(impl):
    """NaN surrounds every argument, so a read beyond its end changes the result."""
    (rows, query, key, row_bias, key_bias), options = case(131, 64, 3, 3, 5, dtype=BF16, key_bias=True)

    def inside(tensor):
        room = torch.full((tensor.shape[0] + 2, tensor.shape[1] + 64, *tensor.shape[2:]), float("nan")).to(tensor)
        room[1:-1, : tensor.shape[1]] = tensor
        return room[1:-1, : tensor.shape[1]]

    expected = flow_step(rows, query, key, row_bias, key_bias, **options, impl=impl)
    surrounded = [inside(tensor) for tensor in (rows, query, key, row_bias, key_bias)]
    assert torch.equal(flow_step(*surrounded, **options, impl=impl), expected)


def test_other_streams_and_devices_are_respected(impl):
    """Work on a side stream must wait for its inputs, and readers of its result must wait for it."""
    args, options = case(at_most(2003), 64, O=5, dtype=BF16)
    expected = flow_step(*args, **options, impl=impl)
    if DEVICE.type == "cuda":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)
            late = args[0] * 1.0
            got = flow_step(late, *args[1:], **options, impl=impl)
        torch.cuda.current_stream().wait_stream(stream)
        assert torch.equal(got, expected)
        for index in range(1, torch.cuda.device_count()):
            there = [None if x is None else x.to(f"cuda:{index}") for x in args]
            assert torch.equal(flow_step(*there, **options, impl=impl).to(DEVICE), expected)
