"""What is measured on a GPU, and the log, table and plot of a run: checked without one."""

import importlib
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"


@pytest.fixture(autouse=True)
def _bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delenv("ATTRIBUTOR_GPU_LOG", raising=False)


def module(name):
    return importlib.import_module(name)


def test_every_shape_that_was_promised_is_measured():
    steps = module("gpu_shapes").STEPS
    assert {step.N for step in steps} >= {4096, 8192, 16_384, 32_768, 65_536, 131_072}
    assert {step.O for step in steps} >= {1, 16, 128, 512}
    assert {step.D for step in steps} == {64, 128, 256}
    assert {step.G for step in steps if step.H == 32} == {1, 8, 32}
    assert {step.H for step in steps} == {1, 4, 32}
    assert len({step.name for step in steps}) == len(steps)
    flows = module("gpu_shapes").FLOWS
    assert set(flows) == {(m, n) for m in ("1B", "3B", "8B") for n in (8192, 32_768, 65_536, 131_072)}
    assert (steps[0].N, steps[0].H, steps[0].G, steps[0].D, steps[0].O) == (32_768, 32, 8, 128, 128)
    assert flows[0] == ("8B", 32_768)


def test_operations_are_counted_pair_by_pair():
    step = module("gpu_shapes").Step(N=200, H=3, G=1, D=16, O=4)
    pairs = sum(1 for i in range(200) for j in range(200) if j <= i)
    assert step.flops == pytest.approx(2 * 3 * 16 * pairs, rel=0.01)
    assert step.forward_flops == 2 * step.flops
    assert step.nbytes == 3 * 200 * 16 * 2 + 1 * 200 * 16 * 2 + 3 * 200 * 4 + 2 * 4 * 200 * 4


@pytest.mark.parametrize(("name", "billions"), [("1B", 1.236), ("3B", 3.213), ("8B", 8.030)])
def test_models_have_their_published_sizes(name, billions):
    shape = module("gpu_shapes").MODELS[name]
    assert shape.parameters == pytest.approx(billions * 1e9, rel=0.002)
    assert shape.heads * shape.head_size == shape.hidden
    short, long = shape.flops(1000), shape.flops(100_000)
    assert short == pytest.approx(
        2 * 1000 * (shape.parameters - 128_256 * shape.hidden * (1 + (not shape.tied))), rel=0.1
    )
    assert long > 100 * short


@pytest.mark.parametrize(("layers", "heads"), [(32, 32), (28, 24), (16, 32), (2, 4)])
def test_chosen_heads_are_spread(layers, heads):
    found = module("gpu_shapes").chosen_heads(layers, heads)
    assert len(set(found)) == len(found) == min(32, layers * heads)
    assert all(0 <= layer < layers and 0 <= head < heads for layer, head in found)
    assert {layer for layer, _ in found} == set(range(layers))
    assert len({head for _, head in found}) >= min(heads, 8)


def test_a_rehearsal_is_small_and_keeps_what_matters():
    shapes = module("gpu_shapes")
    for step in shapes.STEPS:
        small = shapes.smaller(step)
        assert small.flops < 1e7
        assert small.H % small.G == 0
        assert (small.O == 1) == (step.O == 1)
    assert [shapes.rehearsed(n) for n in (8192, 32_768, 131_072)] == [20, 32, 80]


def test_stages_name_benchmarks_that_exist():
    stages, shapes = module("gpu_stages"), module("gpu_shapes")
    flows = stages.flow_nodes()
    assert len(set(flows)) == len(flows) == len(shapes.FLOWS) - 1 + 4
    text = (BENCH / "bench_gpu_flow.py").read_text("utf-8")
    assert all(f"def {node.partition('::')[2].partition('[')[0]}(" in text for node in flows)
    assert all((ROOT / name).is_file() for name in stages.TESTS)
    # each model is made once
    order = [node.partition("[")[2].partition("-")[0] for node in flows if "[" in node]
    assert list(dict.fromkeys(order)) == [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]


