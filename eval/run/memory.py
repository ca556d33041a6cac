"""Measures the peak memory of this process."""

import re
import sys
from pathlib import Path
from typing import Any

from attributor._flow import gpus_of, peak_memory

__all__ = ["peak_bytes"]


def peak_bytes(model: Any) -> int | None:
    """Bytes: allocated on the model's GPUs where it is on any, else resident in main memory; None where unknown."""
    if gpus := gpus_of(model):
        return peak_memory(gpus)
    try:
        # not getrusage first: on Linux it begins with what the parent process had in memory
        if match := re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii")):
            return int(match[1]) * 1024
    except (OSError, UnicodeDecodeError):
        pass
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
