"""`attributor eval removal` on the command line: options, help and a complete run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_chat import save
from typer.main import get_command
from typer.testing import CliRunner

import attributor._models.load
from attributor.cli.commands import app
from attributor.cli.eval_run import build_config, default_folder
from attributor.eval.config import Config, removal_methods
from attributor.methods import parse

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner(env={"COLUMNS": "150", "NO_COLOR": "1", "TERM": "dumb", "HF_HUB_OFFLINE": "1"})
QUICK = ("--rows", "1", "--tokens", "700", "--max-new-tokens", "3", "--dtype", "float32")


def run(*args):
    return RUNNER.invoke(app, ["eval", *(str(arg) for arg in args)])


def plain(text):
    return " ".join(text.replace("│", " ").split())


def options_of(*args):
    """Return the options as parsed by typer."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attributor.cli.eval_run.evaluate", lambda _, options: seen.update(options))
        assert run("removal", *args).exit_code == 0
    return seen


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--kinds double", "unknown kind 'double'; there are single, duplicate, distractor"),
        ("--kinds single,single", "the kind 'single' is named twice"),
        ("--kinds single,", "unknown kind ''"),
        ("--rows 0", "--rows"),
        ("--tokens 0", "--tokens"),
        ("--seed one", "--seed"),
        ("--method flows", "unknown method 'flows'"),
        ("--limit 3", "--limit"),
        ("--max-tokens 3", "--max-tokens"),
        ("--split train", "--split"),
        ("rows.jsonl", "unexpected extra argument"),
    ],
)
def test_wrong_options_exit_2(args, message, monkeypatch):
    monkeypatch.setattr(attributor._models, "load_model", None)
    result = run("removal", *args.split())
    assert result.exit_code == 2, result.output
    assert message in plain(result.stderr)
    assert not result.stdout


def test_options_become_a_config():
    config = build_config("removal", options_of())
    flow, *rest = removal_methods()
    assert {"removal-gradient", "removal-gradient:8", "length", "random"} <= set(rest)
    methods = ("flow:retrieval", *rest)
    assert config == Config(dataset="removal", methods=methods, rows=20, tokens=300, seed=0)
    assert [method.name for method in parse(config.methods)] == list(methods)
    other = build_config("removal", options_of("--model", "some/model", "--kinds", "memory, single", "--seed", "3"))
    assert other.methods == (flow, *rest) == removal_methods()
    assert (other.kinds, other.seed) == (("memory", "single"), 3)
    assert Config.from_json(json.loads(json.dumps(other.to_json()))) == other


def test_the_default_folder_names_rows_tokens_seed_and_kinds():
    config = build_config("removal", options_of())
    assert default_folder(config) == Path("runs/removal-SmolLM2-135M-Instruct-20x300")
    config = build_config("removal", options_of("--rows", "3", "--tokens", "900", "--seed", "2", "--kinds", "single"))
    assert default_folder(config) == Path("runs/removal-SmolLM2-135M-Instruct-3x900-seed2-single")


def test_other_data_sets_do_not_have_the_options_of_generated_rows():
    commands = get_command(app).commands["eval"].commands
    mine = {option.name for option in commands["removal"].params}
    other = {option.name for option in commands["hotpotqa"].params}
    assert mine - other == {"rows", "tokens", "kinds", "seed"}
    assert other - mine == {"data", "config", "split", "limit", "max_tokens"}


def test_help_shows_examples_and_defaults_without_torch():
    code = "import sys; from attributor.cli.commands import app; app(['eval', 'removal', '--help'], "
    code += "standalone_mode=False); print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "140"}
    ).stdout
    assert shown.endswith("set()\n")
    words = plain(shown)
    for text in (
        "attributor eval removal --kinds duplicate,conflict --rows 50 --seed 1",
        "what the answers lose without each document",
        "paraphrase: the evidence has no content word of question and answer",
        "[default: 20]",
        "[default: 300]",
        "[default: all]",
        "max-attention, removal-gradient, removal-gradient:8, length, random; flow:retrieval in place of flow",
    ):
        assert text in words, text
    documented = (ROOT / "docs" / "eval.md").read_text("utf-8")
    for word in shown.replace("[", " ").replace(",", " ").split():
        if word.startswith("--") and word not in ("--help", "--methods"):
            assert word in documented, f"{word} is not in docs/eval.md"
    assert "removal" in run("--help").stdout


def test_a_run_its_table_and_its_report(tmp_path):
    model = save(tmp_path / "model")
    out = tmp_path / "run"
    methods = "flow,removal-gradient,length,random"
    result = run("removal", "--model", model, "--out", out, "--method", methods, *QUICK)
    assert result.exit_code == 0, result.output
    for words in (
        "Removal: what the answer loses",
        "0 for every document",
        "removal-gradient",
        "The model is too weak",
    ):
        assert words in plain(result.stdout), words
    state = json.loads((out / "run.json").read_text("utf-8"))
    assert state["counts"] == {"rows": 7, "done": 7, "skipped": 0, "failed": 0}
    assert state["config"]["tokens"] == 700

    again = run("removal", "--model", model, "--out", out, "--method", methods, *QUICK)
    assert again.stdout == result.stdout
    assert "This run is complete" in again.stderr
    refused = run("removal", "--model", model, "--out", out, "--method", methods, *QUICK, "--seed", "1")
    assert refused.exit_code == 1
    assert "seed: 0 there, 1 now" in plain(refused.stderr)

    report = run("report", out, "--out", tmp_path / "report")
    assert report.exit_code == 0, report.output
    assert "Removal: rank correlation" in report.stdout
    assert "Removal: rank correlation" in (tmp_path / "report" / "report.md").read_text("utf-8")