def test_what_was_found_survives_a_line_that_was_cut_off(tmp_path, monkeypatch):
    log, path = module("gpu_log"), tmp_path / "found.jsonl"
    assert log.note("step", name="nowhere") == {"name": "nowhere"}
    assert log.read(path) == []
    monkeypatch.setenv("ATTRIBUTOR_GPU_LOG", str(path))
    log.note("step", name="a", kernel="cuda", tf=1.0)
    log.note("step", name="a", kernel="triton", tf=3.0)
    log.note("ceiling", name="copy", value=3.0)
    log.note("step", name="a", kernel="cuda", tf=2.0)
    with path.open("a") as file:
        file.write('{"kind": "step", "name": "b", "t')
    merged = module("gpu_log").merge(log.read(path))
    steps = {"cuda": 2.0, "triton": 3.0}
    assert merged["steps"] == [{"name": "a", "kernel": kernel, "tf": tf} for kernel, tf in steps.items()]
    assert merged["ceilings"] == [{"name": "copy", "value": 3.0}]
    assert merged["flows"] == merged["sanitizer"] == []


def outcomes(kind):
    named = enumerate(["passed", "failed", "skipped", "passed"])
    return [{"kind": kind, "test": f"t{i}", "outcome": outcome, "seconds": 1.0, "said": "x"} for i, outcome in named]


def test_outcomes_are_counted():
    found = module("gpu_log").merge(outcomes("test"))["tests"]
    assert (found["passed"], found["failed"], found["skipped"], found["seconds"]) == (2, 1, 1, 4.0)
    assert [test["test"] for test in found["not passed"]] == ["t1", "t2"]
    merged = module("gpu_log").merge(outcomes("bench"))
    assert [bench["test"] for bench in merged["benchmarks that failed"]] == ["t1"]
    assert merged["tests"]["passed"] == 0


def test_a_reason_is_one_line():
    assert module("gpu_log").reason(RuntimeError("\n\n  no kernel\nmore")) == "RuntimeError: no kernel"
    assert module("gpu_log").reason(ValueError()) == "ValueError: without a message"
    assert len(module("gpu_log").reason(ValueError("x" * 999))) == 200


