"""make gpu-check where there is no GPU: what it says, its stages and time limits, its build."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gpu_check_case import H100, module, new_check

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"


@pytest.fixture(autouse=True)
def _bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delenv("ATTRIBUTOR_GPU_LOG", raising=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"capability": [7, 5], "name": "Tesla T4"}, "; Tesla T4 has 7.5"),
        ({"available": False}, "torch 2.11.0 of python3 .* finds no GPU"),
        ({"cuda": None}, "torch 2.11.0 of python3 .* was built without CUDA"),
        ({"error": "AcceleratorError: no kernel image"}, "H100 80GB HBM3 does not compute: AcceleratorError"),
        ({"cuda": None, "hip": "7.0", "capability": [9, 4]}, None),
    ],
)
def test_which_gpus_will_do(changes, said):
    got = module("gpu_probe").unusable(H100 | changes)
    if said is None:
        assert got is None
    else:
        assert re.search(said, got)
        assert got.startswith("gpu-check needs a GPU of compute capability 8.0 or later")


def test_a_python_without_torch_is_named():
    missing = {"executable": "/opt/python", "error": "ModuleNotFoundError: No module named 'torch'"}
    assert "torch cannot be imported by /opt/python" in module("gpu_probe").unusable(missing)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_without_a_gpu_it_ends_with_one_sentence(tmp_path):
    # as if nobody's make had started us: it hands its variables down, and a make inside another one tells its folders
    inherited = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    outside = {name: value for name, value in os.environ.items() if name not in inherited}
    ran = subprocess.run(
        ["make", "gpu-check", f"GPU_PYTHON={sys.executable}", f"OUT={tmp_path}"],
        cwd=ROOT,
        env=outside,
        capture_output=True,
        text=True,
        timeout=500,
    )
    first, *rest = ran.stderr.splitlines()
    assert ran.returncode
    assert first.startswith("gpu-check needs a GPU of compute capability 8.0 or later that torch can use; torch")
    assert all(line.startswith("make") for line in rest)
    assert not ran.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "kernel,dance"], "there is no stage dance; there are build, ceilings, kernel"),
        (["--budget", "0"], "--budget must be a number of seconds > 0"),
        (["--budget", "long"], "invalid float value"),
        (["--rehearse"], "say where with --out"),
    ],
)
def test_arguments_that_cannot_be_used(given, said, capsys):
    with pytest.raises(SystemExit):
        module("gpu_check").arguments(given)
    assert said in capsys.readouterr().err


def test_arguments():
    options = module("gpu_check").arguments(["--only", "tests,kernel", "--budget", "60", "--out", "x"])
    assert options.only == ["tests", "kernel"]
    assert (options.budget, options.out) == (60.0, "x")
    assert module("gpu_check").arguments([]).only[0] == "build"
    assert module("gpu_check").BUDGET <= 8 * 60


@pytest.fixture
def check(tmp_path, monkeypatch):
    return new_check(tmp_path, monkeypatch)


def python(program):
    return [sys.executable, "-c", program]


def stage(run, limit=30.0):
    return module("gpu_stages").Stage("some", "a stage", limit, run)


def test_what_a_stage_found_before_it_was_cut_off_is_kept(check, capsys):
    line = json.dumps({"kind": "ceiling", "name": "copy", "value": 3000.0, "unit": "GB/s", "seconds": 0.1, "what": "x"})
    program = f"""
