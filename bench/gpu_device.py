"""Where the GPU benchmarks run and how they tell the time: CUDA events, or the host's clock in a rehearsal.

ATTRIBUTOR_GPU_REHEARSAL=reference (or triton, interpreted) walks everything on the CPU with tiny shapes, so that a
typing error does not cost time on a GPU. Its numbers mean nothing and are marked.
"""

import contextlib
import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

__all__ = [
    "DEVICE",
    "IMPL",
    "REHEARSAL",
    "allocated",
    "asked",
    "backend",
    "begin_peak",
    "cache_bytes",
    "free",
    "kernels",
    "peak",
    "synchronize",
    "timed",
    "why_not",
]

T = TypeVar("T")

REHEARSAL = os.environ.get("ATTRIBUTOR_GPU_REHEARSAL", "")
DEVICE = torch.device("cpu") if REHEARSAL else torch.device("cuda", 0)
IMPL = REHEARSAL or "triton"  # what a GPU gets


def kernels() -> list[str]:
    """The kernels for GPUs that can run here, first the one that a GPU gets; a rehearsal walks both by its own."""
    from attributor._backend import availability

    usable = {entry.name for entry in availability() if entry.usable}
    return ["triton", *(["cuda"] if REHEARSAL or "cuda" in usable else [])]


def asked() -> list[str]:
    """Those of them that ATTRIBUTOR_GPU_KERNELS names, "triton,cuda"; all without it."""
    names = os.environ.get("ATTRIBUTOR_GPU_KERNELS", "triton,cuda").split(",")
    return [name for name in kernels() if name in names]


def why_not() -> str | None:
    """Why nothing can be measured here; None where it can."""
    if REHEARSAL or torch.cuda.is_available():
        return None
    return f"needs a GPU: torch {torch.__version__} finds none (ATTRIBUTOR_GPU_REHEARSAL=reference walks it on the CPU)"


def timed(work: Callable[[], T], sdpa: str = "") -> tuple[float, T]:
    """Seconds on the device from an idle start to the last kernel's end, and what the work returned.

    `sdpa` names the backend that SDPA has to take, "flash" or "cudnn"; "" leaves the choice to torch.
    """
    with backend(sdpa):
        if DEVICE.type != "cuda":
            began = time.perf_counter()
            result = work()
            return time.perf_counter() - began, result
        torch.cuda.synchronize(DEVICE)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3, result


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)


def cache_bytes() -> int:
    """The second-level cache, which inputs must not fit into."""
    if DEVICE.type != "cuda":
        return 1 << 16
    return int(getattr(torch.cuda.get_device_properties(DEVICE), "L2_cache_size", 0)) or 50 << 20


def allocated() -> int:
    """Bytes that tensors hold on the device."""
    return torch.cuda.memory_allocated(DEVICE) if DEVICE.type == "cuda" else 0


def begin_peak() -> None:
    """Count the peak from here."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats(DEVICE)


def peak() -> int:
    """The most bytes that tensors held since `begin_peak`."""
    return torch.cuda.max_memory_allocated(DEVICE) if DEVICE.type == "cuda" else 0


def free() -> None:
    """Give back what nobody holds."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """SDPA takes this backend, or fails with what it says of the reasons; "" leaves the choice to torch."""
    if not name:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kernel = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with sdpa_kernel(kernel):
                yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = " ".join(str(warning.message).partition(" (Triggered")[0] for warning in said)
            raise RuntimeError(f"{why or error}") from error
