"""Find the implementations of a step that can run here, and the reasons against the others.

A step is a folder of kernels/ (flow_step, removal_step); each of its implementations is a file there.
"""

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from attributor._checks import shorten_value
from attributor._errors import ImplementationError

__all__ = ["IMPLEMENTATIONS", "Availability", "choose_impl", "describe_instruction_sets", "list_availability"]

IMPLEMENTATIONS = ("cuda", "triton", "cpu", "reference")  # best first
OLDEST = (8, 0)  # compute capability that Triton and bfloat16 need
HOPPER = (9, 0)  # the only compute capability that has the instructions of the CUDA kernel
NEEDS_HOPPER = "needs a GPU of compute capability 9.0 (Hopper)"


@dataclass(frozen=True)
class Availability:
    """Whether one implementation can run here.

    Attributes:
        name: one of ``IMPLEMENTATIONS``.
        usable: True when calls with ``impl=name`` can run.
        reason: the version or device if usable, what is missing if not.
    """

    name: str
    usable: bool
    reason: str


def _probe_cpu() -> Availability:
    try:
        from attributor import _core
    except ImportError as error:
        return Availability(
            "cpu", False, f"the C++ extension is not installed ({error}); pip install . with a C++ compiler"
        )
    return Availability("cpu", True, f"C++, {_core.isa()} of {', '.join(_core.isas())}")


@functools.cache
def _probe_triton() -> Availability:
    """Probe once per process: this imports triton, and `TRITON_INTERPRET` only has an effect before that."""
    availability = functools.partial(Availability, "triton")
    try:
        import triton.language  # `import triton` alone accepts a folder with this name
    except Exception as error:  # a broken installation may raise any error; the other implementations still work
        return availability(False, f"triton is not installed ({error}); pip install triton, on Linux")
    version = triton.__version__
    try:
        from attributor.kernels.flow_step.triton import is_interpreted
    except Exception as error:
        return availability(False, f"triton {version} cannot read the kernel: {error}")
    if is_interpreted():
        return availability(True, f"triton {version}, interpreted on the CPU, for tests (TRITON_INTERPRET=1)")
    if not torch.cuda.is_available():
        return availability(False, f"triton {version} is installed, but torch {torch.__version__} finds no GPU")
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()) if _runs_triton(i)}
    if not names:
        return availability(
            False, f"triton {version} needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} or later"
        )
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return availability(False, f"triton {version} needs a C compiler for its launcher; install gcc or set CC")
    return availability(True, f"triton {version} on {', '.join(sorted(names))}")


@functools.cache
def _probe_cuda() -> Availability:
    """Probe once per process, not once per layer."""
    availability = functools.partial(Availability, "cuda")
    if find_spec("attributor._cuda") is None:
        return availability(False, "built without the CUDA kernel, which needs nvcc 12.3 or later when installing")
    try:
        from attributor import _cuda
    except ImportError as error:
        return availability(False, f"the extension cannot be loaded: {error}")
    if torch.version.hip is not None or not torch.cuda.is_available():
        return availability(False, f"the kernel is built, but torch {torch.__version__} finds no NVIDIA GPU")
    devices = range(torch.cuda.device_count())
    names = {torch.cuda.get_device_name(i) for i in devices if _is_hopper(i)}
    if not names:
        others = ", ".join(sorted({_describe_gpu(i) for i in devices}))
        return availability(False, f"{NEEDS_HOPPER}; there is {others}; use impl='triton'")
    driver, runtime = _cuda.versions()
    if driver // 1000 < runtime // 1000:
        return availability(
            False,
            f"the driver is of CUDA {_format_version(driver)}, the kernel was built by {_format_version(runtime)}",
        )
    return availability(True, f"CUDA {_format_version(runtime)} on {', '.join(sorted(names))}; by name only")


def _format_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _is_hopper(device: torch.device | int | None) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) == HOPPER


def _describe_gpu(device: torch.device | int | None) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} ({major}.{minor})"


def _is_interpreted() -> bool:
    from attributor.kernels.flow_step.triton import is_interpreted

    return bool(is_interpreted())


def _runs_triton(device: torch.device | int | None) -> bool:
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= OLDEST


PROBES: dict[str, Callable[[], Availability]] = {
    "cuda": _probe_cuda,
    "triton": _probe_triton,
    "cpu": _probe_cpu,
    "reference": lambda: Availability("reference", True, f"pure torch {torch.__version__}, any device"),
}


@functools.cache
def _has_implementation(step: str, name: str) -> bool:
    return find_spec(f"attributor.kernels.{step}.{name}") is not None


