"""Checks whether a model fits into memory: its size comes from its files' headers, the free memory from the system."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from attributor._errors import DeviceMemoryError
from attributor.web.live.runs import format_bytes

__all__ = ["available", "budget", "check_fits", "count_stored_numbers", "needed_bytes", "total"]

BUDGET_SHARE, BUDGET_MOST = 0.25, 4 << 30  # of the machine's memory, for recordings and flows
HEADER_MOST = 100 << 20  # bytes; the limit of the format's own reader
BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
}  # fmt: skip
FLOATS = {"F64", "F32", "F16", "BF16"}
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


def total() -> int | None:
    """Bytes of main memory that this process may use; None if they are unknown."""
    return _memory()[0]


def available(device: str = "cpu") -> int | None:
    """Free bytes of main memory ("cpu"), of one GPU ("cuda", "cuda:1"), or of all devices ("auto", ...).

    None if they are unknown.
    """
    main = _memory()[1]
    if device == "cpu" or not torch.cuda.is_available():
        return main
    count = torch.cuda.device_count()
    if device == "cuda" or device in [f"cuda:{index}" for index in range(count)]:
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return sum(torch.cuda.mem_get_info(index)[0] for index in range(count)) + (main or 0)


def budget() -> int:
    """Bytes that recordings and flows may take by default: a quarter of the memory, at most 4 GiB."""
    everything = total()
    return BUDGET_MOST if everything is None else int(min(everything * BUDGET_SHARE, BUDGET_MOST))


def count_stored_numbers(folder: Path) -> dict[str, int]:
    """How many numbers of each dtype ("F32", "BF16" ...) a folder's weights have, by their headers; {} if unknown."""
    names = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    ours = [path for name, path in names.items() if name.startswith("model")] or list(names.values())
    counts: dict[str, int] = {}
    try:
        for path in ours:
            for dtype, shape in _header(path):
                numbers = 1
                for edge in shape:
                    numbers *= edge
                counts[dtype] = counts.get(dtype, 0) + numbers
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # a broken file: reading it raises its own error
    return counts


def needed_bytes(counts: Mapping[str, int], dtype: str) -> int:
    """Bytes that these numbers take when they are loaded as `dtype`; "auto" keeps the stored dtype."""
    return sum(
        count * (SIZES[dtype] if dtype in SIZES and stored_as in FLOATS else BYTES.get(stored_as, 1))
        for stored_as, count in counts.items()
    )


def check_fits(name: str, counts: Mapping[str, int], dtype: str, device: str, freed: int = 0) -> None:
    """Refuse a model that does not fit, before any of it is read.

    Args:
        name: of the model, for the message.
        counts: from `count_stored_numbers`; {} if they are unknown, then nothing is refused.
        dtype: in which it will be loaded.
        device: a device_map.
        freed: bytes of the previous model, which is dropped first.

    Raises:
        DeviceMemoryError: it does not fit; the message has the needed and the free bytes.
    """
    free = available(device)
    if not counts or free is None:
        return
    need, room = needed_bytes(counts, dtype), free + freed
    if need <= room:
        return
    half = needed_bytes(counts, "bfloat16")
    if half <= room:
        advice = f"dtype bfloat16 needs {format_bytes(half)}"
    elif half < need * 0.75:
        advice = f"dtype bfloat16 needs {format_bytes(half)}, still too much: take a smaller model, or free memory"
    else:
        advice = "take a smaller model, or free memory"
    where = "" if device == "cpu" else f" on {'all devices' if device == 'auto' else device}"
    raise DeviceMemoryError(f"{name} needs about {format_bytes(need)}, {format_bytes(room)} are free{where}: {advice}")


def weights_bytes(model: Any) -> int:
    """Bytes of a loaded model's parameters."""
    return sum(parameter.nbytes for parameter in model.parameters())


def _header(path: Path) -> Iterable[tuple[str, list[int]]]:
    """(dtype, shape) of each tensor in a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= HEADER_MOST:
            raise ValueError(f"a header of {length} bytes")
        fields = json.loads(file.read(length))
    return [(entry["dtype"], entry["shape"]) for name, entry in fields.items() if name != "__metadata__"]


def _memory() -> tuple[int | None, int | None]:
    """Bytes of main memory, total and free; a container's limit counts."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        everything, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):  # not Linux
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
        except (AttributeError, OSError, ValueError):  # Windows
            return None, None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text("ascii"))
        held = int((group / "memory.current").read_text("ascii"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        left = limit - held + int(cached.get("inactive_file", 0))
    except (OSError, ValueError):  # no limit
        return everything, free
    return min(everything, limit), max(0, min(free, left))