def a_run(**changes):
    step = {
        "name": "N32768-H32-G8-D128-O128", "kernel": "triton", "N": 32768, "O": 128, "D": 128, "H": 32, "G": 8,
        "dtype": "bfloat16", "nbytes": 4e8, "rounds": 9,
        "seconds": 0.01, "tf": 440.0, "first_call_seconds": 4.0, "peak_bytes": 1 << 30, "error": 2e-6, "budget": 1e-6,
        "baselines": {
            "flash": {"seconds": 0.02, "ratio": 2.0, "tf": 440.0, "rate_ratio": 1.0},
            "cudnn": {"missing": "RuntimeError: no plan"},
            "gradient": {"seconds": 0.09, "ratio": 9.0},
        },
    }  # fmt: skip
    flow = {
        "prefill": {"seconds": 1.3, "ratio": 1.0, "peak_bytes": 30e9},
        "flow": {"seconds": 1.6, "ratio": 1.23, "peak_bytes": 40e9, "sweep_seconds": 0.25, "missing_mass": 1e-5},
        "flow, 32 heads": {"missing": "OutOfMemoryError: full", "peak_bytes": 0},
    }
    record = {"generate": {"seconds": 2.0, "ratio": 1.0, "peak_bytes": 1}, "record": {"seconds": 2.3, "ratio": 1.15,
              "share": 0.23, "peak_bytes": 1}}  # fmt: skip
    return {
        "kind": "gpu-check",
        "rehearsal": False,
        "datetime": "2030-01-02T03:04:05+00:00",
        "commit": "abc",
        "dirty": True,
        "device": {"name": "Some GPU", "driver_version": "580.1"},
        "versions": {"torch": "2.11.0", "triton": None},
        "seconds": 400.0,
        "stages": [
            {"name": "kernel", "status": "done", "seconds": 9.0, "why": ""},
            {"name": "flows", "status": "cut off", "seconds": 90.0, "why": "after 90 s"},
        ],
        "ceilings": [
            {"name": "copy", "value": 2900.0, "unit": "GB/s", "seconds": 1e-3, "what": "read and written"},
            {"name": "gemm", "value": 800.0, "unit": "TF", "seconds": 1e-3, "what": "8192^3"},
            {"name": "sdpa flash", "value": 440.0, "unit": "TF", "seconds": 1e-3, "what": "x"},
            {"name": "sdpa cudnn", "missing": "RuntimeError: no plan"},
        ],
        "steps": [
            step,
            {**step, "kernel": "cuda", "tf": 550.0, "seconds": 0.008, "baselines": {"triton": {"ratio": 1.25}}},
            {**step, "name": "N32768-H32-G8-D128-O512", "kernel": "cuda", "O": 512, "tf": 495.0, "baselines": {}},
            {**step, "name": "other", "H": 1, "G": 1, "D": 64, "tf": 300.0, "nbytes": 3e7},
        ],
        "tunings": [
            {"step": "s", "name": "as chosen", "allowed": 803.2, "seconds": 0.008, "tf": 550.0, "ratio": 1.0,
             "error": 2e-6, "budget": 1e-6},
            {"step": "s", "name": "cluster=1", "allowed": 497.0, "wrong": "off by 1"},
            {"step": "s", "name": "turns", "allowed": 700.0, "missing": "InputError: not compiled"},
        ],
        "ncu": [{"name": "n", "units": {"tensor cores": 61.25}, "stalls": {"long_scoreboard": 2.5},
                 "milliseconds": 7.3, "registers": 168}],
        "flows": [{"model": "8B", "tokens": 32768, "variants": flow}],
        "records": [{"model": "8B", "tokens": 32768, "variants": record}],
        "keeps": [{"model": "8B", "tokens": 32768, "variants": {"flow, host": {"seconds": 1, "ratio": 1.02}}}],
        "stocks": [
            {"model": "8B", "tokens": 9, "stock_seconds": 3.0, "sweep_seconds": 0.3, "ratio": 10, "error": 0.01}
        ],
        "matrices": [{"model": "8B", "tokens": 5120, "fits": 5120, "died_at": 6144}],
        "tests": {"passed": 9, "failed": 1, "skipped": 2, "seconds": 80.0, "not passed": [
            {"test": "tests/test_gpu.py::t", "outcome": "failed", "said": "E  assert\n  1 == 2"},
            {"test": "tests/test_gpu.py::u", "outcome": "skipped", "said": "one GPU"},
            {"test": "tests/test_gpu.py::v", "outcome": "skipped", "said": "one GPU"}]},
        "benchmarks that failed": [{"test": "bench/b.py::b", "outcome": "failed", "said": "off by 1e-3"}],
        "sanitizer": [{"tool": "memcheck", "kernel": "cuda", "status": "clean"}],
        **changes,
    }  # fmt: skip


