"""How much memory a recording takes, what a device had at most, and what to do where it was not enough."""

import gc
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from attributor import _routes
from attributor._errors import DeviceMemoryError
from attributor._record import text_config

__all__ = ["devices", "is_full", "peak", "recorded_bytes", "too_small"]


# how torch says it where it has no exception of its own: on the CPU of each system, and from CUDA's libraries
FULL = (*_routes.FULL, "not enough memory", "can't allocate memory", "Cannot allocate memory")


def devices(model: Any) -> list[torch.device]:
    """The GPUs that hold parts of the model, each once."""
    found = {tensor.device for tensor in model.parameters()}
    return sorted((device for device in found if device.type == "cuda"), key=str)


def recorded_bytes(model: Any, heads: Tensor, N: int) -> int:
    """What queries and keys of the chosen heads take for N tokens.

    Args:
        model: a transformers decoder-only model.
        heads: (L, H), the chosen ones > 0.
        N: tokens that are read.
    """
    config = text_config(model)
    L, H = heads.shape
    D = getattr(config, "head_dim", None) or config.hidden_size // H
    G = getattr(config, "num_key_value_heads", None) or H
    groups = max(1, H // G)
    chosen = (heads > 0).reshape(L, H // groups, groups) if H % groups == 0 else (heads > 0)[..., None]
    many = int((heads > 0).sum()) + int(chosen.any(-1).sum())
    size = torch.empty(0, dtype=getattr(model, "dtype", torch.float32)).element_size()
    return many * N * int(D) * size


def peak(found: Iterable[torch.device]) -> int:
    """The most that torch held on each of these GPUs since their peak was last reset, added up, in bytes."""
    return sum(torch.cuda.max_memory_allocated(device) for device in found)


def is_full(error: BaseException) -> bool:
    """Whether it says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in FULL)
    )


def too_small(model: Any, heads: Tensor, N: int, keep: str) -> DeviceMemoryError:
    """The error that says what was needed and what would fit; what torch holds without need is given back first."""
    gc.collect()
    needed = recorded_bytes(model, heads, N)
    said = f"out of memory: queries and keys of {int((heads > 0).sum()):,} heads for {N:,} tokens take {_gb(needed)}"
    found = devices(model)
    if found:
        torch.cuda.empty_cache()
        for device in found:
            free, total = torch.cuda.mem_get_info(device)
            said += f"; {device} has {_gb(total)}, and without them {_gb(free)} free"
    host = "keep='host' keeps them in main memory; " if found and keep != "host" else ""
    return DeviceMemoryError(
        f"{said}. What may fit: {host}weights with fewer heads (weights='retrieval'), 16-bit numbers, a shorter prompt"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
