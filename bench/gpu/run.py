"""make gpu-check: build this checkout on a machine with a GPU, test both kernels there, and measure them.

Runs without a network, and installs nothing but this checkout, into build/gpu. Findings are written as they come: when
a run is cut off, everything up to then is in bench/results. Needs torch, triton, transformers, pytest, hypothesis,
scikit-build-core, pybind11, cmake and ninja; for the CUDA kernel also nvcc 12.3 and a GPU of compute capability 9.0.
"""

import argparse
import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu import HUNG, LOST, SKIPPED, report
from gpu.shapes import HEADLINE

BENCH = Path(__file__).parents[1]
ROOT = BENCH.parent
TESTS = [ROOT / "tests/gpu" / f"test_gpu_{name}.py" for name in ("flow_step", "memory", "cuda", "flow")]
SHARES = ("triton:0/4", "triton:1/4", "triton:2/4", "triton:3/4", "cuda:0/2", "cuda:1/2")
SANITIZERS = ("memcheck", "racecheck", "synccheck")
NO_TESTS = 5  # exit status of pytest
RESTARTS = 8  # of a process that a test or a measurement has ended
Outcome = tuple[str, str]  # status and reason


@dataclass(frozen=True)
class Stage:
    """One stage: `run` gets the run and its seconds.

    Attributes:
        least: seconds that are reserved for it, and without which it does not start.
        most: seconds after which it is cut off.
    """

    name: str
    what: str
    least: float
    most: float
    run: Callable[["Run", float], Outcome]


def allowance(stages: Sequence[Stage], index: int, left: float) -> float:
    """Seconds for one stage when `left` remain: what later ones need at least is kept for them."""
    later = sum(stage.least for stage in stages[index + 1 :])
    return min(stages[index].most, max(left - later, min(left, stages[index].least)))


