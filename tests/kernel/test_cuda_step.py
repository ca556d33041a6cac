"""The Python side of impl="cuda", without a GPU: accepted calls, arguments of the extension, no synchronisation."""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import attributor
from attributor import ImplementationError, InputError
from attributor._step import implementations
from attributor.cli.answer_question import Settings, check_settings
from attributor.kernels.common.errors import ImplementationFailure, UnsupportedCall
from attributor.kernels.flow_step import definition

CUDA, CPU, BF16 = torch.device("cuda", 0), torch.device("cpu"), torch.bfloat16
TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Tuning:
    parts = 0


class Error(RuntimeError):
    pass


def read(address, dtype, shape, strides):
    """Return a copy of the data at an address, as the extension would read it."""
    length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    memory = (ctypes.c_char * (length * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype).as_strided(shape, strides).clone()


def extension(calls):
    """A stand-in for attributor._cuda: reads the addresses and computes the definition in float64."""

    def scratch_bytes(*, sizes, key_bias, window, device, tuning):
        if sizes[4] > 256:
            raise ValueError("heads have at most 256 elements")
        return 1000

    def flow_step(**given):
        O, N, H, G, D = given["sizes"]
        dtype = TYPES[given["dtype"]]
        for name, count in (("query", H), ("key", G)):
            address, head, row = given[name]
            assert address % 16 == 0
            assert count == 1 or (head > 0 and head % 8 == 0)
            assert N == 1 or (row > 0 and row % 8 == 0)
        order, kv = read(given["heads"], torch.int32, (2, H), (H, 1)).long()
        assert sorted(order.tolist()) == list(range(H))
        assert kv.tolist() == sorted(kv.tolist())
        index = torch.empty(H, dtype=torch.long)
        index[order] = kv
        key_bias = read(given["key_bias"], torch.float32, (H, N), (N, 1)).double() if given["key_bias"] else None
        result = definition.flow_step(
            read(given["rows"], torch.float32, (O, N), (N, 1)).double(),
            read(given["query"][0], dtype, (H, N, D), (*given["query"][1:], 1)).double(),
            read(given["key"][0], dtype, (G, N, D), (*given["key"][1:], 1)).double(),
            read(given["row_bias"], torch.float32, (H, N), (N, 1)).double(),
            key_bias,
            scale=given["scale"],
            kv_index=index,
            power=given["power"],
            window=given["window"],
            softcap=given["softcap"] or None,
        )
        result = result.float().contiguous()
        ctypes.memmove(given["result"], result.data_ptr(), 4 * O * N)
        calls.append(given)

    module = ModuleType("attributor._cuda")
    module.__spec__ = SimpleNamespace(name="attributor._cuda", parent="attributor")
    vars(module).update(Tuning=Tuning, Error=Error, flow_step=flow_step, scratch_bytes=scratch_bytes)
    module.versions = lambda: (13010, 12090)
    return module


@pytest.fixture
def calls():
    return []


@pytest.fixture
def step(monkeypatch, calls):
    """Run kernels/flow_step/cuda.py with the stand-in on the CPU."""
    monkeypatch.setitem(sys.modules, "attributor._cuda", extension(calls))
    monkeypatch.setattr("attributor._cuda", sys.modules["attributor._cuda"], raising=False)
    monkeypatch.delitem(sys.modules, "attributor.kernels.flow_step.cuda", raising=False)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: SimpleNamespace(cuda_stream=4711))
    from attributor.kernels.flow_step import cuda

    yield cuda
    sys.modules.pop("attributor.kernels.flow_step.cuda")
    vars(sys.modules["attributor.kernels.flow_step"]).pop("cuda", None)


def case(N=33, H=6, G=2, D=40, O=3, dtype=BF16, seed=0):
    g = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(heads, N, D, generator=g).to(dtype) for heads in (H, G))
    args = [torch.rand(O, N, generator=g), query, key, torch.randn(H, N, generator=g) - 3, None]
    kv_index = torch.arange(H) // (H // G)
    return args, {"scale": D**-0.5, "kv_index": kv_index, "power": 1.0, "window": None, "softcap": None}


def check(step, args, options):
    got = step.flow_step(*args, **options)
    expected = definition.flow_step(*(None if x is None else x.double() for x in args), **options)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", TYPES.values(), ids=str)
