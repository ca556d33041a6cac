"""Settings of all CPU benchmarks: the number of threads and the description of the machine in the results."""

import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

sys.path.insert(0, str(Path(__file__).parent))
THREADS = min(int(os.environ.get("BENCH_THREADS", "0")) or os.cpu_count() or 1, os.cpu_count() or 1)
torch.set_num_threads(THREADS)


def pytest_benchmark_update_machine_info(config, machine_info):
    """Add the device, the versions and the implementation to the output of pytest-benchmark."""
    import transformers

    import attributor
    from attributor._step.implementations import list_availability

    machine_info["attributor"] = {
        "cpu": machine_info.get("cpu", {}).get("brand_raw") or platform.processor(),
        "threads": THREADS,
        "implementations": {entry.name: entry.reason for entry in list_availability()},
        "attributor": attributor.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Keep only the statistics; single measurements would make the file long without more information."""
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