class Run:
    """One check: its findings so far, and where they are written."""

    def __init__(self, device: dict[str, Any], options: argparse.Namespace) -> None:
        self.began = time.monotonic()
        self.options = options
        self.python, self.installed = options.python, False
        self.stages: list[dict[str, Any]] = []
        head, dirty = ask_git("rev-parse", "HEAD"), ask_git("status", "--porcelain")
        now = datetime.now(timezone.utc)
        self.facts = {
            "kind": "gpu-check",
            "rehearsal": options.rehearse,
            "datetime": now.isoformat(timespec="seconds"),
            "commit": options.commit or head,
            "dirty": bool(dirty) and not options.commit,
            "device": {**device["device"], **ask_driver()},
            "versions": device["versions"],
            "budget": options.budget,
        }
        name = "rehearsal" if options.rehearse else str(device["device"].get("name"))
        slug = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
        self.name = f"{now.date().isoformat()}-{slug}-{str(self.facts['commit'] or 'unknown')[:9]}-gpu"
        self.folders = [Path(options.out).resolve()] if options.out else []
        self.folders += [] if options.rehearse else [options.results]
        for folder in (*self.folders, options.work):
            folder.mkdir(parents=True, exist_ok=True)
        self.log, self.output = options.work / "findings.jsonl", options.work / "output.txt"
        for file in (self.log, self.output):
            file.write_text("")
        self.shown = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def left(self) -> float:
        """Seconds of the budget."""
        return float(self.options.budget - (time.monotonic() - self.began))

    def say(self, text: str) -> None:
        """Print one line of progress."""
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def findings(self) -> list[report.Finding]:
        """Without those that only say that something began; the last of what is there twice."""
        lines = [line for line in report.read(self.log) if line["kind"] != "begun"]
        return list({(line["kind"], line["name"]): line for line in lines}.values())

    def record(self, kind: str, name: str, **fields: Any) -> None:
        """Add a finding to the log."""
        os.environ[report.LOG] = str(self.log)
        report.record(kind, name, **fields)
        self.write()

    def write(self) -> None:
        """Print what is new, and write everything so far; whole files only."""
        lines = report.read(self.log)
        for line in lines[self.shown :]:
            if text := report.summary(line):
                self.say(f"    {text}")
        self.shown = len(lines)
        seconds = round(time.monotonic() - self.began, 1)
        findings = self.findings()
        passed = [line["name"] for line in findings if line.get("outcome") == "passed"]
        run = {**self.facts, "seconds": seconds, "stages": self.stages}
        run["passed"] = dict(Counter(map(report.kernel_of, passed)))
        run["findings"] = [line for line in findings if line.get("outcome") != "passed"]
        for folder in self.folders:
            for name, text in (
                (f"{self.name}.json", report.dump(run)),
                (f"{self.name}.md", report.markdown(run)),
            ):
                part = folder / f".{name}.part"
                part.write_text(text, "utf-8")
                part.replace(folder / name)

    def execute(self, commands: Sequence[Sequence[str]], limit: float, env: Sequence[dict[str, str]] = ()) -> list[Any]:
        """Run commands beside one another; (exit status or None if time ran out, output) of each."""
        base = {**os.environ, report.LOG: str(self.log), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        base["PYTHONPATH"] = os.pathsep.join(filter(None, [str(BENCH), os.environ.get("PYTHONPATH")]))
        if self.options.rehearse:
            base |= {"ATTRIBUTOR_GPU_REHEARSAL": "reference", "OMP_NUM_THREADS": "1"}
        ends = time.monotonic() + limit
        paths = []
        for i, command in enumerate(commands):
            paths.append(self.options.work / f"process-{i}.txt")
            # not in ROOT: Python may look there first, and what it finds is not the whole package
            where = {"cwd": BENCH, "env": {**base, **(env[i] if env else {})}, "start_new_session": True}
            with paths[-1].open("wb") as file:
                self.processes.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **where))
        while any(process.poll() is None for process in self.processes) and time.monotonic() < ends:
            time.sleep(0.2)
            if len(report.read(self.log)) > self.shown:
                self.write()
        codes = [process.poll() for process in self.processes]
        self.stop()
        self.write()
        outputs = [path.read_text("utf-8", "replace") for path in paths]
        with self.output.open("a", encoding="utf-8") as file:
            for command, text in zip(commands, outputs, strict=True):
                file.write(f"$ {' '.join(map(str, command))}\n{text}\n")
        return list(zip(codes, outputs, strict=True))

    def stop(self) -> None:
        """End what still runs, with everything that it started."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes = []

    def module(self, *arguments: str) -> list[str]:
        """The command of a program of this folder."""
        return [str(self.python), "-m", *arguments]

    def stage(self, index: int, stages: Sequence[Stage]) -> None:
        """Run one stage within its time, and note its outcome."""
        stage, began = stages[index], time.monotonic()
        limit = max(self.left(), 0.0) if self.options.rehearse else allowance(stages, index, self.left())
        if limit < stage.least:
            self.note(stage.name, "not run", began, f"{max(limit, 0):.0f} s are left, it needs {stage.least:.0f}")
            return
        self.say(f"{stage.name}: {stage.what}, at most {limit:.0f} s")
        try:
            status, why = stage.run(self, limit)
        except (OSError, subprocess.SubprocessError) as error:
            self.stop()
            status, why = "failed", report.reason(error)
        self.note(stage.name, status, began, why)

    def note(self, name: str, status: str, began: float, why: str) -> None:
        """Keep the outcome of a stage."""
        self.stages.append({"name": name, "status": status, "seconds": round(time.monotonic() - began, 1), "why": why})
        self.say(f"{name}: {status}{f': {why}' if why else ''}")
        self.write()


def last_line(text: str) -> str:
    """The line of an output that says most: the last that names an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line and "subprocess" not in line and "note:" not in line]
    return (errors or lines or ["no output"])[-1][:300]


def judge(results: Sequence[tuple[int | None, str]], limit: float) -> Outcome:
    """The outcome of a stage by its processes."""
    for code, text in results:
        if code:
            return "failed", f"exit status {code}: {last_line(text)}"
    return ("cut off", f"after {limit:.0f} s") if None in [code for code, _ in results] else ("done", "")


def run_again(run: Run, commands: list[list[str]], limit: float, env: list[dict[str, str]] | None = None) -> list[Any]:
    """Run commands, and again each that a test or a measurement has ended: it goes on with the next one."""
    ends, results = time.monotonic() + limit, []
    shares = list(env or [{}] * len(commands))
    for _ in range(RESTARTS):
        batch = run.execute(commands, ends - time.monotonic(), shares)
        results += batch
        ended = [i for i, (code, _) in enumerate(batch) if code is not None and (code < 0 or code in (LOST, HUNG))]
        lines = report.read(run.log)
        done = {line["name"] for line in lines if line["kind"] == "test"}
        for line in [line for line in lines if line["kind"] == "begun" and "share" in line]:
            if line["name"] not in done and line["share"] in [shares[i].get("ATTRIBUTOR_GPU_SHARE") for i in ended]:
                why = "it ended its process, or did not end in time"
                run.record("test", line["name"], outcome="failed", seconds=0.0, why=why)
        commands, shares = [commands[i] for i in ended], [shares[i] for i in ended]
        if not commands or ends - time.monotonic() < 15:
            break
    return results


