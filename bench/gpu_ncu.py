"""What Nsight Compute (ncu) says of one launch of the CUDA kernel: how busy each unit is, and what warps wait for.

`command` is what the stage runs, which starts this file as the program to look into; `parse` reads what ncu prints.
"""

import csv
from typing import Any

__all__ = ["UNITS", "command", "main", "parse"]

SECTIONS = ("SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "WarpStateStats", "LaunchStats")
# What is shown, by the first of these metrics that ncu has; versions differ in their names.
UNITS: dict[str, tuple[str, ...]] = {
    "multiprocessors": ("sm__throughput.avg.pct_of_peak_sustained_elapsed",),
    "tensor cores": (
        "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
        "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_tensor_op_gmma.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    ),
    "exponential unit": (
        "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_elapsed",
        "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active",
    ),
    "multipliers": (
        "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active",
    ),
    "instructions issued": ("sm__inst_issued.avg.pct_of_peak_sustained_active", "sm__instruction_throughput.avg.pct"),
    "L1 and shared memory": ("l1tex__throughput.avg.pct_of_peak_sustained_active",),
    "L2": ("lts__throughput.avg.pct_of_peak_sustained_elapsed",),
    "L2 hits": ("lts__t_sector_hit_rate.pct",),
    "device memory": (
        "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
        "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    ),
}
WANTED = [UNITS[name][0] for name in ("tensor cores", "exponential unit", "device memory")]  # in no section by itself
STALLED, ENDING = "smsp__average_warps_issue_stalled_", "_per_issue_active.ratio"
MILLISECONDS = {
    "ns": 1e-6,
    "nsecond": 1e-6,
    "us": 1e-3,
    "usecond": 1e-3,
    "ms": 1,
    "msecond": 1,
    "s": 1e3,
    "second": 1e3,
}
STALLS = 6  # reasons that are kept


def command(tool: str, python: str, *, metrics: bool = True) -> list[str]:
    """One launch, the second of its kind; clocks stay as they are. Without `metrics` only what every version knows."""
    found = [tool, "--csv", "--page", "raw", "--clock-control", "none", "--kernel-name", "regex:flow_step_kernel"]
    found += ["--launch-skip", "1", "--launch-count", "1"]
    found += [part for section in SECTIONS for part in ("--section", section)]
    return [*found, *(["--metrics", ",".join(WANTED)] if metrics else []), python, "bench/gpu_ncu.py"]


def parse(text: str) -> dict[str, Any]:
    """{"units": {name: percent}, "stalls": {reason: warps}, "milliseconds", "registers"} of what was printed.

    Raises:
        ValueError: there is no launch in it; with ncu's own words where it gave a reason.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    rows = list(csv.reader(lines[start : start + 3])) if start is not None else []
    if len(rows) < 3 or len(rows[2]) != len(rows[0]):
        said = [line.partition("==ERROR==")[2].strip() for line in lines if "==ERROR==" in line]
        raise ValueError(said[0] if said else "ncu printed no launch of the kernel")
    units = dict(zip(rows[0], rows[1], strict=False))
    values = {name: _number(value) for name, value in zip(rows[0], rows[2], strict=True)}
    known = {name: value for name, value in values.items() if value is not None}
    found = {}
    for label, names in UNITS.items():
        if name := next((name for name in names if name in known), None):
            found[label] = known[name]
    stalls = {
        name.removeprefix(STALLED).removesuffix(ENDING): value
        for name, value in known.items()
        if name.startswith(STALLED) and name.endswith(ENDING)
    }
    most = sorted(stalls, key=lambda reason: -stalls[reason])[:STALLS]
    time = "gpu__time_duration.sum"
    return {
        "units": found,
        "stalls": {reason: stalls[reason] for reason in most},
        "milliseconds": known[time] * MILLISECONDS[units[time]]
        if time in known and units[time] in MILLISECONDS
        else None,
        "registers": known.get("launch__registers_per_thread"),
    }


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def main() -> None:
    """The program that ncu looks into: the headline's call, twice."""
    from gpu_device import REHEARSAL, synchronize
    from gpu_shapes import HEADLINE, smaller
    from gpu_step import inputs_of, ours

    given = inputs_of(smaller(HEADLINE) if REHEARSAL else HEADLINE, 0)
    for _round in range(2):
        ours(given, "cuda")
    synchronize()


if __name__ == "__main__":
    main()
