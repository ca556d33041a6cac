"""make gpu-check: build this checkout on a machine with a GPU, test both kernels there, and measure them.

Runs without a network and installs only this checkout, into build/gpu. Findings are written at once, so an interrupted
run leaves everything up to then in bench/results. Needs torch, triton, transformers, pytest, pytest-xdist, hypothesis,
scikit-build-core, pybind11, cmake and ninja; for the CUDA kernel also nvcc 12.3 and a GPU of compute capability 9.0.
The exit status is 1 if a stage failed, a test failed or a result was wrong.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu import report
from gpu.shapes import HEADLINE

BENCH = Path(__file__).parents[1]
ROOT = BENCH.parent
TESTS = [ROOT / "tests/gpu" / f"test_gpu_{name}.py" for name in ("flow_step", "removal_step", "memory", "cuda", "flow")]
PROCESSES = 6  # of the tests: Triton's compilation takes most of their time, on one core each
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/local/cuda/bin"])  # cmake, ncu
MODULE = [sys.executable, "-m"]
SANITIZERS = ("memcheck", "racecheck", "synccheck")
DRIVER = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem,power.limit,mig.mode.current"
RESERVED = 35.0  # minimum seconds for each stage to start
Outcome = tuple[str, str]  # status and reason
Stage = Callable[["Run", float], Outcome]  # called with its limit in seconds


def allowance(left: float, later: int) -> float:
    """Return the seconds for a stage if `left` remain, with RESERVED for each later one."""
    return max(left - RESERVED * later, min(left, RESERVED))


class Run:
    """One check: its findings so far and their output files."""

    def __init__(self, machine: dict[str, Any], options: argparse.Namespace) -> None:
        self.began = time.monotonic()
        self.options = options
        self.stages: list[dict[str, Any]] = []
        now = datetime.now(timezone.utc)
        commit = options.commit or ask("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40")
        self.facts = {
            "rehearsal": options.rehearse,
            "datetime": now.isoformat(timespec="seconds"),
            "commit": commit,
            "driver": ask("nvidia-smi", DRIVER, "--format=csv,noheader", "--id=0"),
            "budget": options.budget,
            **machine,
        }
        device = "".join(c if c.isalnum() else "-" for c in machine["device"]["name"].lower())
        self.name = f"{now.date().isoformat()}-{device}-{str(commit)[:9]}-gpu"
        self.folders = [options.out.resolve()] if options.out else []
        self.folders += [] if options.rehearse else [options.results]
        for folder in (*self.folders, options.work):
            folder.mkdir(parents=True, exist_ok=True)
        self.site = options.work / "site"  # target of the build
        self.log = options.work / "findings.jsonl"
        self.output = (options.out or options.work).resolve() / f"{self.name}.txt"  # output of all programs
        self.log.write_text("")
        self.output.write_text("")

    def say(self, text: str) -> None:
        """Print one line of progress."""
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def findings(self) -> list[report.Finding]:
        """Return the findings in the log; of duplicates, the last one."""
        return list({(line["kind"], line["name"]): line for line in report.read(self.log)}.values())

    def write(self) -> None:
        """Write everything so far, each file atomically."""
        findings = self.findings()
        passed = [line["name"] for line in findings if line.get("outcome") == "passed"]
        run = {**self.facts, "seconds": round(time.monotonic() - self.began, 1), "stages": self.stages}
        run["passed"] = dict(Counter(map(report.kernel_of, passed)))
        run["findings"] = [line for line in findings if line.get("outcome") != "passed"]
        for folder in self.folders:
            for suffix, text in ((".json", json.dumps(run, indent=1) + "\n"), (".md", report.markdown(run))):
                part = folder / f".{self.name}{suffix}.part"
                part.write_text(text, "utf-8")
                part.replace(folder / f"{self.name}{suffix}")

    def execute(self, command: Sequence[str], limit: float, **variables: str) -> tuple[int | None, str]:
        """Run a command; return its exit status (None if time ran out) and its output. No process of it remains."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"ATTRIBUTOR_GPU_LOG": str(self.log), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        environment |= {"PATH": PATH, "PYTHONPATH": f"{self.site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        if self.options.rehearse:
            environment |= {"ATTRIBUTOR_GPU_REHEARSAL": "reference", "OMP_NUM_THREADS": "1"}
        ends, start = time.monotonic() + limit, self.output.stat().st_size
        with self.output.open("ab") as file:
            # not in ROOT, where Python could import the incomplete package
            process = subprocess.Popen(
                command, stdout=file, stderr=file, cwd=BENCH, env=environment | variables, start_new_session=True
            )
        try:
            while (code := process.poll()) is None and time.monotonic() < ends:
                time.sleep(0.5)
                self.write()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.write()
        return code, self.output.read_bytes()[start:].decode("utf-8", "replace")

    def stage(self, name: str, work: Stage, later: int) -> None:
        """Run a stage within its time and store its outcome."""
        began = time.monotonic()
        limit = allowance(self.options.budget - (began - self.began), later)
        if limit < RESERVED:
            status, why = "not run", f"{max(limit, 0):.0f} s are left, it needs {RESERVED:.0f}"
        else:
            self.say(f"{name}: at most {limit:.0f} s")
            status, why = work(self, limit)
        seconds = round(time.monotonic() - began, 1)
        self.stages.append({"name": name, "status": status, "seconds": seconds, "why": why})
        self.say(f"{name}: {status} {why}")
        self.write()


def ask(*command: str) -> str | None:
    """Return the output of a program; None if it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def last_line(text: str) -> str:
    """Return the most informative line of an output: the last one that names an error, otherwise the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line and "subprocess" not in line and "note:" not in line]
    return (errors or lines or ["no output"])[-1][:300]


