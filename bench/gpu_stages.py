"""The stages of gpu_check.py, the most important first: what each runs, and how long it may take."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_log import note
from gpu_shapes import FLOWS, HEADLINE, STEPS

__all__ = ["STAGES", "Stage", "sanitizer"]

ROOT = Path(__file__).parents[1]
TESTS = ("tests/test_gpu.py", "tests/test_gpu_flow.py")
SHARDS = 6  # processes for the tests: enough to compile beside one another, few enough for one GPU's memory


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: for --only.
        what: one line for people.
        limit: the most seconds that it gets.
        run: given the check and its seconds, "done", "failed", "cut off" or "skipped", and why.
        least: with fewer seconds left it is not worth a start.
    """

    name: str
    what: str
    limit: float
    run: Callable[[Any, float], tuple[str, str]]
    least: float = 15.0


def outcome(codes: list[int | None], limit: float) -> tuple[str, str]:
    """What exit codes mean."""
    if wrong := [code for code in codes if code]:
        return "failed", f"exit status {wrong[0]}; its output is kept"
    return ("cut off", f"after {limit:.0f} s") if None in codes else ("done", "")


def build(check: Any, limit: float) -> tuple[str, str]:
    """Install the checkout in an environment of its own; not in a rehearsal."""
    if check.options.rehearse:
        return "skipped", "a rehearsal runs what is installed"
    folder = check.options.work / "env"
    (code,) = check.run([[check.python, "bench/gpu_build.py", str(folder)]], limit, {})
    if code != 0:
        return outcome([code], limit)
    found = json.loads(check.outputs[0].read_text().splitlines()[-1])
    check.python = found["python"]
    check.head["build"] = found
    return "done", f"{found['built']} in {found['seconds']} s{'; ' + found['why'] if found['why'] else ''}"


def environment(check: Any) -> dict[str, str]:
    """What every process of a stage is told."""
    # the checkout lies before site-packages where Python starts in it, and lacks attributor.kernels
    found = {"PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    if check.options.rehearse:
        implementation = os.environ.get("ATTRIBUTOR_GPU_REHEARSAL", "reference")
        found |= {"ATTRIBUTOR_GPU_REHEARSAL": implementation, "BENCH_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return found


def script(name: str) -> Callable[[Any, float], tuple[str, str]]:
    """A stage that is one program of this folder."""

    def run(check: Any, limit: float) -> tuple[str, str]:
        return outcome(check.run([[check.python, f"bench/{name}.py"]], limit, environment(check)), limit)

    return run


def pytest(*nodes: str, shards: int = 1) -> Callable[[Any, float], tuple[str, str]]:
    """A stage that runs tests or benchmarks in this order; warnings of other versions of other packages pass."""

    def run(check: Any, limit: float) -> tuple[str, str]:
        options = ["-W", "default", "-p", "no:cacheprovider", "-p", "gpu_shard", "-q", "-s"]
        command = [check.python, "-m", "pytest", *nodes, *options]
        codes = check.run([command] * (1 if check.options.rehearse else shards), limit, environment(check))
        return outcome([0 if code == 5 and shards > 1 else code for code in codes], limit)  # 5: a shard without tests

    return run


def sanitizer(check: Any, limit: float) -> tuple[str, str]:
    """compute-sanitizer's memcheck and racecheck over small calls, a minute each."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    small = [check.python, "bench/gpu_sanitize.py"]
    env = {**environment(check), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    (code,) = check.run([small], min(limit, 60.0), env)  # compiles, which would take longer inside
    if code != 0:
        return outcome([code], limit)
    if tool is None:
        return "skipped", "compute-sanitizer was not found on PATH or in /usr/local/cuda/bin"
    statuses = []
    for name in ("memcheck", "racecheck"):
        (code,) = check.run([[tool, "--tool", name, "--error-exitcode", "9", *small]], min(limit / 2, 60.0), env)
        status = {0: "clean", 9: "errors found", None: "cut off after a minute"}.get(code, f"exit status {code}")
        os.environ["ATTRIBUTOR_GPU_LOG"] = str(check.log)
        note("sanitizer", tool=name, status=status)
        check.say(f"    {name}: {status}")
        statuses.append(status)
    if "errors found" in statuses:
        return "failed", ", ".join(statuses)
    return ("done" if set(statuses) == {"clean"} else "cut off"), ", ".join(statuses)


STEP_FILE, FLOW_FILE = "bench/bench_gpu_step.py", "bench/bench_gpu_flow.py"


def step_nodes() -> list[str]:
    """All but the headline, which has a stage of its own."""
    return [f"{STEP_FILE}::bench_gpu_step[{step.name}]" for step in STEPS if step != HEADLINE]


def flow_nodes() -> list[str]:
    """What the stage "model" leaves, so that each model is made once."""
    nodes = []
    for model in dict.fromkeys(name for name, _ in FLOWS):
        sizes = [tokens for name, tokens in FLOWS if name == model and (name, tokens) != FLOWS[0]]
        nodes += [f"{FLOW_FILE}::bench_gpu_flow[{model}-{tokens}]" for tokens in sizes[:1]]
        if model == "8B":
            nodes += [f"{FLOW_FILE}::bench_gpu_{name}" for name in ("stock[8B-32768]", "matrices", "keep[8B-32768]")]
        if model == "1B":
            nodes.append(f"{FLOW_FILE}::bench_gpu_record[1B-32768]")
        nodes += [f"{FLOW_FILE}::bench_gpu_flow[{model}-{tokens}]" for tokens in sizes[1:]]
    return nodes


STAGES = (
    Stage("build", "this checkout, in place and without a network", 120, build, 5),
    Stage("ceilings", "what the device can do", 60, script("gpu_ceilings")),
    Stage("kernel", HEADLINE.name, 60, pytest(f"{STEP_FILE}::bench_gpu_step[{HEADLINE.name}]")),
    Stage(
        "model",
        "flow() of an 8B shape at 32k",
        110,
        pytest(f"{FLOW_FILE}::bench_gpu_flow[8B-32768]", f"{FLOW_FILE}::bench_gpu_record[8B-32768]"),
    ),
    Stage("tests", "every GPU test", 170, pytest(*TESTS, shards=SHARDS)),
    Stage("sanitizer", "memory and races of small calls", 130, sanitizer),
    Stage("steps", "flow_step over shapes", 120, pytest(*step_nodes())),
    Stage("flows", "flow() over models and lengths", 300, pytest(*flow_nodes())),
)
