"""make gpu-check: build, measure the device, run every GPU test and benchmark, within minutes and without a network.

    python bench/gpu_check.py [--out FOLDER] [--only STAGE,STAGE] [--budget SECONDS] [--commit NAME] [--rehearse]

Every stage is a process with a time limit of its own; what it finds is written at once, so a run that is cut off
leaves all that was measured until then. Needs nothing but Python itself: torch is looked for by another process.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gpu_report
import gpu_stages
from gpu_log import merge, read
from gpu_probe import commit, driver, probe, unusable

__all__ = ["Check", "main"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
WORK = ROOT / "build" / "gpu"
BUDGET = 450.0  # seconds: ten minutes is what one command may take on many a machine


class Check:
    """One run: what it has found so far, and where that goes."""

    def __init__(self, found: dict[str, Any], options: argparse.Namespace) -> None:
        self.began = time.monotonic()
        self.options = options
        head, dirty = commit()
        self.stages: list[dict[str, Any]] = []
        now = datetime.now(timezone.utc)
        versions = ("python", "torch", "triton", "transformers", "numpy", "pytest", "pytest-benchmark", "accelerate")
        device = ("name", "capability", "memory", "processors", "l2", "count")
        self.head = {
            "kind": "gpu-check",
            "rehearsal": options.rehearse,
            "datetime": now.isoformat(timespec="seconds"),
            "commit": options.commit or head,
            "dirty": dirty if not options.commit else None,
            "device": {**{key: found.get(key) for key in device}, **driver()},
            "versions": {key: found.get(key) for key in (*versions, "cuda", "hip")},
            "budget": options.budget,
        }
        name = "rehearsal" if options.rehearse else str(found.get("name"))
        slug = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
        short = str(self.head["commit"] or "unknown")[:9]
        self.name = f"{now.date().isoformat()}-{slug}-{short}-gpu"
        self.folders = [Path(options.out).resolve()] if options.out else []
        if not options.rehearse:
            self.folders.append(RESULTS)
        for folder in (*self.folders, options.work):
            folder.mkdir(parents=True, exist_ok=True)
        self.log = options.work / "found.jsonl"
        for old in (self.log, *options.work.glob("*.txt")):
            old.unlink(missing_ok=True)
        self.python = options.python
        self.running: list[subprocess.Popen[bytes]] = []
        self.outputs: list[Path] = []  # of the last run
        self.runs, self.doing = 0, ""

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{self.elapsed():6.1f} s] {text}", flush=True)

    def found(self) -> dict[str, Any]:
        """Everything so far."""
        return {**self.head, "seconds": round(self.elapsed(), 1), "stages": self.stages, **merge(read(self.log))}

    def write(self) -> None:
        """Everything so far as JSON and as a table, in every folder; whole files only."""
        found = self.found()
        for folder in self.folders:
            for name, text in (
                (f"{self.name}.json", json.dumps(found, indent=1) + "\n"),
                (f"{self.name}.md", gpu_report.markdown(found)),
            ):
                part = folder / f".{name}.part"
                part.write_text(text, "utf-8")
                part.replace(folder / name)

    def run(self, commands: Sequence[Sequence[str]], limit: float, env: dict[str, str]) -> list[int | None]:
        """Commands beside one another, their output shown and kept; exit codes, None where time ran out."""
        base = {**os.environ, **env, "ATTRIBUTOR_GPU_LOG": str(self.log), "PYTHONUNBUFFERED": "1"}
        base["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "bench"), os.environ.get("PYTHONPATH")]))
        ends = time.monotonic() + limit
        self.outputs = []
        for index, command in enumerate(commands):
            shard = {"ATTRIBUTOR_GPU_SHARD": f"{index}/{len(commands)}"}
            self.runs += 1
            path = self.options.work / f"{self.runs:02}-{self.doing}.txt"
            with path.open("wb") as output:
                self.running.append(
                    subprocess.Popen(
                        command,
                        cwd=ROOT,
                        env={**base, **shard},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
            self.outputs.append(path)
        shown = [0] * len(commands)
        written = time.monotonic()
        while True:
            over = all(process.poll() is not None for process in self.running)
            for index, path in enumerate(self.outputs):
                shown[index] = self._show(path, shown[index])
            if time.monotonic() - written > 5:
                self.write()
                written = time.monotonic()
            if over or time.monotonic() > ends:
                break
            time.sleep(0.2)
        codes = [process.poll() for process in self.running]
        self.stop()
        return codes

    def _show(self, path: Path, seen: int) -> int:
        """Print the new lines of an output that report something: benchmarks and tests indent theirs by four."""
        with path.open("rb") as file:
            file.seek(seen)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.decode("utf-8", "replace").splitlines():
            shown = line.lstrip(".sFEx")
            if shown.startswith("    ") and shown.strip():
                self.say(shown)
        return seen + len(whole)

    def stop(self) -> None:
        """End what still runs, with all that it started."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.running = []

    def stage(self, stage: gpu_stages.Stage) -> None:
        """Run one stage within its limit and the budget, and note how it went."""
        limit = self.options.budget - self.elapsed()
        if not self.options.rehearse:
            limit = min(stage.limit, limit)
        if limit < stage.least:
            self.note(stage.name, "not run", 0.0, f"{max(limit, 0):.0f} s of the budget were left")
            return
        self.say(f"{stage.name}: {stage.what} (at most {limit:.0f} s)")
        began = time.monotonic()
        self.doing = stage.name
        try:
            status, why = stage.run(self, limit)
        except OSError as error:
            status, why = "failed", str(error)
        self.note(stage.name, status, time.monotonic() - began, why)

    def note(self, name: str, status: str, seconds: float, why: str) -> None:
        """How a stage went."""
        self.stages.append({"name": name, "status": status, "seconds": round(seconds, 1), "why": why})
        self.say(f"{name}: {status}{f': {why}' if why else ''}")
        self.write()

    def plot(self) -> None:
        """The roofline, where there is something to plot and matplotlib to do so."""
        try:
            for folder in self.folders:
                gpu_report.plot(self.found(), folder / f"{self.name}.svg")
        except (ImportError, ValueError) as error:
            self.say(f"no plot ({error}); later: python bench/gpu_report.py {self.folders[-1] / self.name}.json")

    def keep_outputs(self) -> None:
        """The plain output of every stage, beside the results that were asked for."""
        for folder in self.folders[: 1 if self.options.out else 0]:
            for path in self.options.work.glob("*.txt"):
                shutil.copy(path, folder / f"{self.name}-{path.name}")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [stage.name for stage in gpu_stages.STAGES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="a folder that the results go to as well as bench/results")
    parser.add_argument("--only", help=f"stages to run, with commas: {', '.join(names)}")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for everything (%(default).0f)")
    parser.add_argument("--commit", help="the commit's name, where the copy of the checkout has no git")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny, to try the programs; needs --out")
    parser.add_argument("--python", default=sys.executable, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=WORK, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    options.only = options.only.split(",") if options.only else names
    if unknown := sorted(set(options.only) - set(names)):
        parser.error(f"there is no stage {', '.join(unknown)}; there are {', '.join(names)}")
    if options.rehearse and not options.out:
        parser.error("a rehearsal measures nothing and must not be kept: say where with --out")
    if not options.budget > 0:
        parser.error(f"--budget must be a number of seconds > 0, got {options.budget:g}")
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Run it; the exit status is 0 if every stage that ran did so without a failure."""
    options = arguments(given)
    found = probe(options.python)
    if not options.rehearse and (sentence := unusable(found)):
        print(sentence, file=sys.stderr)
        return 1
    check = Check(found, options)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    check.say(f"{found.get('name') if not options.rehearse else 'a rehearsal on the CPU'}, torch {found.get('torch')}")
    try:
        for stage in gpu_stages.STAGES:
            if stage.name in options.only:
                check.stage(stage)
    except KeyboardInterrupt:
        check.stop()
        check.note("interrupted", "cut off", 0.0, "a signal ended the run")
    check.keep_outputs()
    check.write()
    check.plot()
    wrong = [stage["name"] for stage in check.stages if stage["status"] == "failed"]
    for folder in check.folders:
        check.say(f"{folder / check.name}.md")
    check.say(f"failed: {', '.join(wrong)}" if wrong else "no stage failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
