"""Estimate a recording's memory, read the peak of a GPU, and build the out-of-memory error."""

import gc
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from attributor import _record
from attributor._errors import DeviceMemoryError
from attributor._models import ModelFacts, model_facts

__all__ = ["gpus_of", "is_out_of_memory", "out_of_memory_error", "peak_memory", "recorded_bytes"]

# messages of errors for which torch has no exception class: from CPU allocators and CUDA's libraries
OUT_OF_MEMORY_MESSAGES = (
    *_record.OUT_OF_MEMORY_MESSAGES,
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
)


def gpus_of(model: Any) -> list[torch.device]:
    """The GPUs that hold parts of the model, each once."""
    devices = {tensor.device for tensor in model.parameters()}
    return sorted((device for device in devices if device.type == "cuda"), key=str)


def recorded_bytes(facts: ModelFacts, heads: Tensor, N: int) -> int:
    """Bytes that queries and keys of the chosen heads take for N tokens.

    Args:
        facts: of the model.
        heads: (L, H), the chosen ones > 0.
        N: tokens that are read.
    """
    L, H = heads.shape
    groups = max(1, H // facts.kv_heads)
    chosen = (heads > 0).reshape(L, H // groups, groups) if H % groups == 0 else (heads > 0)[..., None]
    many = int((heads > 0).sum()) + int(chosen.any(-1).sum())
    return many * N * facts.head_size * facts.dtype.itemsize


def peak_memory(gpus: Iterable[torch.device]) -> int:
    """The most that torch held on each of these GPUs since their peak was last reset, added up, in bytes."""
    return sum(torch.cuda.max_memory_allocated(device) for device in gpus)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_MESSAGES)
    )


def out_of_memory_error(model: Any, heads: Tensor, N: int, keep: str) -> DeviceMemoryError:
    """The error that says what was needed and what would fit; torch's unused cached memory is freed first."""
    gc.collect()
    needed = recorded_bytes(model_facts(model), heads, N)
    message = f"out of memory: queries and keys of {int((heads > 0).sum()):,} heads for {N:,} tokens take {_gb(needed)}"
    gpus = gpus_of(model)
    if gpus:
        torch.cuda.empty_cache()
        for device in gpus:
            free, total = torch.cuda.mem_get_info(device)
            message += f"; {device} has {_gb(total)}, and without them {_gb(free)} free"
    host = "keep='host' keeps them in main memory; " if gpus and keep != "host" else ""
    return DeviceMemoryError(
        f"{message}. What may fit: {host}weights with fewer heads (weights='retrieval'), 16-bit numbers, "
        "a shorter prompt"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
