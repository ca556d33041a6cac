"""Shared by all tests: quiet libraries, few threads; tests/helpers and bench/gpu can be imported."""

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

gc.disable()  # hardly anything that is imported or collected is garbage, and looking for it takes a third of that time
sys.path[:0] = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parents[1] / "bench")]
if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a process of its own, and so do the programs that it starts
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
elif "OMP_NUM_THREADS" not in os.environ:  # else torch has as many threads as that says
    torch.set_num_threads(min(2, os.cpu_count() or 1))


def pytest_collection_finish():
    """Search for garbage from now on, in what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()