def test_the_table_says_what_was_measured_and_what_was_not():
    text = module("gpu_report").markdown(a_run())
    for line in (
        "# Some GPU",
        "at abc with changes, 2030-01-02T03:04:05+00:00, 400 s. torch 2.11.0, driver 580.1.",
        "| copy | 2900 GB/s |",
        "9 passed, 1 failed, 2 skipped; compute-sanitizer: memcheck of cuda clean.",
        "- skipped: `tests/test_gpu.py::u` and 1 more: one GPU",
        "- failed: `tests/test_gpu.py::t`: E assert 1 == 2",
        "| 32,768 | 32, 8 | 128 | 128 | bfloat16 | triton | 10.000 | 440 | 1.00x | not measured | 55% | 9.0x |  |",
        "| bfloat16 | cuda | 8.000 | 550 | not measured | not measured | 69% | not measured | 1.25x | 2e-06 |",
        "| TF at N32768-H32-G8-D128-O128 | >= 600 | 550 | 440 |",
        "| TF at N32768-H32-G8-D64-O128 | >= 400 | not measured | not measured |",
        "| rate at O = 512, of that at O = 128 | >= 0.85 | 0.90 | not measured |",
        "| s | as chosen | 803 | 8.000 | 550 | 1.000x | 2e-06 |",
        "| s | cluster=1 | 497 | not measured | not measured | not measured | wrong |",
        "- turns at s: InputError: not compiled",
        "| tensor cores | 61.2% |",
        "| long scoreboard | 2.50 |",
        "| 8B | 32,768 | 1.300 s | 1.230x | not measured | 0.250 s | not measured | 30.0 | 40.0 |  |",
        "| 8B | 32,768 | 2.000 s | 1.150x | 0.230 | not measured | not measured |",
        "- `bench/b.py::b`: off by 1e-3",
        "keep='host' takes 1.020x of keep='device'",
        "5,120 tokens fit; ran out of memory at 6,144",
        "- sdpa cudnn: RuntimeError: no plan",
        "- flow, 32 heads, 8B at 32,768: OutOfMemoryError: full",
        "- stage flows (cut off): after 90 s",
    ):
        assert line in text, line


def test_the_table_of_a_run_that_was_cut_off_at_once():
    empty = {name: [] for name, found in a_run().items() if isinstance(found, list)}
    text = module("gpu_report").markdown(a_run(**empty, tests=None, commit=None, rehearsal=True, dirty=None))
    assert text.startswith("# Rehearsal on a CPU: these numbers mean nothing")
    assert "an unknown commit" in text
    assert "##" not in text


def test_the_plot_can_be_made_later(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "run.json"
    path.write_text(json.dumps(a_run()))
    assert module("gpu_report").main([str(path)]) == 0
    assert (tmp_path / "run.md").read_text() == module("gpu_report").markdown(a_run())
    svg = (tmp_path / "run.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for said in ("flow_step on Some GPU", "8192³ GEMM", "flash forward", "D 64, 1 or 4 chosen heads"):
        assert said in svg
    assert "cuDNN" not in svg  # it was not measured
    module("gpu_report").main([str(path)])
    assert (tmp_path / "run.svg").read_text() == svg
    path.write_text(json.dumps(a_run(steps=[])))
    capsys.readouterr()
    assert module("gpu_report").main([str(path)]) == 0
    assert "no plot" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "no json", "[]", '{"kind": "other"}'])
def test_a_file_that_is_no_run(tmp_path, text, capsys):
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    assert module("gpu_report").main([str(path)]) == 1
    assert "run.json" in capsys.readouterr().err
    assert module("gpu_report").main([]) == 2


def test_the_longest_prompt_is_found(monkeypatch):
    monkeypatch.setenv("ATTRIBUTOR_GPU_REHEARSAL", "reference")
    for name in ("gpu_device", "gpu_step", "gpu_models"):
        sys.modules.pop(name, None)
    longest = module("gpu_models").longest_with_matrices
    tried = []

    def run(tokens):
        tried.append(tokens)
        if tokens > 5000:
            raise torch.OutOfMemoryError("full")

    found = longest(run)
    assert tried == [1024, 2048, 4096, 8192, 6144, 5120, 4608]
    assert (found["fits"], found["died_at"], found["error"]) == (4608, 5120, "OutOfMemoryError: full")
    assert longest(lambda _: None, most=4096)["died_at"] is None
    assert longest(lambda _: run(9999))["fits"] is None
    for name in ("gpu_device", "gpu_step", "gpu_models"):
        sys.modules.pop(name, None)
