"""Every GPU test and benchmark walked on the CPU, so that a typing error does not cost the first minutes on a GPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CEILINGS = ["copy", "gemm", "sdpa flash", "sdpa cudnn", "gradient of V"]


def tests_of(path):
    return re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)


def test_the_whole_run_rehearsed(tmp_path, monkeypatch):
    """Every stage, small and by the reference: no number means anything, and the files say so."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    from gpu_shapes import FLOWS, STEPS
    from gpu_stages import KERNELS, TESTS

    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "bench" / "gpu_check.py"), "--rehearse", "--out", str(out)]
    command += ["--work", str(tmp_path / "work"), "--budget", "3000", "--commit", "rehearsed"]
    before = sorted((ROOT / "bench" / "results").iterdir())
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr
    assert sorted((ROOT / "bench" / "results").iterdir()) == before  # nothing is kept as if it had been measured
    (path,) = out.glob("*-rehearsal-rehearsed-gpu.json")
    found = json.loads(path.read_text())
    assert found["rehearsal"] is True
    statuses = {stage["name"]: stage["status"] for stage in found["stages"]}
    assert statuses.pop("build") == "skipped"
    assert statuses.pop("ncu") == "skipped"
    assert statuses.pop("sanitizer") in ("skipped", "done")
    done = ["ceilings", "kernel", "tests", "tuning", "model", "steps", "flows"]
    assert statuses == dict.fromkeys(done, "done")
    assert [ceiling["name"] for ceiling in found["ceilings"]] == CEILINGS
    measured = {(step["name"], step["kernel"]) for step in found["steps"]}
    assert measured == {(step.name, kernel) for step in STEPS for kernel in KERNELS}
    assert all(step["error"] <= 2 * step["budget"] + 1e-5 for step in found["steps"])
    assert {(flow["model"], flow["tokens"]) for flow in found["flows"]} == set(FLOWS)
    assert {(flow["model"], flow["tokens"]) for flow in found["records"]} == {("8B", 32_768), ("1B", 32_768)}
    assert len({(cut["step"], cut["name"]) for cut in found["tunings"]}) == len(found["tunings"]) > 50
    assert all("tf" in cut and cut["error"] <= 2 * cut["budget"] + 1e-5 for cut in found["tunings"])
    assert [len(found[kind]) for kind in ("keeps", "stocks", "matrices")] == [1, 1, 1]
    assert found["tests"]["passed"] > 0
    skipped = {test["said"].partition("Skipped: ")[2] for test in found["tests"]["not passed"]}
    assert found["tests"]["failed"] == 0
    assert skipped <= {"there is no stream to wait for on a CPU", "the reference takes everything"}
    functions = {name for file in TESTS for name in tests_of(ROOT / file)}
    log = (tmp_path / "work" / "found.jsonl").read_text().splitlines()
    ran = {json.loads(line).get("test", "").partition("::")[2].partition("[")[0] for line in log}
    assert functions <= ran
    assert path.with_suffix(".md").read_text().startswith("# Rehearsal on a CPU: these numbers mean nothing")
    assert len(list(out.glob("*.txt"))) >= 6
