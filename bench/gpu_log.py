"""What a benchmark or test found, one JSON line each, so that a run that is cut off leaves what it has.

The file is named by ATTRIBUTOR_GPU_LOG, which `gpu_check.py` sets; without it nothing is written.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["attempt", "note", "read", "reason"]


def note(kind: str, **found: Any) -> dict[str, Any]:
    """Append one finding ("ceiling", "step", "flow", "test" ...) and return it."""
    if path := os.environ.get("ATTRIBUTOR_GPU_LOG"):
        line = json.dumps({"kind": kind, **found}) + "\n"
        with Path(path).open("ab", buffering=0) as file:  # one write, so that processes do not mix their lines
            file.write(line.encode())
    return found


def read(path: Path) -> list[dict[str, Any]]:
    """Every whole line; the last one may have been cut off."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def reason(error: BaseException) -> str:
    """Why something could not be measured: the first line that says anything, cut to fit a table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'without a message'}"[:200]


def attempt(name: str, work: Callable[[], Any]) -> Any:
    """What the work returns, or {"missing": why} where the device or its libraries refuse it."""
    try:
        return work()
    except (RuntimeError, NotImplementedError, TypeError, AttributeError, ImportError) as error:
        print(f"    {name}: not measured: {reason(error)}", flush=True)
        return {"missing": reason(error)}
