"""Rows are divided among real processes, which communicate through gloo on this machine."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clock import PATIENCE
from eval_examples import make_example, write_examples
from eval_runs import METHODS, assert_near, measure_rounding, read_records
from tiny_chat import model as tiny_model
from tiny_chat import save
from tiny_chat import tokenizer as tiny_tokenizer
from warm_start import WarmProcess, run_code

from attributor import InputError
from attributor.eval.config import Config
from attributor.eval.run import runner
from attributor.eval.run.shards import Shards

HERE = Path(__file__).parents[1] / "helpers"
SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
import tiny_chat
from attributor import OutputError
from attributor.eval.run import runner
from attributor.eval.config import Config
rank = int(os.environ["RANK"])
whole = runner.run_case
def case(question, setting, **options):
    {before}
    return whole(question, setting, **options)
runner.run_case = case
config = Config.from_json(json.loads({config!r}))
tokenizer = tiny_chat.tokenizer()
try:
    out = runner.run_evaluation(config, Path({out!r}), model=tiny_chat.model(len(tokenizer)), tokenizer=tokenizer)
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(1)
line = " ".join(["main" if out.is_first else "other", str(out.run["counts"]["done"])]) + chr(10)
os.write(1, line.encode())  # in one piece: both processes write to one pipe
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(
        tmp_path_factory.mktemp("data") / "rows.jsonl", [*(make_example(i) for i in range(7)), "{broken"]
    )


def config(source):
    return Config(source=str(source), methods=METHODS, max_new_tokens=4, cost_rows=0)


def alone(source, out):
    return one_process(config(source), out, torch.float32)


def one_process(settings, out, dtype):
    tokenizer = tiny_tokenizer()
    return runner.run_evaluation(settings, out, model=tiny_model(len(tokenizer)).to(dtype), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def one(examples, tmp_path_factory):
    """The run of a single process, for comparison."""
    return alone(examples, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def budget(examples, one, tmp_path_factory):
    """The rounding error of float32 for each number of these rows."""
    return measure_rounding(one, one_process(config(examples), tmp_path_factory.mktemp("exact"), torch.float64))


def script(source, out, before="pass"):
    filled = SCRIPT.format(
        tests=str(HERE),
        config=json.dumps(config(source).to_json()),
        out=str(out),
        before=textwrap.indent(before, "    ").strip(),
    )
    return textwrap.dedent(filled)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(text, world=2):
    """Run `text` in processes without a launcher; return their exit statuses and outputs."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    shared |= {"LOCAL_WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    processes = [
        WarmProcess(run_code, text, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, merge_stderr=False)
        for rank in range(world)
    ]
    outputs = [process.communicate(PATIENCE) for process in processes]
    return [process.wait(PATIENCE) for process in processes], outputs


def test_two_processes_under_torchrun_have_the_numbers_of_one(examples, one, budget, tmp_path):
    (tmp_path / "run.py").write_text(script(examples, tmp_path / "two"), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*launch, str(tmp_path / "run.py")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "main 7", "other 7"]
    state = json.loads((tmp_path / "two" / "run.json").read_text("utf-8"))
    assert state["processes"] == 2
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [".lock", "cases.jsonl", "run.json"]
    again = alone(examples, tmp_path / "two")
    assert again.was_complete
    assert_near(again, one, budget)
    assert [record["id"] for record in read_records(tmp_path / "two")] == [*(f"case-{i}" for i in range(7)), "row 8"]