import os, subprocess, sys, time
open(os.environ["ATTRIBUTOR_GPU_LOG"], "a").write({line!r} + "\\n")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("    a finding", child.pid, flush=True)
time.sleep(600)
"""

    def run(check, limit):
        return module("gpu_stages").outcome(check.run([python(program)], 6.0, {}), 6.0)

    began = time.monotonic()
    check.stage(stage(run))
    assert 5 < time.monotonic() - began < 60
    said = capsys.readouterr().out
    pid = int(said.split("a finding ")[1].split()[0])
    for _ in range(100):  # what the process had started is ended too
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                break
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the stage still runs")
    assert "some: cut off: after 6 s" in said
    for folder in check.folders:
        found = json.loads((folder / f"{check.name}.json").read_text())
        assert found["ceilings"][0]["value"] == 3000.0
        assert found["stages"][0]["status"] == "cut off"
        assert "| copy | 3000 GB/s |" in (folder / f"{check.name}.md").read_text()
    assert len(check.folders) == 2


def test_names_and_versions(check):
    assert check.name.endswith("-nvidia-h100-80gb-hbm3-012345678-gpu")
    check.write()
    found = json.loads((check.folders[0] / f"{check.name}.json").read_text())
    assert found["commit"] == "0123456789ab"
    assert found["device"]["name"] == "NVIDIA H100 80GB HBM3"
    assert found["versions"]["torch"] == "2.11.0"
    assert found["rehearsal"] is False


def test_a_stage_that_fails_says_so(check):
    def run(check, limit):
        return module("gpu_stages").outcome(check.run([python("raise SystemExit(3)"), python("")], limit, {}), limit)

    check.stage(stage(run))
    assert check.stages[0]["status"] == "failed"
    assert "exit status 3" in check.stages[0]["why"]


def test_a_program_that_is_not_there_is_a_failure(check):
    check.stage(stage(lambda check, limit: module("gpu_stages").outcome(check.run([["no-such"]], limit, {}), limit)))
    assert check.stages[0]["status"] == "failed"


def test_no_stage_starts_once_the_budget_is_spent(check):
    check.began -= 90
    check.stage(stage(lambda *_: pytest.fail("it ran")))
    assert check.stages[0]["status"] == "not run"
    assert re.fullmatch(r"\d+ s of the budget were left", check.stages[0]["why"])


def test_a_stage_gets_no_more_than_is_left(check):
    check.began -= 70
    limits = []
    check.stage(stage(lambda check, limit: limits.append(limit) or ("done", ""), 60.0))
    assert 15 < limits[0] <= 30


def test_outputs_are_kept_beside_the_results(check):
    program = "print('    shown'); print('not shown')"
    check.stage(stage(lambda check, limit: module("gpu_stages").outcome(check.run([python(program)], 30, {}), limit)))
    check.keep_outputs()
    (kept,) = Path(check.options.out).glob("*.txt")
    assert kept.read_text().splitlines() == ["    shown", "not shown"]


def test_a_build_without_a_compiler_or_without_tools(tmp_path, monkeypatch):
    build = module("gpu_build")
    tried = []

    def install(python, place, environment, options, limit):
        tried.append((environment.get("ATTRIBUTOR_CUDA"), environment.get("ATTRIBUTOR_PURE"), *options))
        return "error: no compiler"

    for name in ("ATTRIBUTOR_PURE", "ATTRIBUTOR_CUDA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build, "_install", install)
    found = build.build(tmp_path / "env")
    assert tried == [(None, None, "ATTRIBUTOR_CUDA_TUNING"), ("OFF", None), (None, "1")]
    assert found["built"] == "links"
    assert found["cuda"] is None
    *said, cuda = found["why"].split("; ")
    assert said == [f"{kind} was not built: error: no compiler" for kind in ("C++", "C++ without CUDA", "pure")]
    assert cuda.startswith("the CUDA kernel is not there: ")
    program = (
        "import attributor, attributor.kernels.flow_step.reference as r; print(attributor.__version__, r.__file__)"
    )
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    ran = subprocess.run(
        [found["python"], "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    version, place = ran.stdout.split()
    assert Path(place).resolve() == ROOT / "kernels" / "flow_step" / "reference.py"
    assert version == importlib.import_module("attributor").__version__


def test_the_line_that_says_why_a_build_failed():
    last = module("gpu_build")._last
    text = "building\nfoo.cpp:3: error: no member\nninja: stopped\nerror: subprocess-exited-with-error\n"
    assert last(text) == "foo.cpp:3: error: no member"
    assert last("") == "no message"
