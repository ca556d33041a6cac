"""Collects and prints what `attributor info` shows: versions, usable implementations, and why others are missing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["collect_info", "print_info"]

PACKAGES = ("attributor", "torch", "transformers", "tokenizers", "safetensors", "numpy", "triton", "accelerate", "gguf")


def collect_info() -> dict[str, Any]:
    """All facts as plain data. It imports torch, but not transformers."""
    import torch

    from attributor._models import DEFAULT_MODEL, cache_folder, converted_folder
    from attributor._step import describe_instruction_sets, list_availability

    implementations = list_availability()
    total, available = _memory()
    copy = converted_folder()
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": {
            "name": _cpu_name(),
            "isa": describe_instruction_sets(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "implementations": [{"name": e.name, "usable": e.usable, "reason": e.reason} for e in implementations],
        "forced_implementation": os.environ.get("ATTRIBUTOR_IMPL") or None,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "memory": {"total_bytes": total, "available_bytes": available},
        "cache": str(cache_folder()),
        "default_model": {
            "name": DEFAULT_MODEL,
            "in_hub_cache": _in_hub_cache(DEFAULT_MODEL),
            "converted_copy": None if copy is None else str(copy),
        },
    }


def print_info(console: Console, info: dict[str, Any]) -> None:
    """Print what `collect_info` returns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    versions = info["versions"]
    table.add_row("attributor", Text(versions["attributor"] or "not installed"))
    others = ", ".join(
        f"{name} {installed}" for name, installed in versions.items() if installed and name != "attributor"
    )
    table.add_row("packages", Text(others))
    table.add_row("missing", Text(", ".join(name for name, installed in versions.items() if not installed) or "none"))
    table.add_row("system", Text(info["platform"]))
    cpu = info["cpu"]
    table.add_row("CPU", Text(f"{cpu['name']}, {cpu['cores']} cores, {cpu['threads']} torch threads"))
    table.add_row("ISA", Text(cpu["isa"]))
    memory = info["memory"]
    table.add_row(
        "memory", Text(f"{_gigabytes(memory['available_bytes'])} available of {_gigabytes(memory['total_bytes'])}")
    )
    table.add_row("GPUs", Text(", ".join(info["devices"]) or "none that this torch can use"))
    for number, entry in enumerate(info["implementations"]):
        state = Text("usable   ", "green") if entry["usable"] else Text("missing  ", "yellow")
        line = Text.assemble(f"{entry['name']:<10}", state, entry["reason"])
        table.add_row("flow_step" if number == 0 else "", line)
    if forced := info["forced_implementation"]:
        table.add_row("", Text(f"ATTRIBUTOR_IMPL forces {forced}"))
    table.add_row("cache", Text(info["cache"]))
    default = info["default_model"]
    where = "not here yet: the first run fetches it"
    if default["in_hub_cache"]:
        where = "in the hub's cache"
    elif default["converted_copy"]:
        where = f"in {default['converted_copy']}"
    table.add_row("default model", Text(f"{default['name']}: {where}"))
    console.print(table)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory() -> tuple[int | None, int | None]:
    """Bytes of memory, total and available to new programs; None if they cannot be read."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        limit = _container_limit()
        return (total, available) if limit is None else (min(total, limit), min(available, limit))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, OSError, ValueError):  # Windows
        return None, None


def _container_limit() -> int | None:
    """The bytes that a container may use; None without a limit."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", "model.safetensors"))
