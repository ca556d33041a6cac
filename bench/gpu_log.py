"""What a benchmark or test found, one JSON line each, so that a run that is cut off leaves what it has.

The file is named by ATTRIBUTOR_GPU_LOG, which `gpu_check.py` sets; without it nothing is written.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["attempt", "merge", "note", "read", "reason"]

# Findings of the log, and the lists that they come into
NAMES = {
    "ceiling": "ceilings",
    "step": "steps",
    "tuning": "tunings",
    "ncu": "ncu",
    "flow": "flows",
    "record": "records",
    "keep": "keeps",
    "stock": "stocks",
    "matrices": "matrices",
    "sanitizer": "sanitizer",
}


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


def merge(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The lines of the log, sorted by what they are about; of what was measured twice the later."""
    lists: dict[str, dict[Any, dict[str, Any]]] = {kind: {} for kind in (*NAMES, "test", "bench")}
    for line in found:
        kind = line.pop("kind")
        if kind not in lists:  # that a test began
            continue
        what = line.get("test") or line.get("name") or line.get("tool") or (line.get("model"), line.get("tokens"))
        lists[kind][(what, line.get("kernel"), line.get("step"))] = line
    tests = list(lists["test"].values())
    outcomes = {name: sum(test["outcome"] == name for test in tests) for name in ("passed", "failed", "skipped")}
    return {
        **{name: list(lists[kind].values()) for kind, name in NAMES.items()},
        "tests": {
            **outcomes,
            "not passed": [test for test in tests if test["outcome"] != "passed"],
            "seconds": round(sum(test["seconds"] for test in tests), 1),
        },
        "benchmarks that failed": [line for line in lists["bench"].values() if line["outcome"] == "failed"],
    }


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
