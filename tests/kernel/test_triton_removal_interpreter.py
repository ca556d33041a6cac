"""removal_step's Triton kernel under Triton's interpreter agrees with the definition in float64.

The cases are in triton_removal_interpreter.py, which runs in its own process. The budget is that of every
implementation: twice the error of the reference in float32 plus a floor, relative to the sizes of the terms.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from removal_step_cases import FLOOR

pytest.importorskip("triton.language", reason="triton is not installed")

SCRIPT = Path(__file__).parents[1] / "helpers" / "triton_removal_interpreter.py"


@pytest.fixture(scope="module")
def lines():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, SCRIPT], cwd=SCRIPT.parent, env=environment, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def results(lines):
    return [line for line in lines if line["name"] != "checked"]


def test_every_case_is_within_the_budget(results):
    """Also for small sums: the error of a key is bounded relative to the largest sum of sizes."""
    assert not [r for r in results if r["error"] > 2 * r["budget"] + FLOOR or r["largest"] > 1e-5]
    assert all(r["finite"] and r["dtype"] == "torch.float64" for r in results)


def test_keys_without_rows_are_exactly_zero(results):
    """Such keys have only rows before the stop, outside the window or with dO = 0; other cases have nonzero keys."""
    assert all(r["zeros"] for r in results)
    nothing = ("N 1", "window 1", "no row", "one document")
    for r in results:
        assert (r["size"] == 0) == r["name"].endswith(nothing), r["name"]


def test_the_same_bits_every_time(results):
    assert all(r["same bits"] for r in results)


def test_the_cases_reach_every_kind_of_tile(results):
    names = {r["name"] for r in results}
    assert len(names) == len(results) > 90
    for kind in ("block", "tall", "wide", "streamed", "real 0", "real 80", "real 90"):
        assert sum(name.startswith(kind + " ") for name in names) >= 3


def test_removal_step_runs_it_by_name(lines):
    assert lines[-1] == {"name": "checked", "same": True}
