"""The Triton kernel under Triton's interpreter agrees with the definition in float64.

The cases are in triton_interpreter.py, which runs in its own process. The budget is that of every implementation: twice
the error of the reference in float32, plus a floor.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attributor import ImplementationError, flow_step

pytest.importorskip("triton.language", reason="triton is not installed")

FLOOR = 1e-6
SCRIPT = Path(__file__).parents[1] / "helpers" / "triton_interpreter.py"


def python(*arguments, **environment):
    """Run a new Python process on one thread and return its standard output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=SCRIPT.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def results():
    return [json.loads(line) for line in python(str(SCRIPT)).splitlines()]


def test_every_case_is_within_the_budget(results):
    """Also for small values: the error of an element is bounded relative to the largest value of its row."""
    over = [r for r in results if r["error"] > 2 * r["budget"] + FLOOR or r["largest"] > 1e-5]
    assert not over
    assert all(r["finite"] and r["dtype"] == "torch.float32" for r in results)


def test_zeros_are_exact(results):
    assert all(r["zeros"] for r in results)
    nothing = {"nothing left", "one zero rows", "ahead zero rows"}  # these have a single row, which is zero
    for r in results:
        assert (r["size"] == 0) == any(r["name"].endswith(name) for name in nothing), r["name"]


def test_the_same_bits_every_time(results):
    assert all(r["same bits"] for r in results)


def test_the_cases_reach_every_kind_of_tile(results):
    names = {r["name"] for r in results}
    assert len(names) == len(results) > 200
    for kind in ("block", "one", "ahead", "tall", "wide", "memory", "real 0", "real 80", "real 90"):
        assert sum(name.startswith(kind + " ") for name in names) >= 9


def test_the_implementation_is_usable_under_the_interpreter():
    """It is usable by name but never the default, because it exists for tests."""
    code = """
import torch, attributor
from attributor._step.implementations import choose_impl, list_availability
found = {entry.name: entry for entry in list_availability()}["triton"]
assert found.usable and "TRITON_INTERPRET" in found.reason, found
cpu = torch.device("cpu")
assert choose_impl(None, cpu, torch.float32) != "triton"
torch.manual_seed(0)
args = torch.rand(3, 20), torch.randn(4, 20, 8), torch.randn(2, 20, 8), torch.full((4, 20), -3.0)
got = attributor.flow_step(*args, scale=0.3, window=7, impl="triton")
torch.testing.assert_close(got, attributor.flow_step(*args, scale=0.3, window=7, impl="reference"))
refused = {"dtype": (torch.float64, "float64"), "head_size": (257, "up to 256"), "gradient": (True, "gradient")}
for name, (value, match) in refused.items():
    try:
        choose_impl("triton", cpu, **{"dtype": torch.float32, name: value})
    except attributor.ImplementationError as error:
        assert match in str(error), error
    else:
        raise AssertionError(name)
"""
    python("-c", code, TRITON_INTERPRET="1", ATTRIBUTOR_IMPL="")


def test_without_the_interpreter_tensors_on_the_cpu_are_refused(monkeypatch):
    monkeypatch.delenv("ATTRIBUTOR_IMPL", raising=False)
    args = torch.rand(3, 20), torch.randn(4, 20, 8), torch.randn(2, 20, 8), torch.full((4, 20), -3.0)
    with pytest.raises(ImplementationError, match=r"no GPU|needs tensors on a GPU"):
        flow_step(*args, scale=0.3, impl="triton")