def run_build(run: Run, limit: float) -> Outcome:
    """Install the checkout into an environment that sees all packages of this Python; not in a rehearsal.

    By pip without a network: the CUDA kernel with its variants where nvcc is. If that fails, so does the stage, and
    plain Python is installed for the rest.
    """
    if run.options.rehearse:
        return "skipped", "a rehearsal runs what is installed"
    folder, ends, reasons = run.options.work / "env", time.monotonic() + limit, []
    create = [run.python, "-m", "venv", "--system-site-packages", "--without-pip", "--clear", str(folder)]
    subprocess.run(create, check=True)
    python = folder / "bin" / "python"
    ask_site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", ask_site], check=True, capture_output=True, text=True).stdout.strip())
    parents = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "zz_parent.pth").write_text("".join(f"{path}\n" for path in parents))  # those of a virtual environment too
    pip = [str(python), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check", "--no-index"]
    pip += ["--no-build-isolation", "--no-deps", "--force-reinstall", f"--config-settings=build-dir={folder / 'build'}"]
    pip += ["--config-settings=cmake.define.ATTRIBUTOR_CUDA_TUNING=ON", "-e", str(ROOT)]
    path = f"{Path(run.python).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # cmake, ninja
    for variables in ({}, {"ATTRIBUTOR_PURE": "1"}):
        left = max(ends - time.monotonic(), 15.0)
        ((code, text),) = run.execute([pip], left, [{"PATH": path, **variables}])
        if code == 0:
            break
        reasons.append(f"pip: {last_line(text) if code else f'not ready after {left:.0f} s'}")
    else:
        return "failed", "; ".join(dict.fromkeys(reasons))
    run.python, run.installed = python, True
    ((code, text),) = run.execute([[str(python), "-c", "from attributor import _cuda; print(_cuda.kernels())"]], 60)
    reasons.append(f"{'no ' if code else ''}CUDA kernel: {last_line(text)}")
    return "failed" if len(reasons) > 1 else "done", "; ".join(reasons)


def run_tests(run: Run, limit: float) -> Outcome:
    """Every GPU test: most of the time is Triton's compiling, so six processes share them out."""
    command = run.module("pytest", *map(str, TESTS), "-p", "gpu.plugin", "-p", "no:cacheprovider")
    command += ["-q", "-W", "default", f"--rootdir={ROOT}"]  # other versions of other packages may warn
    shares = ("all:0/1",) if run.options.rehearse else SHARES
    env = [{"ATTRIBUTOR_GPU_SHARE": share} for share in shares]
    results = run_again(run, [command] * len(shares), limit, env)
    status, why = judge([(0 if code == NO_TESTS else code, text) for code, text in results], limit)
    tests = [line for line in run.findings() if line["kind"] == "test"]
    failed = sum(test["outcome"] == "failed" for test in tests)
    if failed:
        return "failed", f"{failed} of {len(tests)} tests failed"
    if status == "done" and not any(test["outcome"] == "passed" for test in tests):
        return "failed", f"no test was run: {last_line(results[0][1])}"
    return status, why


def run_measure(what: str) -> Callable[[Run, float], Outcome]:
    """A stage that is one program of measure.py."""

    def stage(run: Run, limit: float) -> Outcome:
        results = run_again(run, [run.module("gpu.measure", what)], limit)
        code, text = results[-1]
        if code == SKIPPED:
            return "skipped", last_line(text)
        wrong = report.wrong_kernels(run.findings())
        return ("failed", "; ".join(wrong.values())) if code == 1 and wrong else judge(results, limit)

    return stage


def find_tool(name: str) -> str | None:
    """The path of a program of CUDA."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")


def run_sanitizer(run: Run, limit: float) -> Outcome:
    """compute-sanitizer over small calls of each kernel; without torch's cache each tensor has its own allocation."""
    tool, ends, statuses = find_tool("compute-sanitizer"), time.monotonic() + limit, []
    if tool is None:
        return "skipped", "compute-sanitizer was not found on PATH or in /usr/local/cuda/bin"
    env = [{"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}]
    for kernel in reversed(report.KERNELS):
        small = run.module("gpu.measure", "sanitize", kernel)
        ((code, text),) = run.execute([small], ends - time.monotonic(), env)  # compiles: inside it would take longer
        if code == SKIPPED:
            continue
        if code != 0:
            return judge([(code, text)], limit)
        for name in SANITIZERS:
            left = min(ends - time.monotonic(), 40.0)
            if left < 5:
                return "cut off", f"{name} of {kernel} was not started"
            ((code, text),) = run.execute([[tool, "--tool", name, "--error-exitcode", "9", *small]], left, env)
            status = {0: "clean", 9: "errors", None: "cut off"}.get(code, f"did not work: {last_line(text)}")
            run.record("sanitizer", f"{name} of {kernel}", tool=name, kernel=kernel, status=status)
            statuses.append(status)
    if not statuses:
        return "skipped", "no kernel can run here"
    status = "failed" if "errors" in statuses else "done" if set(statuses) == {"clean"} else "cut off"
    return status, ", ".join(dict.fromkeys(statuses))


def run_ncu(run: Run, limit: float) -> Outcome:
    """One launch of the CUDA kernel under Nsight Compute, clocks left alone."""
    tool = find_tool("ncu")
    if tool is None:
        return "skipped", "ncu was not found on PATH or in /usr/local/cuda/bin"
    command = [tool, "--csv", "--page", "raw", "--clock-control", "none", "--kernel-name", "regex:flow_step_kernel"]
    for section in ("SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "WarpStateStats"):
        command += ["--section", section]
    command += ["--launch-skip", "1", "--launch-count", "1", *run.module("gpu.measure", "launch")]
    ((code, text),) = run.execute([command], limit)
    if code is None:
        return "cut off", f"after {limit:.0f} s"
    try:
        run.record("ncu", HEADLINE.name, metrics=parse_ncu(text))
    except ValueError as error:
        return "skipped", str(error)
    return "done", ""


def parse_ncu(text: str) -> dict[str, float]:
    """Time, percentages and the reasons that warps wait for, in what `ncu --csv --page raw` prints.

    Raises:
        ValueError: there is no launch in it; with ncu's own words if it gives a reason.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    rows = list(csv.reader(lines[start : start + 3])) if start is not None else []
    if len(rows) < 3 or len(rows[2]) != len(rows[0]):
        errors = [line.partition("==ERROR==")[2].strip() for line in lines if "==ERROR==" in line]
        raise ValueError(errors[0] if errors else "ncu printed no launch of the kernel")
    metrics = {}
    for name, unit, value in zip(*rows, strict=True):
        if name.startswith("gpu__time_duration") or "pct" in name or "issue_stalled" in name:
            try:
                metrics[f"{name} ({unit})" if unit else name] = float(value.replace(",", ""))
            except ValueError:  # n/a
                continue
    return metrics


STAGES = (
    Stage("build", "this checkout, in place and without a network", 5, 240, run_build),
    Stage("tests", "every GPU test, by both kernels", 60, 150, run_tests),
    Stage("steps", "flow_step beside SDPA and the gradient route", 40, 100, run_measure("steps")),
    Stage("flows", "flow() and record() of whole models", 60, 150, run_measure("flows")),
    Stage("sanitizer", "compute-sanitizer over small calls", 40, 150, run_sanitizer),
    Stage("tunings", "the variants of the CUDA kernel", 20, 60, run_measure("tunings")),
    Stage("ncu", "one launch of the CUDA kernel under Nsight Compute", 15, 60, run_ncu),
)

PROBE = """
import importlib.metadata, json, platform, sys
versions, device, error = {"python": platform.python_version()}, {}, None
try:
    import torch
    versions |= {"torch": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}
    if torch.cuda.is_available():
        p = torch.cuda.get_device_properties(0)
        device = {"name": p.name, "capability": [p.major, p.minor], "memory": p.total_memory,
                  "processors": p.multi_processor_count, "count": torch.cuda.device_count()}
        torch.zeros(1, device="cuda").item()
except Exception as problem:
    error = f"{type(problem).__name__}: {problem}".splitlines()[0]
for name in ("triton", "transformers", "numpy", "pytest"):
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        versions[name] = None
print(json.dumps({"executable": sys.executable, "versions": versions, "device": device, "error": error}))
"""


def probe(python: str) -> dict[str, Any]:
    """The versions of a Python and its GPU as torch sees it, by another process: this one needs no torch."""
    try:
        ran = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=300)
        return dict(json.loads(ran.stdout.splitlines()[-1]))
    except (OSError, subprocess.TimeoutExpired, IndexError, json.JSONDecodeError) as error:
        return {"executable": python, "versions": {}, "device": {}, "error": f"it does not run: {report.reason(error)}"}


def unusable(machine: dict[str, Any]) -> str | None:
    """The sentence that says why there is nothing to check; None if there is a GPU that will do."""
    versions, device, error = machine["versions"], machine["device"], machine["error"]
    if not error and device and (versions["hip"] or device["capability"] >= [8, 0]):
        return None
    parts = [f"torch {versions.get('torch')}", f"CUDA {versions.get('cuda')}"]
    parts.append(f"{device['name']} of {'.'.join(map(str, device['capability']))}" if device else "no GPU")
    return (
        f"gpu-check needs a GPU of compute capability 8.0 or later that torch can use; {machine['executable']} has "
        f"{', '.join(parts)}{f' ({error})' if error else ''}. GPU_PYTHON=... names another Python."
    )


def ask(*command: str) -> str | None:
    """What a program prints; None if it is not there or fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def ask_git(*arguments: str) -> str | None:
    """About the checkout."""
    return ask("git", "-C", str(ROOT), *arguments)


def ask_driver() -> dict[str, str]:
    """Driver, clocks and power limit of the first GPU, by nvidia-smi."""
    names = ("driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit", "mig.mode.current")
    values = (ask("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader", "--id=0") or "").split(",")
    return dict(zip(names, map(str.strip, values), strict=True)) if len(values) == len(names) else {}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [stage.name for stage in STAGES]
    stages = "\n".join(f"  {s.name:<10} {s.what}; {s.least:.0f} to {s.most:.0f} s" for s in STAGES)
    parser = argparse.ArgumentParser(
        prog="make gpu-check",
        usage='make gpu-check [OUT=FOLDER] [GPU_PYTHON=PYTHON] [ARGS="OPTIONS"]',
        description=__doc__,
        epilog=f"stages:\n{stages}\n\nThe exit status is 1 if a stage failed: a test, a wrong answer, an error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", help="a folder for the results, beside bench/results; OUT= sets it")
    parser.add_argument("--only", metavar="STAGE,...", help="run these stages only")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds for everything (%(default).0f)")
    parser.add_argument("--commit", help="name of the version, for a copy of the checkout without git")
    parser.add_argument("--rehearse", action="store_true", help="run it all on the CPU at tiny sizes; needs --out")
    parser.add_argument("--python", default=sys.executable, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=BENCH / "results", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else names
    if unknown := sorted(set(options.only) - set(names)):
        parser.error(f"there is no stage {', '.join(unknown)}; there are {', '.join(names)}")
    if options.rehearse and not options.out:
        parser.error("a rehearsal measures nothing, so it is not kept in bench/results: name a folder with --out")
    if not (options.budget > 0 and math.isfinite(options.budget)):
        parser.error(f"--budget must be a number of seconds > 0, got {options.budget:g}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages; 1 if one failed or a kernel is wrong."""
    options = parse(arguments)
    machine = probe(options.python)
    if not options.rehearse and (sentence := unusable(machine)):
        print(sentence, file=sys.stderr)
        return 1
    run = Run(machine, options)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    stages = [stage for stage in STAGES if stage.name in options.only]
    try:
        for index in range(len(stages)):
            run.stage(index, stages)
            if run.stages[-1]["name"] == "build" and run.stages[-1]["status"] == "failed" and not run.installed:
                break
    except KeyboardInterrupt:
        run.stop()
        run.note("interrupted", "cut off", time.monotonic(), "by a signal")
    if options.out:
        shutil.copy(run.output, run.folders[0] / f"{run.name}.txt")
    failed = [stage["name"] for stage in run.stages if stage["status"] == "failed"]
    wrong = report.wrong_kernels(run.findings())
    for folder in run.folders:
        run.say(f"{folder / run.name}.md")
    run.say(f"failed: {', '.join([*failed, *wrong])}" if failed or wrong else "no stage failed")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