@pytest.mark.parametrize("D", [1, 8, 36, 40, 63, 256])
def test_head_sizes_are_padded_to_the_hardware_sizes(step, calls, dtype, D):
    check(step, *case(D=D, dtype=dtype))
    assert calls[0]["sizes"][4] == D
    assert calls[0]["query"][2] == -(-D // 8) * 8


@pytest.mark.parametrize(("H", "G", "N"), [(1, 1, 1), (1, 1, 5), (4, 4, 1), (8, 2, 64)])
def test_sizes_of_one(step, H, G, N):
    check(step, *case(N, H, G))


def test_options_reach_the_extension(step, calls):
    args, options = case()
    args[4] = torch.randn(6, 33)
    check(step, args, options | {"power": 2.0, "window": 7, "softcap": 5.0})
    given = calls[0]
    assert (given["power"], given["window"], given["softcap"], given["stream"]) == (2.0, 7, 5.0, 4711)
    assert given["scratch"][1] == 1000
    check(step, args, options | {"window": 10_000})
    assert calls[1]["window"] == 33
    assert calls[1]["softcap"] == 0.0


def test_any_order_of_key_heads(step):
    args, options = case(H=6, G=3)
    check(step, args, options | {"kv_index": torch.tensor([2, 0, 2, 1, 0, 2])})
    check(step, args, options | {"kv_index": torch.tensor([1, 1, 1, 1, 1, 1], dtype=torch.int32)})


def test_biases_and_rows_become_float32(step):
    args, options = case()
    args[4] = torch.randn(6, 33)
    wide = [args[0].double(), *args[1:3], args[3].double(), args[4].double().T.contiguous().T]
    assert torch.equal(step.flow_step(*wide, **options), step.flow_step(*args, **options))


def test_only_tensors_that_the_hardware_cannot_read_are_copied(step):
    whole = torch.randn(4, 50, 3, 64).to(BF16)
    for readable in (
        whole[:, :, 1],  # the layout of a fused projection of q, k and v
        whole[:, :, 1].transpose(0, 1),
        whole[1:, 8:, 2],
        whole[:1, :, 0].expand(1, 50, 64),
    ):
        assert step.make_readable(readable).data_ptr() == readable.data_ptr()
    other = torch.randn(4, 50, 65).to(BF16)
    for tensor in (
        other,  # rows of 130 bytes
        other[:, :, 1:],
        whole.flatten()[1:-63].view(-1, 64)[:500].view(4, 125, 64),  # at an address that is not a multiple of 16
        whole[:, :, 1].mT,
        whole[:1, :, 0].expand(4, 50, 64),  # strides of 0
        whole[:, :1, 0].expand(4, 50, 64),
    ):
        copy = step.make_readable(tensor)
        assert copy.data_ptr() != tensor.data_ptr()
        assert torch.equal(copy, tensor)
        assert copy.data_ptr() % 16 == 0
        assert all(stride % 8 == 0 and stride for stride in copy.stride()[:2])


class Operations(TorchDispatchMode):
    """Log the names of all torch operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **kwargs or {})


READS = ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__")


def test_no_operation_synchronizes_with_the_device(step, monkeypatch):
    """No method or operation copies a number back from the device."""
    args, options = case(D=36)
    args[4] = torch.randn(6, 33, dtype=torch.float64)
    monkeypatch.setattr("attributor.kernels.flow_step.cuda._cuda.flow_step", lambda **_: None)

    def refuse(self, *_):
        raise AssertionError("a tensor's values are read")

    def to(self, *what, real=torch.Tensor.to):
        assert all(isinstance(x, torch.dtype) for x in what), "a copy to another device"
        return real(self, *what)

    monkeypatch.setattr(torch.Tensor, "to", to)
    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, refuse)
    with Operations() as seen:
        step.flow_step(*args, **options)
    assert "aten::empty.memory_format" in seen.names
    waits = ("_local_scalar_dense", "is_nonzero", "equal", "_unique2", "masked_select")
    assert not [name for name in seen.names if name.split("::")[1].split(".")[0] in waits]


def test_refused_calls_have_the_same_text_in_both_errors(step, monkeypatch):
    """The implementation raises its own errors; the public function raises those of the package with the same text."""
    monkeypatch.setattr("attributor._step.dispatch.choose_impl", lambda *_, **__: "cuda")
    args, options = case()

    def refused(args, own, public, match):
        with pytest.raises(own, match=match):
            step.flow_step(*args, **options)
        with pytest.raises(public, match=match):
            attributor.flow_step(*args, **options)

    float32 = [args[0], args[1].float(), args[2].float(), *args[3:]]
    refused(float32, UnsupportedCall, InputError, r"^impl='cuda' takes .*float32; use impl='triton'$")
    refused(case(D=264)[0], UnsupportedCall, InputError, r"^impl='cuda': heads have at most 256 elements$")

    def refuse(**_):
        raise Error("launch of the kernel: no kernel image")

    monkeypatch.setattr("attributor.kernels.flow_step.cuda._cuda.flow_step", refuse)
    match = r"^implementation 'cuda' failed: launch of the kernel.*use impl='triton'$"
    refused(args, ImplementationFailure, ImplementationError, match)


@pytest.fixture
def machine(monkeypatch, step):
    """Simulate a machine with these GPUs, by name and compute capability."""

    def put(**gpus):
        implementations._probe_cuda.cache_clear()
        names, capabilities = list(gpus), list(gpus.values())

        def number(device):
            return device if isinstance(device, int) else device.index or 0

        monkeypatch.setattr("torch.cuda.is_available", lambda: bool(gpus))
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(gpus))
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: names[number(device)])
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capabilities[number(device)])

    return put


@pytest.fixture(autouse=True)
def _asked_anew():
    yield
    implementations._probe_cuda.cache_clear()


def found():
    implementations._probe_cuda.cache_clear()
    return {entry.name: entry for entry in implementations.list_availability()}["cuda"]


def test_the_kernel_requires_a_hopper(machine, monkeypatch):
    machine()
    assert not found().usable
    assert "finds no NVIDIA GPU" in found().reason
    machine(A100=(8, 0), B200=(10, 0))
    assert not found().usable
    assert "capability 9.0 (Hopper); there is A100 (8.0), B200 (10.0); use impl='triton'" in found().reason
    machine(A100=(8, 0), H100=(9, 0))
    assert found().usable
    assert found().reason == "CUDA 12.9 on H100; by name only"
    monkeypatch.setattr("attributor._cuda.versions", lambda: (12040, 13000))
    assert not found().usable
    assert found().reason == "the driver is of CUDA 12.4, the kernel was built by 13.0"


def test_a_build_without_the_kernel_is_reported(monkeypatch):
    implementations._probe_cuda.cache_clear()
    monkeypatch.setattr("attributor._step.implementations.find_spec", lambda name: None)
    assert not found().usable
    assert "built without the CUDA kernel, which needs nvcc" in found().reason
    with pytest.raises(ImplementationError, match="nvcc"):
        implementations.choose_impl("cuda", CUDA, BF16)


def test_the_kernel_is_chosen_by_name_only(machine, monkeypatch):
    machine(H100=(9, 0), A100=(8, 0))
    assert implementations.choose_impl(None, CUDA, BF16, 128) != "cuda"
    assert implementations.choose_impl("cuda", CUDA, BF16, 128) == "cuda"
    assert implementations.choose_impl("cuda", CUDA, torch.float16, 256) == "cuda"
    monkeypatch.setenv("ATTRIBUTOR_IMPL", "cuda")
    assert implementations.choose_impl(None, CUDA, BF16, 128) == "cuda"


def test_the_command_line_checks_the_kernel_before_a_model_is_loaded(machine):
    machine(H100=(9, 0))
    assert check_settings(Settings(impl="cuda", model=None)) is not None
    machine(A100=(8, 0))
    with pytest.raises(ImplementationError, match="Hopper"):
        check_settings(Settings(impl="cuda", model=None))


@pytest.mark.parametrize(
    ("device", "dtype", "D", "gradient", "match"),
    [
        (CPU, BF16, 128, False, r"needs tensors on a GPU, got cpu; use impl='cpu'"),
        (CUDA, torch.float32, 128, False, r"takes bfloat16 or float16 queries, got torch.float32; use impl='triton'"),
        (CUDA, torch.float64, 128, False, r"got torch.float64; use impl='reference'"),
        (CUDA, BF16, 300, False, r"up to 256 elements, got 300; use impl='reference'"),
        (CUDA, BF16, 128, True, r"has no gradient; use impl='reference'"),
        (torch.device("cuda", 1), BF16, 128, False, r"capability 9.0 \(Hopper\), got A100 \(8.0\); use impl='triton'"),
    ],
)
def test_an_unsupported_call_is_refused(machine, device, dtype, D, gradient, match):
    machine(H100=(9, 0), A100=(8, 0))
    with pytest.raises(ImplementationError, match=match):
        implementations.choose_impl("cuda", device, dtype, D, gradient=gradient)
