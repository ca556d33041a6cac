"""Settings of all tests: quiet libraries, few threads, and imports from tests/helpers and bench/gpu."""

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

gc.disable()  # import and collection make almost no garbage, and searching for it takes a third of their time
sys.path[:0] = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parents[1] / "bench")]
if "PYTEST_XDIST_WORKER" in os.environ:  # each core has its own worker process, also for the programs that it starts
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
elif "OMP_NUM_THREADS" not in os.environ:  # otherwise the variable sets the number of torch threads
    torch.set_num_threads(min(2, os.cpu_count() or 1))


def pytest_collection_finish():
    """Enable garbage collection for objects made by the tests."""
    gc.collect()
    gc.freeze()
    gc.enable()