def test_accelerate_launch_has_the_numbers_of_one_process(tmp_path):
    """Without --cpu, because accelerate then starts only one process."""
    source = write_examples(tmp_path / "rows.jsonl", [make_example(i) for i in range(5)])
    folder = save(tmp_path / "model")
    options = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch = ["accelerate.commands.accelerate_cli", "launch", "--multi_gpu", *options]
    evaluation = ["--method", "flow,length", "--max_new_tokens", "3", "--dtype", "float32", "--cost_rows", "0"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", *launch, "--main_process_port", str(free_port())),
            *(str(HERE.parents[1] / "eval" / "hotpot_qa.py"), str(source), "--model", str(folder), *evaluation),
            *("--out", str(tmp_path / "two"), "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    assert (state["processes"], state["counts"]["done"]) == (2, 5)
    settings = Config.from_json(state["config"])
    one = runner.run_evaluation(settings, tmp_path / "one")
    again = runner.run_evaluation(settings, tmp_path / "two")
    assert again.was_complete
    assert_near(again, one, measure_rounding(one, one_process(settings, tmp_path / "exact", torch.float64)))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(log_prob=record["log_prob"] * (1 + 1e-5)),
        lambda record: record["methods"]["flow"]["scores"]["sum"].__setitem__(1, 0.9999 * _score(record)),
        lambda record: record["methods"]["length"]["scores"]["segment"].__setitem__(0, 13.999999),
        lambda record: record["methods"]["flow"]["scores"]["sum"].append(0.0),
        lambda record: record.update(log_prob=float("nan")),
        lambda record: record.update(generated=record["generated"] + " "),
        lambda record: record.update(tokens=record["tokens"] + 1),
    ],
    ids=["log-prob", "score", "length", "structure", "nan", "text", "count"],
)
def test_the_budget_leaves_no_room_for_a_wrong_record(one, budget, tmp_path, change):
    assert_near(one, one, budget)
    changed = read_records(one.folder)
    change(changed[2])
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, changed)) + "\n", encoding="ascii")
    with pytest.raises(AssertionError):
        assert_near(one, replace(one, folder=tmp_path), budget)


def _score(record):
    return record["methods"]["flow"]["scores"]["sum"][1]


def test_a_failing_process_ends_the_others_and_another_number_can_resume(examples, one, budget, tmp_path):
    before = "if question.id == 'case-3': raise OutputError('the disk is full')"
    statuses, outputs = together(script(examples, tmp_path / "run", before))
    assert statuses == [1, 1]
    assert outputs[1] == "OutputError the disk is full\n"
    assert outputs[0].startswith("OtherProcessError another process of this run has ended")
    parts = sorted(path.name for path in (tmp_path / "run").glob("cases*"))
    assert parts == ["cases.0.jsonl", "cases.1.jsonl"]
    assert len((tmp_path / "run" / "cases.1.jsonl").read_bytes().splitlines()) == 1
    assert_near(alone(examples, tmp_path / "run"), one, budget)


def test_the_other_processes_exit_quietly_when_the_first_refuses(examples, tmp_path):
    alone(examples, tmp_path / "run")
    other = write_examples(tmp_path / "other.jsonl", [make_example(1)])
    statuses, outputs = together(script(other, tmp_path / "run"))
    assert statuses == [1, 1]
    assert outputs[0].startswith("InputError")
    assert "other settings" in outputs[0]
    assert outputs[1].startswith("OtherProcessError")


def test_each_case_belongs_to_exactly_one_process():
    examples = list(range(11))
    parts = [Shards(rank, 3).own_share(examples) for rank in range(3)]
    assert sorted(entry for part in parts for entry in part) == examples
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert list(Shards().own_share(examples)) == examples


def test_every_process_of_a_machine_gets_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert Shards(6, 8, 2).device_map("cuda") == "cuda:2"
    assert Shards(6, 8, 2).device_map("cpu") == "cpu"
    assert Shards(6, 8, 2).device_map(None) is None
    with pytest.raises(InputError, match="give --device-map cuda"):
        Shards(6, 8, 2).device_map("auto")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert Shards(1, 2, 0).device_map("auto") == "auto", "a machine each: the model may have all of its GPUs"
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert Shards().device_map("auto") == "auto"
    assert Shards().device_map("cuda") == "cuda"


def test_a_world_size_without_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not Shards.join().is_shared
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="start the run with torchrun or accelerate launch"):
        Shards.join()
