"""The stages of gpu_check.py, the most important first: what each runs, and how long it may take."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_ncu
from gpu_log import note, read
from gpu_shapes import FLOWS, HEADLINE, STEPS, Step
from gpu_shard import HUNG, LOST

__all__ = ["STAGES", "Stage", "ncu", "sanitizer", "steps", "tests", "tuning"]

ROOT = Path(__file__).parents[1]
TESTS = ("tests/test_gpu.py", "tests/test_gpu_memory.py", "tests/test_gpu_cuda.py", "tests/test_gpu_flow.py")
SHARDS = 6  # processes for the tests: enough to compile beside one another, few enough for one GPU's memory
CUDA_SHARDS = 2  # of them for the CUDA kernel, which compiles nothing
KERNELS = ("cuda", "triton")


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
    built = f"{found['built']}{' with the CUDA kernel' if found['cuda'] else ''}"
    return "done", f"{built} in {found['seconds']} s{'; ' + found['why'] if found['why'] else ''}"


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


def command(check: Any, nodes: Sequence[str]) -> list[str]:
    """Pytest over tests or benchmarks in this order; warnings of other versions of other packages pass."""
    options = ["-W", "default", "-p", "no:cacheprovider", "-p", "gpu_shard", "-q", "-s"]
    return [check.python, "-m", "pytest", *nodes, *options]


def pytest(*nodes: str) -> Callable[[Any, float], tuple[str, str]]:
    """A stage that runs benchmarks."""

    def run(check: Any, limit: float) -> tuple[str, str]:
        return outcome(check.run([command(check, nodes)], limit, environment(check)), limit)

    return run


def tests(check: Any, limit: float) -> tuple[str, str]:
    """Every test, in processes beside one another. One that a test ended is started again for those that are left."""
    ends = time.monotonic() + limit
    shards = 1 if check.options.rehearse else SHARDS
    env = {**environment(check), "ATTRIBUTOR_GPU_CUDA_SHARDS": str(CUDA_SHARDS)}
    seen: list[int | None] = []
    while (left := ends - time.monotonic()) > 0:
        codes = check.run([command(check, TESTS)] * shards, left, env)
        ended = [code for code in codes if code is not None and (code < 0 or code in (LOST, HUNG))]
        seen += [0 if code == 5 and shards > 1 else code for code in codes]  # 5: a shard without tests
        if not ended or ends - time.monotonic() < 20:
            break
        check.say(f"    {len(ended)} processes were ended by a test and are started again")
    status, why = outcome(seen, limit)
    return status, f"tests ended their process; {why}" if {LOST, HUNG} & set(seen) else why


def steps(*calls: Step, share: float = 0.6) -> Callable[[Any, float], tuple[str, str]]:
    """A stage that times calls by every kernel; then, where that ended early, by Triton alone those that are left."""

    def run(check: Any, limit: float) -> tuple[str, str]:
        ends = time.monotonic() + limit
        nodes = [f"{STEP_FILE}::bench_gpu_step[{call.name}]" for call in calls]
        codes = check.run([command(check, nodes)], limit * share, environment(check))
        measured = {line["name"] for line in read(check.log) if line["kind"] == "step" and line["kernel"] == "triton"}
        missing = [node for call, node in zip(calls, nodes, strict=True) if call.name not in measured]
        if codes != [0] and missing:
            env = {**environment(check), "ATTRIBUTOR_GPU_KERNELS": "triton"}
            codes = [*codes, *check.run([command(check, missing)], max(1.0, ends - time.monotonic()), env)]
        return outcome(codes, limit)

    return run


def tuning(check: Any, limit: float) -> tuple[str, str]:
    """Every cut of the CUDA kernel."""
    (code,) = check.run([[check.python, "bench/gpu_tuning.py"]], limit, environment(check))
    return ("skipped", "the CUDA kernel cannot run here") if code == 5 else outcome([code], limit)


def ncu(check: Any, limit: float) -> tuple[str, str]:
    """One launch of the CUDA kernel under Nsight Compute; again without what its version may not know."""
    tool = shutil.which("ncu") or shutil.which("/usr/local/cuda/bin/ncu")
    if tool is None:
        return "skipped", "ncu was not found on PATH or in /usr/local/cuda/bin"
    why = ""
    for metrics in (True, False):
        (code,) = check.run([gpu_ncu.command(tool, check.python, metrics=metrics)], limit / 2, environment(check))
        if code is None:
            return "cut off", f"after {limit / 2:.0f} s"
        try:
            found = gpu_ncu.parse(check.outputs[0].read_text("utf-8", "replace"))
        except ValueError as error:
            why = str(error)
            continue
        os.environ["ATTRIBUTOR_GPU_LOG"] = str(check.log)
        note("ncu", name=HEADLINE.name, **found)
        for what in ("units", "stalls"):
            check.say(f"    {what}: {', '.join(f'{name} {value:.3g}' for name, value in found[what].items())}")
        return "done", ""
    return "skipped", why


TOOLS = ("memcheck", "racecheck", "synccheck")


def sanitizer(check: Any, limit: float) -> tuple[str, str]:
    """compute-sanitizer over small calls of each kernel, at most 40 seconds each."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    env = {**environment(check), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    ends = time.monotonic() + limit
    usable = []
    for kernel in KERNELS:  # compiles, which would take longer inside; the first without the kernel has the reason
        (code,) = check.run([[check.python, "bench/gpu_sanitize.py", kernel]], min(limit / 4, 60.0), env)
        if code == 0:
            usable.append(kernel)
        elif code != 5:
            return outcome([code], limit)
    if tool is None:
        return "skipped", "compute-sanitizer was not found on PATH or in /usr/local/cuda/bin"
    statuses = []
    for kernel in usable:
        for name in TOOLS:
            small = [check.python, "bench/gpu_sanitize.py", kernel]
            left = min(ends - time.monotonic(), 40.0)
            if left < 5:
                statuses.append("not run")
                break
            (code,) = check.run([[tool, "--tool", name, "--error-exitcode", "9", *small]], left, env)
            status = {0: "clean", 9: "errors found", None: f"cut off after {left:.0f} s"}.get(code, f"status {code}")
            os.environ["ATTRIBUTOR_GPU_LOG"] = str(check.log)
            note("sanitizer", tool=name, kernel=kernel, status=status)
            check.say(f"    {kernel}, {name}: {status}")
            statuses.append(status)
    said = ", ".join(dict.fromkeys(statuses))
    if "errors found" in statuses:
        return "failed", said
    return ("done" if set(statuses) == {"clean"} else "cut off"), said


STEP_FILE, FLOW_FILE = "bench/bench_gpu_step.py", "bench/bench_gpu_flow.py"


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
    Stage("build", "this checkout, in place and without a network", 240, build, 5),
    Stage("ceilings", "what the device can do", 60, script("gpu_ceilings")),
    Stage("kernel", HEADLINE.name, 60, steps(HEADLINE)),
    Stage("tests", "every GPU test", 170, tests),
    Stage("tuning", "every cut of the CUDA kernel", 60, tuning),
    Stage("ncu", "the units of one launch of the CUDA kernel", 60, ncu),
    Stage(
        "model",
        "flow() of an 8B shape at 32k",
        110,
        pytest(f"{FLOW_FILE}::bench_gpu_flow[8B-32768]", f"{FLOW_FILE}::bench_gpu_record[8B-32768]"),
    ),
    Stage("sanitizer", "memory, races and barriers of small calls", 200, sanitizer),
    Stage("steps", "flow_step over shapes", 150, steps(*(step for step in STEPS if step != HEADLINE), share=0.8)),
    Stage("flows", "flow() over models and lengths", 300, pytest(*flow_nodes())),
)
