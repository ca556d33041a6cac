"""make gpu-check, tested without a GPU: command line, time budget, processes, and the numbers of its page."""

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
from gpu import flows, measure, removals, report, run, shapes

from attributor.kernels.common.errors import ImplementationFailure, UnsupportedCall

ROOT = Path(__file__).parents[2]
H100 = {"device": {"name": "NVIDIA H100 80GB HBM3"}, "versions": {"torch": "2.11.0", "hip": None}}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_gpu_check_without_a_gpu_prints_one_sentence(tmp_path):
    # a make that started pytest passes on its variables
    inherited = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}

    def make(*variables):
        command = ["make", "gpu-check", f"GPU_PYTHON={sys.executable}", f"OUT={tmp_path}", *variables]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)

    ran = make()
    first, *rest = ran.stderr.splitlines()
    assert ran.returncode
    assert first.startswith("gpu-check needs a GPU of compute capability 8.0 or later that torch and triton can use; ")
    assert all(line.startswith("make") for line in rest)
    assert not ran.stdout
    assert not list(tmp_path.iterdir())
    usage = make("ARGS=--help").stdout
    assert all(name in usage for name in run.STAGES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "steps", "dance"], "invalid choice: 'dance'"),
        (["--rehearse"], "name a folder with --out"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run.parse(arguments)
    assert message in capsys.readouterr().err


def test_the_time_budget_reserves_time_for_every_stage():
    left = run.parse([]).budget
    assert left == 450
    for later in reversed(range(len(run.STAGES))):  # each stage takes all of its allowance
        seconds = run.allowance(left, later)
        assert seconds >= run.RESERVED
        left -= seconds
    assert left == 0
    assert run.allowance(7.0, later=0) == 7.0  # less than the stage needs, so it is not started


@pytest.fixture
def check(tmp_path, monkeypatch):
    """A run of 100 seconds on an invented H100."""
    options = run.parse(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--budget", "100"])
    options.results, options.commit = tmp_path / "results", "0123456789ab"
    check = run.Run(H100, options)
    monkeypatch.setattr(measure, "LOG", check.log)
    return check


def results(check):
    """Return the JSON and the page, which are equal in both folders."""
    written = {
        ((folder / f"{check.name}.json").read_text(), (folder / f"{check.name}.md").read_text())
        for folder in check.folders
    }
    assert len(check.folders) == 2
    ((data, page),) = written
    return json.loads(data), page


def test_a_stage_that_times_out_keeps_its_findings_and_ends_its_processes(check):
    program = """
import os, subprocess, sys, time
from pathlib import Path
from gpu.report import record
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
log = Path(os.environ["ATTRIBUTOR_GPU_LOG"])
record(log, "ceiling", "GEMM", entries={"gemm": {"seconds": [1.0], "amount": 3e12}})
print(child.pid, flush=True)
with log.open("a") as file:
    file.write('{"kind": "step", "na')
    file.flush()
    time.sleep(600)
"""
    pids = []

    def work(check, limit):
        code, text = check.execute([sys.executable, "-c", program], 6.0)
        pids.append(int(text))
        return run.judge(code, text)

    check.stage("some", work, later=0)
    data, page = results(check)
    (stage,) = data["stages"]
    assert stage == {"name": "some", "status": "cut off", "seconds": pytest.approx(6, abs=5), "why": "out of time"}
    assert [finding["name"] for finding in data["findings"]] == ["GEMM"]
    assert "| GEMM | gemm | 1000 | 3 |" in page
    assert "| some | cut off |" in page
    assert (data["commit"], data["device"]["name"]) == ("0123456789ab", "NVIDIA H100 80GB HBM3")
    for _ in range(100):
        state = Path(f"/proc/{pids[0]}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the stage still runs")


def test_findings_are_written_while_a_stage_runs(check):
    report.record(check.log, "ncu", "early", metrics={})
    seen = []
    write = check.write
    check.write = lambda: (write(), seen.append(results(check)[0]["findings"]))
    check.execute([sys.executable, "-c", "import time; time.sleep(600)"], 1.0)
    assert len(seen) > 1  # also before its end
    assert [finding["name"] for finding in seen[0]] == ["early"]


def test_stages_without_time_or_tool_and_failed_stages_are_reported(check, monkeypatch):
    monkeypatch.setattr(run.shutil, "which", lambda *_, **__: None)
    assert run.run_ncu(check, 60.0) == ("skipped", "ncu was not found on PATH or in /usr/local/cuda/bin")
    assert run.run_sanitizer(check, 60.0)[0] == "skipped"
    program = [sys.executable, "-c", "raise SystemExit('ValueError: no')"]
    check.stage("some", lambda check, limit: run.judge(*check.execute(program, limit)), later=0)
    check.began -= 95
    check.stage("some", lambda *_: pytest.fail("it ran"), later=0)
    assert [stage["status"] for stage in check.stages] == ["failed", "not run"]
    assert check.stages[0]["why"] == "exit status 1: ValueError: no"
    assert re.fullmatch(r"\d s are left, it needs 35", check.stages[1]["why"])


@pytest.mark.parametrize(
    ("code", "outcome", "status"),
    [(0, "done", "clean"), (9, "failed", "errors"), (3, "failed", "did not work: text"), (None, "done", "cut off")],
)
def test_the_sanitizer_checks_each_usable_kernel(check, monkeypatch, code, outcome, status):
    def execute(command, limit, **variables):
        if "triton" in command:
            return report.SKIPPED, "it cannot run here"
        return (code, "text") if command[0] == "sanitizer" else (0, "")

    check.execute = execute
    monkeypatch.setattr(run.shutil, "which", lambda *_, **__: "sanitizer")
    assert run.run_sanitizer(check, 60.0) == (outcome, status)
    statuses = {line["name"]: line["status"] for line in check.findings()}
    assert statuses == dict.fromkeys(["memcheck of cuda", "racecheck of cuda", "synccheck of cuda"], status)


def test_a_test_that_ends_its_process_fails_and_the_others_run(check, tmp_path, monkeypatch):
    """Their kernel is not measured, because it would end that process too. One run only: each process imports torch."""
    hang, die = "time.sleep(60)", "os.kill(os.getpid(), 9)"
    bodies = {"first": "pass", "hangs": hang, "between": "pass", "dies": die, "last": "pass"}
    file = tmp_path / "test_gpu_cuda.py"
    functions = [f"def test_{name}(): {body}" for name, body in bodies.items()]
    file.write_text("\n\n".join(["import os, time", *functions]) + "\n")
    monkeypatch.setattr(run, "TESTS", [file])
    monkeypatch.setattr(run, "PROCESSES", 1)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setenv("ATTRIBUTOR_GPU_PATIENCE", "2")
    assert run.run_tests(check, 90.0) == ("failed", "2 of 5 tests failed")
    outcomes = {line["name"].partition("::")[2]: line["outcome"] for line in check.findings()}
    crashed = {"test_hangs", "test_dies"}
    assert outcomes == {f"test_{name}": "passed" for name in bodies} | dict.fromkeys(crashed, "crashed")
    assert "cuda" in report.find_wrong(check.findings())
    monkeypatch.setattr(measure, "list_availability", lambda: [Usable("cuda"), Usable("triton")])
    assert measure.find_obstacle("triton") is None
    for name in crashed:  # one failure is enough
        findings = [line for line in check.findings() if line["name"].endswith((name, "test_last"))]
        monkeypatch.setattr(measure, "read", lambda _, findings=findings: findings)
        assert f"test_gpu_cuda.py::{name}" in measure.find_obstacle("cuda")
    assert measure.find_obstacle("cuda", crashes=False) is None


class Usable:
    """An implementation that counts as usable."""

    def __init__(self, name):
        self.name, self.usable = name, True


def test_a_wrong_answer_is_reported_without_a_time(monkeypatch):
    monkeypatch.setattr(measure, "DEVICE", torch.device("cpu"))
    inputs = measure.make_inputs(shapes.HEADLINE.rehearsal())
    check = measure.make_check(inputs)

    def answer(*factors):
        calls = iter(factors)
        return lambda: measure.flow_step(**inputs, impl="reference") * next(calls)

    works = {"right": answer(1, 1, 1), "off": answer(1.001), "late": answer(1, 1, 1.001)}
    entries = measure.race(works, check, rounds=2)
    assert len(entries["right"]["seconds"]) == 2
    assert set(entries["off"]) == set(entries["late"]) == {"wrong"}  # every result is checked
    assert "off by 1.0e-03" in entries["off"]["wrong"]
    with pytest.raises(AssertionError, match="not finite"):
        check("cuda", torch.full_like(inputs["rows"], float("nan")))


def test_wrong_removal_effects_are_reported(monkeypatch):
    """Tested for the first key and for the last key that a row affects."""
    monkeypatch.setattr(removals, "DEVICE", torch.device("cpu"))
    inputs = removals.make_inputs(shapes.Removal(90, 40, 16, 8, 4, 2, "float32"))
    check = removals.make_check(inputs)
    effects = removals.removal_step(**inputs, impl="reference")
    right = check("triton", effects)
    assert right["error"] <= 2 * right["budget"] + 1e-6
    for j in (0, 63):
        wrong = effects.clone()
        wrong[j] = 0
        with pytest.raises(AssertionError, match="off by"):
            check("triton", wrong)


def test_a_variant_that_is_not_compiled_is_missing_and_a_driver_error_is_wrong(monkeypatch):
    monkeypatch.setattr(measure, "DEVICE", torch.device("cpu"))

    def refuse():
        raise UnsupportedCall("no such variant")

    def fail():
        raise ImplementationFailure("launch failed")

    assert measure.race({"refused": refuse, "failed": fail}, lambda *_: {}) == {
        "refused": {"missing": "UnsupportedCall('no such variant')"},
        "failed": {"wrong": "ImplementationFailure('launch failed')"},
    }


def a_run(*findings, **changes):
    """Return a run with one call of flow_step by both kernels, one variant and one flow."""
    step = {
        "flash": {"seconds": [0.02, 0.04, 0.03], "amount": 8e12},
        "cudnn": {"missing": "RuntimeError: no plan"},
        "gradient": {"seconds": [0.09, 0.18, 0.09], "amount": 4e12},
        "triton": {"seconds": [0.01, 0.02, 0.01], "amount": 4e12, "error": 2e-6, "peak_bytes": 3e9},
        "cuda": {"seconds": [0.008, 0.008, 0.008], "amount": 4e12, "error": 1e-6},
    }
    tuning = {
        "as chosen": {"seconds": [0.008], "amount": 4e12},
        "cluster=1": {"seconds": [0.016], "amount": 4e12},
        "turns=1": {"missing": "not compiled"},
    }
    flow = {
        "prefill": {"seconds": [1.0, 2.0, 1.0], "peak_bytes": 30e9},
        "flow": {"seconds": [1.2, 2.2, 1.3], "peak_bytes": 40e9},
        "flow, 32 heads": {"missing": "OutOfMemoryError: full"},
    }
    measured = [
        {"kind": kind, "name": "a call", "entries": entries}
        for kind, entries in (("step", step), ("tuning", tuning), ("flow", flow))
    ]
    facts = {
        "rehearsal": False, "device": {"name": "Some GPU"}, "versions": {"torch": "2.11.0"}, "commit": "abc",
        "driver": "580", "datetime": "2030-01-02", "seconds": 400.0,
        "passed": {"triton": 7, "cuda": 1},
        "stages": [{"name": "flows", "status": "cut off", "seconds": 90.0, "why": "out of time"}],
    }  # fmt: skip
    return {**facts, "findings": [*measured, *findings], **changes}


def test_the_page_has_medians_over_rounds():
    page = report.markdown(a_run())
    for line in (
        "# Some GPU",
        "| flows | cut off | 90.0 | out of time |",
        "| cuda | 1 | 0 | 0 | 0 |  |",
        "| call | what | ms | TFLOP/s | time / flash | time / cudnn | time / gradient | time / triton | peak GB |",
        "| a call | flash | 30 | 266.7 | 1.000x |  | 0.222x | 2.000x |",
        "| a call | cudnn | not measured: RuntimeError: no plan |",
        "| a call | triton | 10 | 400 | 0.500x |  | 0.111x | 1.000x | 3.0 | 2e-06 |",
        "| a call | cuda | 8 | 500 | 0.267x |  | 0.089x | 0.800x | 0.0 | 1e-06 |",
        "| a call | cluster=1 | 16 | 250 | 2.000x |",
        "| a call | flow | 1300 |  | 1.200x | 40.0 |",
        "| a call | flow, 32 heads | not measured: OutOfMemoryError: full |",
    ):
        assert line in page, line
    assert report.ratio({"a": {"seconds": [1, 8, 3]}, "b": {"seconds": [2, 4, 1]}}, "a", "b") == 2.0
    assert report.ratio({"a": {"seconds": [1]}}, "a", "b") is None


def failing(name):
    return {"kind": "test", "name": name, "outcome": "failed", "why": "assert 1\n == 2"}


SANITIZER = {"kind": "sanitizer", "name": "memcheck of cuda", "kernel": "cuda", "status": "errors"}
WRONG = {
    "a test of triton": (failing("tests/gpu/test_gpu_flow_step.py::t[1-triton]"), "triton"),
    "a test of flow()": (failing("tests/gpu/test_gpu_flow.py::t"), "triton"),
    "a test of cuda": (failing("tests/gpu/test_gpu_cuda.py::t[1]"), "cuda"),
    "an answer": ({"kind": "step", "name": "x", "entries": {"cuda": {"wrong": "off by 1"}}}, "cuda"),
    "a variant": ({"kind": "tuning", "name": "x", "entries": {"held=1": {"wrong": "off by 1"}}}, "cuda"),
    "the sanitizer": (SANITIZER, "cuda"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_kernel_shows_no_time_and_fails_the_run(what, tmp_path, monkeypatch):
    finding, kernel = WRONG[what]
    page = report.markdown(a_run(finding))
    assert f"| a call | {kernel} | wrong: " in page
    shown = {"triton": "| a call | cuda | 8 | 500 |", "cuda": "| a call | triton | 10 | 400 |"}
    for other, row in shown.items():
        assert (row in page) == (other == kernel)
    assert ("| a call | flow | wrong: " in page) == (kernel == "triton")
    assert ("| a call | cluster=1 | wrong: " in page) == (kernel == "cuda")
    assert "0.800x" not in page  # a wrong kernel is not compared

    def work(check, limit):
        report.record(check.log, **finding)
        return "done", ""

    monkeypatch.setattr(run, "probe", lambda: H100)
    places = [f"--{name}={tmp_path / name}" for name in ("out", "work", "results")]
    monkeypatch.setattr(run, "STAGES", {"steps": work})
    assert run.main(places) == 1
    monkeypatch.setattr(run, "STAGES", {"steps": lambda *_: ("done", "")})
    assert run.main(places) == 0
    monkeypatch.setattr(run, "STAGES", {"steps": lambda *_: ("failed", "")})
    assert run.main(places) == 1


def test_an_unfinished_run_has_a_page():
    page = report.markdown(a_run(findings=[], passed={}, commit=None, rehearsal=True))
    assert page.startswith("# Rehearsal on a CPU: its numbers mean nothing")
    assert page.count("| 0 | 0 | 0 | 0 |") == 2


METRICS = ("gpu__time_duration.sum", "sm__throughput.avg.pct_of_peak", "lts__throughput.avg.pct_of_peak", "launch__x")
NCU = "==PROF== Connected\n" + "\n".join(
    ",".join(f'"{cell}"' for cell in row)
    for row in (("ID", *METRICS), ("", "us", "%", "%", ""), ("0", "7,301.5", "81.25", "n/a", "168"))
)


def test_ncu_output_is_parsed():
    assert run.parse_ncu(NCU) == {"gpu__time_duration.sum (us)": 7301.5, "sm__throughput.avg.pct_of_peak (%)": 81.25}
    assert run.parse_ncu("==ERROR== ERR_NVGPUCTRPERM - no permission to read counters\n") == {}


def test_the_measured_shapes_are_distinct_and_cover_sizes():
    steps = shapes.STEPS
    assert len({step.name for step in steps}) == len(steps)
    assert {step.O for step in steps} >= {1, 16, 128, 512}
    assert {step.D for step in steps} == {64, 128, 256}
    assert (steps[0].N, steps[0].H, steps[0].G, steps[0].D, steps[0].O) == (32_768, 32, 8, 128, 128)
    assert all(step.rehearsal().H % step.rehearsal().G == 0 for step in steps)
    pairs = sum(j <= i for i in range(200) for j in range(200))
    assert shapes.Step(N=200, H=3, G=1, D=16).flops == pytest.approx(2 * 3 * 16 * pairs, rel=0.01)
    assert len({removal.name for removal in shapes.REMOVALS}) == len(shapes.REMOVALS)
    for N, Q in ((200, 200), (200, 60)):
        pairs = sum(j <= i for i in range(N - Q, N) for j in range(N))
        assert shapes.Removal(N, Q, 16, 8, 3, 1).flops == pytest.approx(2 * 3 * 24 * pairs, rel=0.01)
    chosen = flows.choose_heads(28, 24).heads > 0
    assert chosen.sum() == 32
    assert chosen.any(1).all()
    order = [model for _, model, _ in shapes.FLOWS]  # each model is built once
    assert len(dict.fromkeys(order)) == sum(a != b for a, b in zip(order, ["", *order], strict=False))


def test_every_field_of_tuning_is_measured():
    text = (ROOT / "csrc" / "cuda" / "flow_step.h").read_text("utf-8")
    struct = text.partition("struct Tuning {")[2].partition("};")[0]
    fields = re.findall(r"^    (?:int|bool) (\w+) = ", struct, re.MULTILINE)
    assert fields
    assert {name for tuning in shapes.TUNINGS for name in tuning} == set(fields)
    assert shapes.TUNINGS[0] == {}
