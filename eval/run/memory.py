"""Measures the peak memory of this process."""

import re
import sys
from pathlib import Path
from typing import Any

from attributor._flow import gpus_of, peak_memory

__all__ = ["peak_bytes"]


def peak_bytes(model: Any) -> int | None:
    """Return the peak in bytes: allocated on the model's GPUs if it has any, else resident in main memory; or None."""
    if gpus := gpus_of(model):
        return peak_memory(gpus)
    try:
        # getrusage comes second: on Linux its value starts at the memory of the parent process
        if match := re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii")):
            return int(match[1]) * 1024
    except (OSError, UnicodeDecodeError):
        pass
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
