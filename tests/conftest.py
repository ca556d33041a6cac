"""Shared by all tests: quiet libraries, two threads; helpers beside this file and bench/gpu can be imported."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "bench")]
torch.set_num_threads(min(2, os.cpu_count() or 1))
