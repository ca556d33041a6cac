"""Describe the GPU and the packages of this Python, in JSON: python -m gpu.probe. Fails where no GPU is usable."""

import json
import platform
import sys

import pytest
import torch
import transformers
import triton

from attributor._step.implementations import list_availability

if __name__ == "__main__":
    reasons = {entry.name: entry.reason for entry in list_availability() if not entry.usable}
    if "triton" in reasons:
        sys.exit(reasons["triton"])
    torch.zeros(1, device="cuda").item()  # fails if torch has no code for this GPU
    device = torch.cuda.get_device_properties(0)
    versions = {"python": platform.python_version(), "cuda": torch.version.cuda, "hip": torch.version.hip}
    versions |= {package.__name__: package.__version__ for package in (torch, triton, transformers, pytest)}
    print(json.dumps({"device": {"name": device.name, "memory": device.total_memory}, "versions": versions}))