def judge(code: int | None, text: str) -> Outcome:
    """Return the outcome of a stage from its process."""
    if code is None:
        return "cut off", "out of time"
    if code == report.SKIPPED:
        return "skipped", last_line(text)
    return ("failed", f"exit status {code}: {last_line(text)}") if code else ("done", "")


def run_build(run: Run, limit: float) -> Outcome:
    """Install the checkout with pip, without a network, and the CUDA kernel with its variants if nvcc is available.

    If that fails, the stage fails too, and plain Python is installed for the other stages.
    """
    if run.options.rehearse:
        return "skipped", "a rehearsal runs what is installed"
    ends, reasons = time.monotonic() + limit, []
    pip = [*MODULE, "pip", "install", "-q", "--no-input", "--disable-pip-version-check", "--no-index", "--no-deps"]
    pip += ["--no-build-isolation", f"--config-settings=build-dir={run.options.work / 'build'}"]
    pip += ["--config-settings=cmake.define.ATTRIBUTOR_CUDA_TUNING=ON", f"--target={run.site}", str(ROOT)]
    for variables in ({}, {"ATTRIBUTOR_PURE": "1"}):
        shutil.rmtree(run.site, ignore_errors=True)
        left = max(ends - time.monotonic(), 15.0)
        code, text = run.execute(pip, left, **variables)
        if code == 0:
            break
        reasons.append(judge(code, text)[1])
    return ("failed", "; ".join(reasons)) if reasons else ("done", "")


