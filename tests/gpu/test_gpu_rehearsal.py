"""The complete GPU check on the CPU: every GPU test and measurement runs at tiny sizes with the reference."""

import json
import re
import subprocess
import sys
from pathlib import Path

from gpu.report import KERNELS, read
from gpu.run import TESTS
from gpu.shapes import FLOWS, REMOVALS, STEPS, TUNED, TUNINGS

ROOT = Path(__file__).parents[2]


def test_a_rehearsal_runs_everything_and_stores_no_results(tmp_path):
    out, work, results = (tmp_path / name for name in ("out", "work", "results"))
    command = [sys.executable, "-m", "gpu.run", "--rehearse", "--out", str(out), "--results", str(results)]
    command += ["--work", str(work), "--budget", "3000", "--commit", "rehearsed"]
    ran = subprocess.run(command, cwd=ROOT / "bench", capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr
    assert not results.exists()  # a rehearsal stores no results
    assert len(list(out.iterdir())) == 3
    (path,) = out.glob("*-rehearsal-rehearsed-gpu.json")
    run = json.loads(path.read_text())
    assert run["rehearsal"] is True
    statuses = {stage["name"]: stage["status"] for stage in run["stages"]}
    assert [statuses.pop(name) for name in ("build", "ncu")] == ["skipped", "skipped"]
    assert statuses.pop("sanitizer") in ("skipped", "done")
    assert statuses == dict.fromkeys(["tests", "steps", "flows", "tunings"], "done")

    findings = {(line["kind"], line["name"]): line for line in run["findings"]}
    assert [set(line["entries"]) for line in run["findings"] if line["kind"] == "ceiling"] == [{"copy", "gemm"}]
    expected = {("step", step.name) for step in STEPS} | {("tuning", step.name) for step in TUNED}
    expected |= {("removal", removal.name) for removal in REMOVALS}
    expected |= {(kind, f"{model}, {tokens:,}") for kind, model, tokens in FLOWS}
    assert expected < set(findings)
    for key in expected:
        entries = findings[key]["entries"]
        # a CPU has no cuDNN backend
        assert {label for label, entry in entries.items() if "seconds" not in entry} <= {"cudnn", "prefill, cudnn"}
        if key[0] == "step":
            assert set(entries) == {"flash", "cudnn", "gradient", *KERNELS}
        if key[0] == "removal":
            assert set(entries) == {"flash", "cudnn", "triton"}
            assert "error" in entries["triton"]
        if key[0] == "tuning":
            assert len(entries) == len(TUNINGS)
        assert all(entry["error"] <= 2 * entry["budget"] + 1e-5 for entry in entries.values() if "error" in entry)

    tests = [line for line in read(work / "findings.jsonl") if line["kind"] == "test"]
    assert sum(run["passed"].values()) == sum(test["outcome"] == "passed" for test in tests)
    functions = {name for file in TESTS for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)}
    assert {test["name"].partition("::")[2].partition("[")[0] for test in tests} == functions
    skipped = {test["why"].partition("Skipped: ")[2] for test in tests if test["outcome"] != "passed"}
    assert skipped <= {"there is no stream to wait for on a CPU", "the reference takes everything"}
    assert path.with_suffix(".md").read_text().startswith("# Rehearsal on a CPU: its numbers mean nothing")
