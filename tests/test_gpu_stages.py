"""The stages of make gpu-check, with programs that only seem to run: what is started again, read and reported."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from gpu_check_case import module, new_check

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(autouse=True)
def _bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delenv("ATTRIBUTOR_GPU_LOG", raising=False)


@pytest.fixture
def check(tmp_path, monkeypatch):
    return new_check(tmp_path, monkeypatch)


def answering(check, monkeypatch, tools, codes, outputs=()):
    """Programs that end with these codes and outputs, tools that are there; what was run, with limit and settings."""
    stages, ran = module("gpu_stages"), []
    monkeypatch.setattr(stages.shutil, "which", lambda name: f"/bin/{name}" if name in tools else None)

    def run(commands, limit, env):
        ran.append((commands, limit, env))
        said = check.options.work / f"said-{len(ran)}.txt"
        said.write_text(outputs[len(ran) - 1] if len(ran) <= len(outputs) else "")
        check.outputs = [said]
        found = codes[len(ran) - 1]
        return found if isinstance(found, list) else [found]

    monkeypatch.setattr(check, "run", run)
    return stages, ran


def test_the_sanitizer(check, monkeypatch):
    """Three tools for each kernel, the CUDA kernel's first."""
    stages, ran = answering(check, monkeypatch, ["compute-sanitizer"], [0] * 8)
    assert stages.sanitizer(check, 200.0) == ("done", "clean")
    tools = ("memcheck", "racecheck", "synccheck")
    assert [commands[0][:3] for commands, _, _ in ran[2:]] == [
        ["/bin/compute-sanitizer", "--tool", tool] for tool in (*tools, *tools)
    ]
    assert [commands[0][-1] for commands, _, _ in ran] == ["cuda", "triton", *["cuda"] * 3, *["triton"] * 3]
    assert all(limit <= 60 and env["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1" for _, limit, env in ran)
    found = [(line["kernel"], line["tool"]) for line in check.found()["sanitizer"]]
    assert found == [(kernel, tool) for kernel in ("cuda", "triton") for tool in tools]


def test_the_sanitizer_finds_something_or_is_not_there(check, monkeypatch):
    def status(tools, codes):
        return answering(check, monkeypatch, tools, codes)[0].sanitizer(check, 200.0)

    there = ["compute-sanitizer"]
    assert status(there, [0, 0, 0, 0, 9, 0, 0, None])[0] == "failed"
    assert status(there, [0, 0, 0, None, 0, 0, 0, 0])[0] == "cut off"
    assert status(there, [5, 0, 0, 0, 0]) == ("done", "clean")  # without the CUDA kernel
    assert status([], [0, 0]) == ("skipped", "compute-sanitizer was not found on PATH or in /usr/local/cuda/bin")
    assert status([], [1])[0] == "failed"


def test_a_kernel_that_ends_its_process_takes_no_finding_of_the_other(check, monkeypatch):
    """What the first process did not measure by Triton is measured by a second one, which asks nothing else."""
    shapes = module("gpu_shapes")
    calls = shapes.STEPS[:3]
    stages, ran = answering(check, monkeypatch, [], [-11, 0])
    line = {"kind": "step", "name": calls[0].name, "kernel": "triton"}
    check.log.write_text(json.dumps(line) + "\n" + json.dumps({**line, "kernel": "cuda", "name": calls[1].name}) + "\n")
    status, why = stages.steps(*calls)(check, 100.0)
    assert (status, why) == ("failed", "exit status -11; its output is kept")
    (first, limit, env), (second, _, again) = ran
    assert limit == 60.0
    assert "ATTRIBUTOR_GPU_KERNELS" not in env
    assert sum("bench_gpu_step" in part for part in first[0]) == 3
    assert [part for part in second[0] if "bench_gpu_step" in part] == [
        f"bench/bench_gpu_step.py::bench_gpu_step[{call.name}]" for call in calls[1:]
    ]
    assert again["ATTRIBUTOR_GPU_KERNELS"] == "triton"


def test_what_the_first_process_was_cut_off_from_is_not_called_done(check, monkeypatch):
    stages, ran = answering(check, monkeypatch, [], [None, 0])
    assert stages.steps(module("gpu_shapes").HEADLINE)(check, 100.0)[0] == "cut off"
    assert len(ran) == 2


def test_steps_that_all_were_measured_are_not_measured_again(check, monkeypatch):
    stages, ran = answering(check, monkeypatch, [], [0])
    assert stages.steps(module("gpu_shapes").HEADLINE)(check, 100.0) == ("done", "")
    assert len(ran) == 1


def test_tests_that_end_their_process_are_followed_by_the_others(check, monkeypatch):
    shard = module("gpu_shard")
    codes = [[0, 0, 0, 0, shard.HUNG, 0], [5, 5, 5, 5, shard.LOST, 5], [5, 5, 5, 5, 1, 5]]
    stages, ran = answering(check, monkeypatch, [], codes)
    status, why = stages.tests(check, 100.0)
    assert status == "failed"
    assert why.startswith("tests ended their process")
    assert len(ran) == 3
    assert len(ran[0][0]) == stages.SHARDS
    stages, ran = answering(check, monkeypatch, [], codes)
    assert stages.tests(check, 10.0)[0] == "failed"
    assert len(ran) == 1  # no time for another


def test_the_cuts_are_skipped_without_the_kernel(check, monkeypatch):
    stages, _ = answering(check, monkeypatch, [], [5, 0, 1])
    assert stages.tuning(check, 10.0) == ("skipped", "the CUDA kernel cannot run here")
    assert stages.tuning(check, 10.0) == ("done", "")
    assert stages.tuning(check, 10.0)[0] == "failed"


METRICS = (
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_gmma_per_issue_active.ratio",
    "launch__registers_per_thread",
)
HEAD = ",".join(f'"{name}"' for name in ("ID", "Process ID", "Kernel Name", *METRICS))
NCU = f"""==PROF== Connected to process 12
    N 32768
{HEAD}
"","","","us","%","%","%","inst","inst","register/thread"
"0","12","flow_step_kernel","7,301.5","81.25","64.5","n/a","0.25","3.5","168"
"""


def test_what_ncu_prints_is_read(check, monkeypatch):
    stages, ran = answering(check, monkeypatch, ["ncu"], [1, 0], ["==ERROR== Failed to find metric sm__x\n", NCU])
    assert stages.ncu(check, 60.0) == ("done", "")
    (found,) = check.found()["ncu"]
    assert found["units"] == {"multiprocessors": 81.25, "exponential unit": 64.5}
    assert list(found["stalls"].items()) == [("gmma", 3.5), ("wait", 0.25)]
    assert (found["milliseconds"], found["registers"]) == (pytest.approx(7.3015), 168)
    asked = ["--metrics" in commands[0] for commands, _, _ in ran]
    assert asked == [True, False]
    assert all("--clock-control none" in " ".join(commands[0]) for commands, _, _ in ran)


def test_ncu_is_not_there_or_refuses(check, monkeypatch):
    stages, _ = answering(check, monkeypatch, [], [])
    assert stages.ncu(check, 60.0) == ("skipped", "ncu was not found on PATH or in /usr/local/cuda/bin")
    refusal = "==ERROR== ERR_NVGPUCTRPERM - no permission to read counters\n"
    stages, _ = answering(check, monkeypatch, ["ncu"], [1, 1], [refusal] * 2)
    assert stages.ncu(check, 60.0) == ("skipped", "ERR_NVGPUCTRPERM - no permission to read counters")
    stages, _ = answering(check, monkeypatch, ["ncu"], [0, 0], ["nothing"] * 2)
    assert stages.ncu(check, 60.0) == ("skipped", "ncu printed no launch of the kernel")
    stages, _ = answering(check, monkeypatch, ["ncu"], [None])
    assert stages.ncu(check, 60.0)[0] == "cut off"


NODES = [
    "tests/test_gpu.py::test_lengths[1-torch.bfloat16-triton]",
    "tests/test_gpu.py::test_lengths[1-torch.bfloat16-cuda]",
    "tests/test_gpu_cuda.py::test_nothing_waits[1]",
    "tests/test_gpu_flow.py::test_few_heads_keep_few_bytes",
    "tests/test_gpu.py::test_head_sizes[64-torch.float32-triton]",
    "tests/test_gpu_memory.py::test_the_same_bits_every_time[cuda-1-torch.float16]",
]


@pytest.mark.parametrize(("count", "last"), [(1, 2), (3, 1), (6, 2), (4, 0)])
def test_every_test_is_in_one_process_and_those_of_the_cuda_kernel_are_apart(count, last):
    shard = module("gpu_shard")
    items = [SimpleNamespace(nodeid=node) for node in NODES]
    shares = [[item.nodeid for item in shard.share(items, index, count, last)] for index in range(count)]
    assert sorted(node for part in shares for node in part) == sorted(NODES)
    assert [shard.of_cuda(node) for node in NODES] == [False, True, True, False, False, True]
    if last and count > 1:
        assert not any(shard.of_cuda(node) for part in shares[: count - last] for node in part)
        assert all(shard.of_cuda(node) for part in shares[count - last :] for node in part)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [("time.sleep(60)", 71, "did not end within 2 s"), ("os.kill(os.getpid(), 9)", -9, "it ended its process")],
)
def test_a_test_that_ends_its_process_is_a_failure_and_the_next_one_goes_on(check, tmp_path, body, code, said):
    """With real processes: it is noted as failed and not begun again; the one after it still gets an outcome."""
    folder = tmp_path / "tests"
    folder.mkdir()
    text = f"import os, time\n\ndef test_first(): pass\n\ndef test_bad(): {body}\n\ndef test_last(): pass\n"
    (folder / "test_some.py").write_text(text)
    stages = module("gpu_stages")
    env = {"ATTRIBUTOR_GPU_PATIENCE": "2", "PYTHONPATH": str(BENCH)}
    command = [check.python, "-m", "pytest", "tests/test_some.py", "-p", "gpu_shard", "-p", "no:cacheprovider", "-q"]
    command += [f"--rootdir={tmp_path}", "-c", "/dev/null"]
    command = ["sh", "-c", f'cd "{tmp_path}" && exec "$@"', "sh", *command]
    codes = [check.run([command], 60.0, env)[0] for _ in range(2)]
    assert codes == [code, 0]
    found = check.found()["tests"]
    assert (found["passed"], found["failed"]) == (2, 1)
    assert found["not passed"][0]["said"] == said
    assert stages.outcome(codes, 60.0)[0] == "failed"