def run_tests(run: Run, limit: float) -> Outcome:
    """Run every GPU test; both kernels have the same tests."""
    command = [*MODULE, "pytest", *map(str, TESTS), "-p", "xdist.plugin", "-p", "gpu.plugin", "-p", "no:cacheprovider"]
    command += ["-q", "-W", "default", f"--rootdir={ROOT}"]  # other versions of packages may warn
    command += ["-n", "0" if run.options.rehearse else str(PROCESSES)]
    code, text = run.execute(command, limit, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")  # other plugins load for seconds
    outcomes = [line["outcome"] for line in run.findings() if line["kind"] == "test"]
    if failed := sum(outcome in report.FAILURES for outcome in outcomes):
        return "failed", f"{failed} of {len(outcomes)} tests failed"
    return judge(code, text)


def run_measure(what: str) -> Stage:
    """Run a stage that is one program of measure.py."""
    return lambda run, limit: judge(*run.execute([*MODULE, "gpu.measure", what], limit))


def run_sanitizer(run: Run, limit: float) -> Outcome:
    """Run compute-sanitizer on small calls of each kernel. Without torch's cache each tensor has its own allocation."""
    tool, ends, statuses = shutil.which("compute-sanitizer", path=PATH), time.monotonic() + limit, []
    if tool is None:
        return "skipped", "compute-sanitizer was not found on PATH or in /usr/local/cuda/bin"
    for kernel in reversed(report.KERNELS):
        small = [*MODULE, "gpu.measure", "sanitize", kernel]
        code, _ = run.execute(small, min(ends - time.monotonic(), 40.0))  # compiles first: slower under a tool
        for name in SANITIZERS if code != report.SKIPPED else ():
            command = [tool, "--tool", name, "--error-exitcode", "9", *small]
            left = min(ends - time.monotonic(), 40.0)
            code, text = run.execute(command, left, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
            status = {0: "clean", 9: "errors", None: "cut off"}.get(code, f"did not work: {last_line(text)}")
            report.record(run.log, "sanitizer", f"{name} of {kernel}", kernel=kernel, status=status)
            statuses.append(status)
    return "failed" if set(statuses) - {"clean", "cut off"} else "done", ", ".join(dict.fromkeys(statuses))


def run_ncu(run: Run, limit: float) -> Outcome:
    """Profile one launch of the CUDA kernel with Nsight Compute, without changing the clocks."""
    tool = shutil.which("ncu", path=PATH)
    if tool is None:
        return "skipped", "ncu was not found on PATH or in /usr/local/cuda/bin"
    command = [tool, "--csv", "--page", "raw", "--clock-control", "none", "--kernel-name", "regex:flow_step_kernel"]
    for section in ("SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "WarpStateStats"):
        command += ["--section", section]
    command += ["--launch-skip", "1", "--launch-count", "1", *MODULE, "gpu.measure", "launch"]
    _, text = run.execute(command, limit)
    if metrics := parse_ncu(text):
        report.record(run.log, "ncu", HEADLINE.name, metrics=metrics)
        return "done", ""
    return "skipped", last_line(text)


def parse_ncu(text: str) -> dict[str, float]:
    """Return time, percentages and stall reasons of warps from the output of `ncu --csv --page raw` for one launch."""
    _, header, table = text.partition('"ID"')
    rows = list(csv.reader((header + table).splitlines()))[:3]
    metrics = {}
    for name, unit, value in zip(*rows, strict=False) if len(rows) == 3 else []:
        if name.startswith("gpu__time_duration") or "pct" in name or "issue_stalled" in name:
            with contextlib.suppress(ValueError):  # n/a
                metrics[f"{name} ({unit})" if unit else name] = float(value.replace(",", ""))
    return metrics


STAGES: dict[str, Stage] = {
    "build": run_build,
    "tests": run_tests,
    "steps": run_measure("steps"),
    "flows": run_measure("flows"),
    "sanitizer": run_sanitizer,
    "tunings": run_measure("tunings"),
    "ncu": run_ncu,
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    usage = 'make gpu-check [OUT=FOLDER] [GPU_PYTHON=PYTHON] [ARGS="OPTIONS"]'
    parser = argparse.ArgumentParser(prog="make gpu-check", usage=usage, description=__doc__)
    parser.add_argument("--out", type=Path, help="a folder for the results, beside bench/results; OUT= sets it")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), help="run these stages only")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds for everything (%(default).0f)")
    parser.add_argument("--commit", help="name of the version, for a copy of the checkout without git")
    parser.add_argument("--rehearse", action="store_true", help="run it all on the CPU at tiny sizes; needs --out")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=BENCH / "results", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rehearse and not options.out:
        parser.error("a rehearsal measures nothing, so it is not kept in bench/results: name a folder with --out")
    return options


def probe() -> dict[str, Any]:
    """Return the GPU and the versions from another process, because this one must not use the device."""
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{ROOT}"}
    ran = subprocess.run([*MODULE, "gpu.probe"], capture_output=True, text=True, env=environment, cwd=BENCH)
    if ran.returncode:
        sys.exit(
            "gpu-check needs a GPU of compute capability 8.0 or later that torch and triton can use; "
            f"{sys.executable}: {last_line(ran.stderr)}. GPU_PYTHON=... names another Python."
        )
    return dict(json.loads(ran.stdout))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages; return 1 if one failed or a kernel is wrong."""
    options = parse(arguments)
    run = Run({"device": {"name": "rehearsal"}, "versions": {}} if options.rehearse else probe(), options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # lets execute() end its processes
    stages = [name for name in STAGES if name in options.only]
    for i, name in enumerate(stages, 1):
        run.stage(name, STAGES[name], later=len(stages) - i)
        if name == "build" and not options.rehearse and not run.site.exists():
            break
    failed = [stage["name"] for stage in run.stages if stage["status"] == "failed"]
    failed += report.find_wrong(run.findings())
    run.say(f"failed: {', '.join(failed)}" if failed else "no stage failed")
    for folder in run.folders:
        run.say(f"{folder / run.name}.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