def list_availability(step: str = "flow_step") -> tuple[Availability, ...]:
    """One entry per implementation of the step, best first."""
    return tuple(PROBES[name]() for name in IMPLEMENTATIONS if _has_implementation(step, name))


def choose_impl(
    impl: str | None,
    device: torch.device,
    dtype: torch.dtype,
    head_size: int = 1,
    *,
    gradient: bool = False,
    step: str = "flow_step",
) -> str:
    """Choose the implementation for `dtype` queries on `device`: `impl`, ``ATTRIBUTOR_IMPL``, or the best usable one.

    Without a name it is `triton` on a GPU and `cpu` on a CPU. It is the reference if those cannot run the call:
    float64, a gradient, heads of more than 256 elements on a GPU, a `step` that they lack. `cuda` is never chosen
    automatically, because no GPU has run it so far.

    Raises:
        ImplementationError: a named implementation is unknown, lacks `step`, is not usable here, cannot run on
            `device`, `dtype` or `head_size`, or lacks a needed `gradient`.
    """
    if impl is not None and not isinstance(impl, str):
        raise ImplementationError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}, got {shorten_value(impl)}")
    name = impl or os.environ.get("ATTRIBUTOR_IMPL") or None
    if name is None:
        native = {"cpu": "cpu", "cuda": "triton"}.get(device.type, "reference")
        if not _has_implementation(step, native) or not PROBES[native]().usable:
            return "reference"
        return "reference" if _reason_against(native, device, dtype, head_size, gradient) else native
    if name not in PROBES:
        raise ImplementationError(
            f"unknown implementation {shorten_value(name)}; there are {', '.join(IMPLEMENTATIONS)}"
        )
    if not _has_implementation(step, name):
        others = [
            f"impl={other.name!r}"
            for other in list_availability(step)
            if other.usable and not _reason_against(other.name, device, dtype, head_size, gradient)
        ]
        raise ImplementationError(f"implementation {name!r} has no {step}; use {' or '.join(others)}")
    availability = PROBES[name]()
    if not availability.usable:
        raise ImplementationError(f"implementation {name!r} cannot be used here: {availability.reason}")
    reason = _reason_against(name, device, dtype, head_size, gradient)
    if reason:
        raise ImplementationError(f"implementation {name!r} {reason}")
    return name


def _reason_against(name: str, device: torch.device, dtype: torch.dtype, head_size: int, gradient: bool) -> str | None:
    """Why the implementation cannot run such a call, and what would work; None if it can."""
    if name == "reference":
        return None
    if name == "cpu" and device.type != "cpu":
        return f"needs tensors on the CPU, got {device}; use impl='reference'"
    if name == "cuda":
        reason = _reason_against_cuda(device, dtype, head_size)
        if reason:
            return reason
    if name == "triton":
        from attributor.kernels.flow_step.tiles import MAX_HEAD_SIZE

        if device.type == "cpu" and not _is_interpreted():
            return f"needs tensors on a GPU, got {device}; use impl='cpu' or impl='reference'"
        if device.type not in ("cpu", "cuda"):
            return f"needs tensors on a GPU that torch calls cuda, got {device}; use impl='reference'"
        if device.type == "cuda" and not _runs_triton(device):
            return f"needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} or later; use impl='reference'"
        if head_size > MAX_HEAD_SIZE:
            return f"takes heads of up to {MAX_HEAD_SIZE} elements, got {head_size}; use impl='reference'"
    if dtype == torch.float64:
        return "computes in float32; float64 queries need impl='reference'"
    if gradient:
        return "has no gradient; use impl='reference', or call it under torch.no_grad()"
    return None


def _reason_against_cuda(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    from attributor.kernels.flow_step.cuda import DTYPES, MAX_HEAD_SIZE

    if device.type != "cuda":
        return f"needs tensors on a GPU, got {device}; use impl='cpu' or impl='reference'"
    if not _is_hopper(device):
        return f"{NEEDS_HOPPER}, got {_describe_gpu(device)}; use impl='triton'"
    if head_size > MAX_HEAD_SIZE:
        return f"takes heads of up to {MAX_HEAD_SIZE} elements, got {head_size}; use impl='reference'"
    if dtype not in DTYPES:
        other = "reference" if dtype == torch.float64 else "triton"
        return f"takes bfloat16 or float16 queries, got {dtype}; use impl='{other}'"
    return None


def describe_instruction_sets() -> str:
    """The instruction set that the C++ code uses on this CPU, and the usable ones; without C++ code, torch's."""
    try:
        from attributor import _core
    except ImportError:
        return f"{torch.backends.cpu.get_cpu_capability()} (torch; no C++ extension)"
    return f"{_core.isa()} (usable: {', '.join(_core.isas())})"
