"""What gpu_check.py asks before anything runs: the Python and its GPU, the driver, the commit. Imports no torch."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["commit", "driver", "probe", "unusable"]

ROOT = Path(__file__).parents[1]
PROBE = """
import json, platform, sys
found = {"python": platform.python_version(), "executable": sys.executable}
try:
    import torch
    found |= {"torch": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}
    found["available"] = torch.cuda.is_available()
    found["count"] = torch.cuda.device_count()
    if found["available"]:
        p = torch.cuda.get_device_properties(0)
        found |= {"name": p.name, "capability": [p.major, p.minor], "memory": p.total_memory,
                  "processors": p.multi_processor_count, "l2": getattr(p, "L2_cache_size", None)}
        torch.zeros(1, device="cuda").item()
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
import importlib.metadata as m
for name in ("triton", "transformers", "numpy", "pytest", "pytest-benchmark", "accelerate", "matplotlib"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def probe(python: str) -> dict[str, Any]:
    """What that Python finds: versions, and the GPU as torch sees it."""
    try:
        ran = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=300)
        return json.loads(ran.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, json.JSONDecodeError) as error:
        return {"executable": python, "error": f"{python} could not be asked ({type(error).__name__})"}


def unusable(found: dict[str, Any]) -> str | None:
    """The sentence that says why this GPU, or none, will not do; None where it will."""
    wanted = "gpu-check needs a GPU of compute capability 8.0 or later that torch can use"
    where = f"{found['executable']} (GPU_PYTHON=... names another)"
    if "torch" not in found:
        return f"{wanted}, and torch cannot be imported by {where}: {found.get('error')}"
    if not found["cuda"] and not found.get("hip"):
        return f"{wanted}; torch {found['torch']} of {where} was built without CUDA"
    if not found.get("available"):
        return f"{wanted}; torch {found['torch']} of {where} finds no GPU (is there a driver?)"
    if "error" in found:
        return f"{wanted}; {found.get('name', 'the GPU')} does not compute: {found['error']}"
    if not found.get("hip") and found["capability"] < [8, 0]:
        return f"{wanted}; {found['name']} has {'.'.join(map(str, found['capability']))}"
    return None


def driver() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; nothing where it is absent."""
    asked = ("driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit", "mig.mode.current")
    if not (tool := shutil.which("nvidia-smi")):
        return {}
    command = [tool, f"--query-gpu={','.join(asked)}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in said.stdout.strip().split(",")]
    return dict(zip(asked, values, strict=True)) if len(values) == len(asked) and not said.returncode else {}


def commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout, and whether files differ from it; None where git does not say."""
    try:
        head, changed = (
            subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True, timeout=20)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    return (head.stdout.strip(), bool(changed.stdout.strip())) if head.returncode == 0 else (None, None)
