"""make gpu-check without a GPU: its command line, budget and processes, and the arithmetic of its page."""

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
from gpu import measure, plugin, report, run, shapes

from attributor.kernels.flow_step.errors import ImplementationFailure, UnsupportedCall

ROOT = Path(__file__).parents[2]
H100 = {
    "executable": "python3",
    "versions": {"python": "3.12.1", "torch": "2.11.0", "cuda": "13.0", "hip": None},
    "device": {"name": "NVIDIA H100 80GB HBM3", "capability": [9, 0]},
    "error": None,
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"versions": {"torch": "2.11.0", "cuda": None, "hip": "7.0"}}, None),
        ({"device": {"capability": [7, 5], "name": "Tesla T4"}}, "has torch 2.11.0, CUDA 13.0, Tesla T4 of 7.5. GPU_P"),
        ({"device": {}}, "python3 has torch 2.11.0, CUDA 13.0, no GPU. GPU_PYTHON=... names another Python."),
        ({"error": "AcceleratorError: no kernel image"}, "H100 80GB HBM3 of 9.0 (AcceleratorError: no kernel image)"),
        (
            {"versions": {}, "device": {}, "error": "ModuleNotFoundError: torch"},
            "torch None, CUDA None, no GPU (ModuleNotFoundError: torch)",
        ),
    ],
)
def test_which_gpus_will_do(changes, sentence):
    found = run.unusable(H100 | changes)
    assert (found is None) == (sentence is None)
    assert found is None or sentence in found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_a_gpu_ends_with_one_sentence(tmp_path):
    # a make that started pytest hands its variables down
    inherited = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}

    def make(*variables):
        command = ["make", "gpu-check", f"GPU_PYTHON={sys.executable}", f"OUT={tmp_path}", *variables]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)

    ran = make()
    first, *rest = ran.stderr.splitlines()
    assert ran.returncode
    assert first.startswith("gpu-check needs a GPU of compute capability 8.0 or later that torch can use; ")
    assert all(line.startswith("make") for line in rest)
    assert not ran.stdout
    assert not list(tmp_path.iterdir())
    usage = make("ARGS=--help").stdout
    assert all(stage.name in usage and stage.what in usage for stage in run.STAGES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "steps,dance"], "there is no stage dance; there are build, tests, steps"),
        (["--budget", "0"], "--budget must be a number of seconds > 0"),
        (["--rehearse"], "name a folder with --out"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run.parse(arguments)
    assert message in capsys.readouterr().err


def test_the_budget_keeps_time_for_every_stage():
    assert sum(stage.least for stage in run.STAGES) <= run.parse([]).budget == 450
    left, began = 450.0, []
    for index, stage in enumerate(run.STAGES):  # each takes all that it gets
        seconds = run.allowance(run.STAGES, index, left)
        assert seconds <= stage.most
        assert seconds >= stage.least
        began.append(stage.name)
        left -= seconds
    assert left >= 0
    assert run.allowance(run.STAGES, len(run.STAGES) - 1, 7.0) == 7.0  # less than it needs: it is not started


@pytest.fixture
def check(tmp_path):
    """A run of 100 seconds on an H100 that is made up."""
    options = run.parse(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--budget", "100"])
    options.results, options.commit = tmp_path / "results", "0123456789ab"
    return run.Run(H100, options)


def results(check):
    """The JSON and the page in each folder, which are the same."""
    written = {
        ((folder / f"{check.name}.json").read_text(), (folder / f"{check.name}.md").read_text())
        for folder in check.folders
    }
    assert len(check.folders) == 2
    ((data, page),) = written
    return json.loads(data), page


def stage(work, least=1.0, most=30.0):
    return run.Stage("some", "a stage", least, most, work)


def test_findings_of_a_stage_that_was_cut_off_are_kept_and_its_processes_ended(check):
    program = f"""
import json, os, subprocess, sys, time
from gpu.report import record
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
record("ceiling", "GEMM", entries={{"gemm": {{"seconds": [1.0], "amount": 3e12}}}})
print(child.pid, flush=True)
with open(os.environ[{report.LOG!r}], "a") as log:
    log.write('{{"kind": "step", "na')
    log.flush()
    time.sleep(600)
"""

    def work(check, limit):
        (result,) = check.execute([[sys.executable, "-c", program]], limit)
        work.pid = int(result[1])
        return run.judge([result], limit)

    check.stage(0, [stage(work, most=6.0)])
    data, page = results(check)
    assert data["stages"] == [
        {"name": "some", "status": "cut off", "seconds": pytest.approx(6, abs=5), "why": "after 6 s"}
    ]
    assert [finding["name"] for finding in data["findings"]] == ["GEMM"]
    assert "| GEMM | gemm | 1000 | 3 |" in page
    assert "| some | cut off |" in page
    assert (data["commit"], data["device"]["name"]) == ("0123456789ab", "NVIDIA H100 80GB HBM3")
    for _ in range(100):
        state = Path(f"/proc/{work.pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process of the stage still runs")


def test_a_stage_without_time_or_tool_says_so_and_one_that_fails_too(check, monkeypatch):
    monkeypatch.setattr(run.shutil, "which", lambda *_, **__: None)
    assert run.run_ncu(check, 60.0) == ("skipped", "ncu was not found on PATH or in /usr/local/cuda/bin")
    assert run.run_sanitizer(check, 60.0)[0] == "skipped"
    check.stage(0, [stage(lambda check, limit: run.judge(check.execute([["no-such-program"]], limit), limit))])
    program = [sys.executable, "-c", "raise SystemExit('ValueError: no')"]
    check.stage(0, [stage(lambda check, limit: run.judge(check.execute([program], limit), limit))])
    check.began -= 95
    check.stage(0, [stage(lambda *_: pytest.fail("it ran"), least=15)])
    assert [entry["status"] for entry in check.stages] == ["failed", "failed", "not run"]
    assert check.stages[1]["why"] == "exit status 1: ValueError: no"
    assert re.fullmatch(r"\d s are left, it needs 15", check.stages[2]["why"])


@pytest.mark.parametrize("body", ["time.sleep(60)", "os.kill(os.getpid(), 9)"])
def test_a_test_that_ends_its_process_fails_and_the_next_one_runs(check, tmp_path, monkeypatch, body):
    file = tmp_path / "test_some.py"
    file.write_text(f"import os, time\n\ndef test_first(): pass\n\ndef test_bad(): {body}\n\ndef test_last(): pass\n")
    monkeypatch.setattr(run, "TESTS", [file])
    monkeypatch.setattr(run, "SHARES", ["all:0/1"])
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setenv("ATTRIBUTOR_GPU_PATIENCE", "2")
    assert run.run_tests(check, 90.0) == ("failed", "1 of 3 tests failed")
    outcomes = {line["name"].partition("::")[2]: line["outcome"] for line in check.findings()}
    assert outcomes == {"test_first": "passed", "test_bad": "failed", "test_last": "passed"}


def test_shares_are_disjoint_complete_and_of_one_kernel():
    names = [
        *(
            f"tests/gpu/test_gpu_flow_step.py::test_{i}[{i}-torch.float16-{kernel}]"
            for i in range(9)
            for kernel in report.KERNELS
        ),
        "tests/gpu/test_gpu_cuda.py::test_nothing_waits[1]",
        "tests/gpu/test_gpu_flow.py::test_few_heads_keep_few_bytes",
    ]
    parts = [plugin.select(names, share, {names[0]}) for share in run.SHARES]
    assert sorted(name for part in parts for name in part) == sorted(names[1:])
    for share, part in zip(run.SHARES, parts, strict=True):
        assert {report.kernel_of(name) for name in part} == {share.partition(":")[0]}


def test_a_measurement_that_ends_its_process_is_repeated_with_triton_alone_and_then_given_up(check, monkeypatch):
    monkeypatch.setenv(report.LOG, str(check.log))
    calls = []
    items = [(name, name) for name in ("done", "once", "twice", "new")]
    report.record("step", "done", entries={})
    for name in ("once", "twice", "twice"):
        report.record("begun", f"step {name}")
    assert measure.each("step", items, lambda item, again: calls.append((item, again)) or {"entries": {}})
    assert calls == [("once", True), ("new", False)]
    failed = [line["name"] for line in check.findings() if "failed" in line]
    assert failed == ["twice"]
    assert "triton" in report.wrong_kernels(check.findings())


def test_a_wrong_answer_is_found_and_not_timed(monkeypatch):
    monkeypatch.setattr(measure, "DEVICE", torch.device("cpu"))
    step = shapes.HEADLINE.rehearsal()
    inputs = measure.make_inputs(step, 0)
    check = measure.make_check(inputs)

    def answer(factor):
        options = {"scale": inputs.scale, "impl": "reference"}
        given = (inputs.rows, inputs.query, inputs.key, inputs.row_bias)
        return lambda i: measure.flow_step(*given, **options) * (factor if i < 2 else 1.001)

    entries = measure.race({"right": answer(1.0), "off": answer(1.001)}, check, rounds=2)
    assert len(entries["right"]["seconds"]) == 2
    assert set(entries["off"]) == {"wrong"}
    assert "off by 1.0e-03" in entries["off"]["wrong"]
    assert set(measure.race({"late": answer(1.0)}, check, rounds=3)["late"]) == {"wrong"}  # the last answer is checked
    with pytest.raises(AssertionError, match="not finite"):
        check("cuda", torch.full_like(inputs.rows, float("nan")))


def test_a_variant_that_is_not_compiled_is_missing_and_a_driver_error_ends_the_process(monkeypatch):
    monkeypatch.setattr(measure, "DEVICE", torch.device("cpu"))

    def refuse(i):
        raise UnsupportedCall("no such variant")

    def fail(i):
        raise ImplementationFailure("launch failed") from OSError("driver")

    assert measure.race({"variant": refuse}, lambda *_: {}) == {
        "variant": {"missing": "UnsupportedCall: no such variant"}
    }
    with pytest.raises(ImplementationFailure, match="launch failed"):
        measure.race({"variant": fail}, lambda *_: {})


def a_run(*findings, **changes):
    """A run with one call of flow_step by both kernels, one variant and one flow."""
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
        "dirty": False, "datetime": "2030-01-02", "seconds": 400.0,
        "passed": {"triton": 7, "cuda": 1},
        "stages": [{"name": "flows", "status": "cut off", "seconds": 90.0, "why": "after 90 s"}],
    }  # fmt: skip
    return {**facts, "findings": [*measured, *findings], **changes}


def test_the_page_has_medians_over_rounds():
    page = report.markdown(a_run())
    for line in (
        "# Some GPU",
        "| flows | cut off | 90 | after 90 s |",
        "- cuda: 1 passed, 0 failed, 0 skipped.",
        "| call | what | ms | TFLOP/s | time / flash | time / cudnn | time / gradient | time / triton | peak GB |",
        "| a call | flash | 30 | 266.7 |  |  | 0.222x | 2.000x |",
        "| a call | cudnn | not measured |",
        "| a call | triton | 10 | 400 | 0.500x |  | 0.111x |  | 3.0 | 2e-06 |",
        "| a call | cuda | 8 | 500 | 0.267x |  | 0.089x | 0.800x | 0.0 | 1e-06 |",
        "| a call | cluster=1 | 16 | 250 | 2.000x |",
        "| a call | flow | 1300 |  | 1.200x | 40.0 |",
        "- a call, cudnn: RuntimeError: no plan",
        "- a call, flow, 32 heads: OutOfMemoryError: full",
    ):
        assert line in page, line
    assert report.ratio({"a": {"seconds": [1, 8, 3]}, "b": {"seconds": [2, 4, 1]}}, "a", "b") == 2.0
    assert report.ratio({"a": {"seconds": [1]}}, "a", "b") is None


def failing(name):
    return {"kind": "test", "name": name, "outcome": "failed", "why": "assert 1\n == 2"}


SANITIZER = {"kind": "sanitizer", "name": "x", "tool": "memcheck", "kernel": "cuda", "status": "errors"}
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
    assert f"| a call | {kernel} | wrong |" in page
    shown = {"triton": "| a call | cuda | 8 | 500 |", "cuda": "| a call | triton | 10 | 400 |"}
    for other, row in shown.items():
        assert (row in page) == (other == kernel)
    assert ("| a call | flow | wrong |" in page) == (kernel == "triton")
    assert ("| a call | cluster=1 | wrong |" in page) == (kernel == "cuda")
    assert "0.800x" not in page  # nothing is compared with a kernel that is wrong

    def work(check, limit):
        check.record(**finding)
        return "done", ""

    monkeypatch.setattr(run, "STAGES", [stage(work)])
    monkeypatch.setattr(run, "probe", lambda python: H100)
    places = [f"--{name}={tmp_path / name}" for name in ("out", "work", "results")]
    assert run.main(places) == 1
    monkeypatch.setattr(run, "STAGES", [stage(lambda *_: ("done", ""))])
    assert run.main(places) == 0


def test_the_page_of_a_run_that_has_only_begun():
    page = report.markdown(a_run(findings=[], passed={}, commit=None, rehearsal=True))
    assert page.startswith("# Rehearsal on a CPU: its numbers mean nothing")
    assert page.count("no test was run") == 2


METRICS = ("gpu__time_duration.sum", "sm__throughput.avg.pct_of_peak", "lts__throughput.avg.pct_of_peak", "launch__x")
NCU = "==PROF== Connected\n" + "\n".join(
    ",".join(f'"{cell}"' for cell in row)
    for row in (("ID", *METRICS), ("", "us", "%", "%", ""), ("0", "7,301.5", "81.25", "n/a", "168"))
)


def test_what_ncu_prints_is_read():
    assert run.parse_ncu(NCU) == {"gpu__time_duration.sum (us)": 7301.5, "sm__throughput.avg.pct_of_peak (%)": 81.25}
    with pytest.raises(ValueError, match="ERR_NVGPUCTRPERM - no permission"):
        run.parse_ncu("==ERROR== ERR_NVGPUCTRPERM - no permission to read counters\n")
    with pytest.raises(ValueError, match="no launch"):
        run.parse_ncu("")


def test_the_shapes_are_those_that_matter():
    steps = shapes.STEPS
    assert len({step.name for step in steps}) == len(steps)
    assert {step.O for step in steps} >= {1, 16, 128, 512}
    assert {step.D for step in steps} == {64, 128, 256}
    assert (steps[0].N, steps[0].H, steps[0].G, steps[0].D, steps[0].O) == (32_768, 32, 8, 128, 128)
    assert all(step.rehearsal().H % step.rehearsal().G == 0 for step in steps)
    pairs = sum(j <= i for i in range(200) for j in range(200))
    assert shapes.Step(N=200, H=3, G=1, D=16).flops == pytest.approx(2 * 3 * 16 * pairs, rel=0.01)
    heads = shapes.spread_heads(28, 24)
    assert len(set(heads)) == 32
    assert {layer for layer, _ in heads} == set(range(28))
    order = [model for _, model, _ in shapes.FLOWS]  # each model is made once
    assert len(dict.fromkeys(order)) == sum(a != b for a, b in zip(order, ["", *order], strict=False))


def test_every_field_of_tuning_is_measured():
    text = (ROOT / "csrc" / "cuda" / "flow_step.h").read_text("utf-8")
    struct = text.partition("struct Tuning {")[2].partition("};")[0]
    fields = re.findall(r"^    (?:int|bool) (\w+) = ", struct, re.MULTILINE)
    assert fields
    assert {name for tuning in shapes.TUNINGS for name in tuning} == set(fields)
    assert shapes.TUNINGS[0] == {}
