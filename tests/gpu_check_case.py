"""A run of bench/gpu_check.py on a GPU that is made up, for the tests of its machinery."""

import importlib

__all__ = ["H100", "module", "new_check"]

H100 = {
    "executable": "python3",
    "torch": "2.11.0",
    "cuda": "13.0",
    "hip": None,
    "available": True,
    "count": 1,
    "name": "NVIDIA H100 80GB HBM3",
    "capability": [9, 0],
    "memory": 80 << 30,
    "processors": 132,
    "l2": 50 << 20,
    "python": "3.12.1",
}


def module(name):
    """A module of bench/, which the test has put on the path."""
    return importlib.import_module(name)


def new_check(tmp_path, monkeypatch):
    """A run of 100 seconds whose results and work lie in `tmp_path`."""
    gpu_check = module("gpu_check")
    monkeypatch.setattr(gpu_check, "RESULTS", tmp_path / "results")
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    options = gpu_check.arguments([*places, "--budget", "100", "--commit", "0123456789ab"])
    return gpu_check.Check(dict(H100), options)
