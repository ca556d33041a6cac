"""`attributor eval` on the command line: options, exit statuses and output."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eval_examples import make_example, write_examples
from rich.console import Console
from tiny_chat import save
from typer.main import get_command
from typer.testing import CliRunner

import attributor._models.load
from attributor._models.default_model import DEFAULT_MODEL
from attributor.cli.commands import app
from attributor.cli.eval_progress import EVERY, SHOWN, Display
from attributor.cli.eval_run import build_config, default_folder
from attributor.cli.options import Dtype
from attributor.eval.config import Config, default_methods
from attributor.eval.run import runner
from attributor.eval.run.case import run_case
from attributor.methods import describe

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner(env={"COLUMNS": "140", "NO_COLOR": "1", "TERM": "dumb", "HF_HUB_OFFLINE": "1"})
QUICK = ("--method", "flow,length,random", "--max-new-tokens", "3", "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("data") / "rows.jsonl", [make_example(i) for i in range(4)])


def run(*args, **more):
    return RUNNER.invoke(app, ["eval", *(str(arg) for arg in args)], **more)


def plain(text):
    return " ".join(text.replace("│", " ").split())


# Options


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("hotpotqa --method flows", "unknown method 'flows'; did you mean flow?"),
        ("hotpotqa --method flow,flow:mean", "is asked for twice"),
        ("hotpotqa ROWS --split train", "is a file; give one of them"),
        ("hotpotqa ROWS --config fullwiki", "is a file; give one of them"),
        ("hotpotqa --limit 0", "--limit"),
        ("hotpotqa --masks 1", "--masks"),
        ("hotpotqa --answer both", "--answer"),
        ("hotpotqa --ablation words", "--ablation"),
        ("hotpotqa --dtype float8", "--dtype"),
        ("2wiki", "Missing argument 'DATA'"),
        ("musique", "Missing argument 'DATA'"),
        ("musique ROWS --split train", "--split"),
        ("report", "Missing argument"),
        ("squad", "squad"),
    ],
)
def test_wrong_options_exit_2(args, message, examples, monkeypatch):
    monkeypatch.setattr(attributor._models, "load_model", None)
    result = run(*[str(examples) if arg == "ROWS" else arg for arg in args.split()])
    assert result.exit_code == 2, result.output
    assert message in plain(result.stderr)
    assert not result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("hotpotqa MISSING", "there is no file"),
        ("hotpotqa ROWS --save-flows --method length", "--save-flows keeps flows"),
        ("hotpotqa ROWS --verifier http://localhost", "--verifier-model"),
        ("musique ROWS", "looks like HotPotQA: use hotpotqa instead"),
        ("hotpotqa --split tset", "unknown split 'tset'"),
        ("report MISSING", "does not exist"),
    ],
)
def test_errors_exit_1_with_a_sentence(args, message, examples, tmp_path):
    where = {"ROWS": str(examples), "MISSING": str(tmp_path / "missing.jsonl")}
    out = [] if args.startswith("report") else ["--out", tmp_path / "run"]
    result = run(*[where.get(arg, arg) for arg in args.split()], *out)
    assert result.exit_code == 1, result.output
    assert "error: " in result.stderr
    assert message in plain(result.stderr)
    assert "Traceback" not in result.stderr
    assert not result.stdout


def given(**changes):
    """Return the options as parsed by typer, with their defaults."""
    seen = {}

    def catch(_, options):
        seen.update(options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attributor.cli.eval_run.evaluate", catch)
        assert run("hotpotqa").exit_code == 0
    return seen | changes


def test_options_become_a_config():
    first, *others = default_methods()
    assert build_config("hotpotqa", given()) == Config(dataset="sample", methods=(first, "flow:retrieval", *others))
    other = build_config("hotpotqa", given(model="some/model", method=" flow:output_norm , random:3 "))
    assert other.methods == ("flow:output_norm", "random:3")
    assert build_config("hotpotqa", given(model="some/model")).methods == Config().methods
    public = build_config("hotpotqa", given(split="train"))
    assert (public.dataset, public.config, public.split) == ("hotpotqa", "distractor", "train")
    public = build_config("hotpotqa", given(config="fullwiki"))
    assert (public.dataset, public.config, public.split) == ("hotpotqa", "fullwiki", "validation")
    local = build_config("musique", given(data=Path("dev.jsonl"), dtype=Dtype.float16))
    assert (local.dataset, local.source, local.split, local.dtype) == ("musique", "dev.jsonl", None, "float16")


def test_the_default_folder_names_the_run():
    assert default_folder(Config(dataset="sample")) == Path("runs/sample-SmolLM2-135M-Instruct")
    config = Config(source="/data/hotpot dev.json", model="/models/my model/", limit=30, answer="generated")
    assert default_folder(config) == Path("runs/hotpot_dev-my_model-generated-30")
    config = Config(config="distractor", split="train[:10%]", model=DEFAULT_MODEL)
    assert default_folder(config) == Path("runs/hotpotqa-distractor-train_10_-SmolLM2-135M-Instruct")


def test_help_is_complete_without_torch():
    code = "import sys; from attributor.cli.commands import app; app(['eval', 'hotpotqa', '--help'], "
    code += "standalone_mode=False); print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "140"}
    ).stdout
    assert shown.endswith("set()\n")
    for name, summary, _ in describe():
        assert name in shown
        assert summary[:40] in plain(shown)
    assert f"default: {', '.join(default_methods())}, and flow:retrieval" in plain(shown)
    documented = (ROOT / "docs" / "eval.md").read_text("utf-8")
    assert f"| `--method` | {', '.join(f'`{name}`' for name in default_methods(True))}; " in documented
    for words in ("--split validation", "torchrun", "Exit status: 0 done", "To resume a run", "comes with attributor"):
        assert words in plain(shown)
    top = plain(run("--help").stdout)
    for name in ("hotpotqa", "2wiki", "musique", "report"):
        assert name in top


def test_help_names_every_option_of_the_documentation():
    documented = (ROOT / "docs" / "eval.md").read_text("utf-8")
    for command in ("hotpotqa", "report"):
        shown = run(command, "--help").stdout
        for word in shown.replace("[", " ").replace(",", " ").split():
            if word.startswith("--") and word not in ("--help", "--methods"):
                assert word in documented, f"{word} is not in docs/eval.md"


def test_the_data_sets_commands_have_the_same_options():
    public, *files = (
        {option.name: option for option in get_command(app).commands["eval"].commands[name].params}
        for name in ("hotpotqa", "2wiki", "musique")
    )
    for found in files:
        assert public.keys() - found.keys() == {"config", "split"}
        assert [name for name in public if name in found] == list(found)
        for name, option in found.items():
            assert option.required == (name == "data")
            for what in ("opts", "secondary_opts", "help", "default", "min", "is_flag", "rich_help_panel", "metavar"):
                assert getattr(option, what, None) == getattr(public[name], what, None), (name, what)


def test_a_command_for_files_passes_its_options_on(examples):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attributor.cli.eval_run.evaluate", lambda *given: seen.append(given))
        assert run("musique", examples, "--limit", "3", "--answer", "generated").exit_code == 0
    ((dataset, options),) = seen
    assert (dataset, options["data"], options["limit"]) == ("musique", examples, 3)
    assert build_config(dataset, options).answer == "generated"


# Runs


def test_a_run_its_table_and_its_report(folder, examples, tmp_path):
    out = tmp_path / "run"
    result = run("hotpotqa", examples, "--model", folder, "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    assert "flow" in result.stdout
    assert "random" in result.stdout
    assert f"Run: {out}" in plain(result.stderr)
    assert "4 of 4 rows" in result.stderr
    assert "AP so far" in result.stderr
    state = json.loads((out / "run.json").read_text("utf-8"))
    assert state["counts"] == {"rows": 4, "done": 4, "skipped": 0, "failed": 0}

    again = run("hotpotqa", examples, "--model", folder, "--out", out, *QUICK)
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert "This run is complete; --overwrite runs it again." in again.stderr

    found = run("hotpotqa", examples, "--model", folder, "--out", out, "--json", *QUICK)
    assert json.loads(found.stdout) == state

    refused = run("hotpotqa", examples, "--model", folder, "--out", out, *QUICK, "--limit", "3")
    assert refused.exit_code == 1
    assert "limit: none there, 3 now" in plain(refused.stderr)

    report = run("report", out, "--out", tmp_path / "report")
    assert report.exit_code == 0, report.output
    assert "flow" in report.stdout
    assert {path.suffix for path in (tmp_path / "report").iterdir()} >= {".md", ".csv", ".html"}
    assert json.loads(run("report", out, "--json").stdout)


def test_json_is_the_only_output_on_stdout(folder, examples, tmp_path):
    result = run("hotpotqa", examples, "--model", folder, "--out", tmp_path / "run", "--json", "--limit", "2", *QUICK)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["counts"]["done"] == 2


def test_without_data_the_sample_runs_and_says_so(folder, tmp_path):
    result = run("hotpotqa", "--model", folder, "--out", tmp_path / "run", "--limit", "1", "--max-tokens", "1", *QUICK)
    assert result.exit_code == 0, result.output
    assert "the questions that come with attributor" in plain(result.stderr)
    assert "--split validation" in plain(result.stderr)
    state = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert (state["data"]["name"], state["counts"]["skipped"]) == ("sample", 1)


def test_failed_rows_are_reported_and_exit_1(folder, tmp_path):
    file = write_examples(tmp_path / "bad.jsonl", [make_example(0), "{broken \x1b[31m", make_example(2)])
    result = run("hotpotqa", file, "--model", folder, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 1
    assert "flow" in result.stdout, "the rest is shown"
    assert plain(result.stderr).count("1 row cannot be used: row 2: is broken JSON") == 1
    assert "1 of 3 rows failed; cases.jsonl says why; --retry-failed runs them again" in plain(result.stderr)
    assert "broken JSON" in result.stderr
    assert "\x1b" not in result.stderr


def test_ctrl_c_keeps_finished_cases_and_says_how_to_resume(folder, examples, tmp_path, monkeypatch):
    seen = []

    def case(question, setting, **options):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(question.id)
        return run_case(question, setting, **options)

    monkeypatch.setattr(runner, "run_case", case)
    args = ("hotpotqa", examples, "--model", folder, "--out", tmp_path / "run", *QUICK)
    stopped = run(*args)
    assert stopped.exit_code == 130
    assert "the same command goes on from there" in plain(stopped.stderr)
    assert "Traceback" not in stopped.stderr
    monkeypatch.undo()
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert "Going on: 2 of 4 rows were done before" in plain(result.stderr)


def test_the_script_runs_the_command_and_ends_cleanly_after_sigint(folder, examples, tmp_path):
    command = [sys.executable, str(ROOT / "eval" / "hotpot_qa.py"), str(examples), "--model", folder]
    command += ["--dtype", "float32", "--device_map", "cpu", "--method", "flow,random", "--max_new_tokens", "3"]
    command += ["--out", str(tmp_path / "run")]
    environment = os.environ | {"COLUMNS": "140", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        process.stderr.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)  # during loading
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    done = subprocess.run(command, capture_output=True, env=environment, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert state["config"]["device_map"] == "cpu"
    assert state["counts"]["done"] == 4


# Output of a run


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def record(number, status="done", **changes):
    scores = {"scores": {"sum": [0.1, 0.9, 0.2]}}
    return {
        "id": f"row-{number}",
        "status": status,
        "segments": [[0, 1, 0]] * 3,
        "gold": [1],
        "methods": {"flow": scores, "random": {"scores": {"segment": [0.9, 0.1, 0.2]}}} if status == "done" else {},
        "em": number % 2,
        **changes,
    }


def test_progress_in_a_log_is_an_occasional_line():
    out, clock = io.StringIO(), Clock()
    display = Display(Console(file=out, width=200), clock)
    display.start_stage("Loading the model")
    display.start_cases(20, [record(0), record(1)])
    for number in range(2, 20):
        clock.now += 10
        display.add_case(record(number, "skipped" if number == 4 else "done"))
    display.end()
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["Loading the model", "Going on: 2 of 20 rows were done before"]
    assert lines[2] == (
        "3 of 20 rows; 0.1 rows/s, 2:50 left; AP so far: flow 1.000, random 0.333; "
        "the model's own answers: 33% hold the expected one"
    )
    assert lines[3].startswith("6 of 20 rows (1 skipped); 0.1 rows/s, 2:20 left")
    assert lines[-1].startswith("20 of 20 rows (1 skipped); 0.1 rows/s, 0:00 left")
    assert len(lines) == 3 + 1 + 180 // EVERY - 1
    display.start_cases(20, [])
    clock.now += 40
    display.add_case(record(0))
    assert "0.025 rows/s (40 s each), 12:40 left" in out.getvalue().splitlines()[-1]
    one = record(0)
    one["methods"]["similarity:/some/where/a-model"] = one["methods"].pop("random")
    display.start_cases(1, [])
    display.add_case(one)
    assert "similarity:a-model" in out.getvalue().splitlines()[-1], "names, not places"


def test_progress_in_a_terminal_is_a_moving_bar():
    out, clock = io.StringIO(), Clock()
    display = Display(Console(file=out, width=100, force_terminal=True, color_system=None), clock)
    display.start_stage("Loading the model")
    display.start_cases(20, [])
    clock.now = 2
    display.add_case(record(0))
    for number in range(1, 8):
        display.add_case(record(number, "failed", question="Who?", reason="InputError: no \x1b[2J such thing"))
    shown = Console(file=io.StringIO(), width=100)
    shown.print(display._panel())
    text = shown.file.getvalue()
    assert "8 of 20 rows (7 failed)" in text
    assert "4 rows/s, 0:03 left" in text
    assert "AP so far: flow 1.000, random 0.333" in text
    display.end()
    assert out.getvalue().count("failed: InputError: no") == SHOWN
    assert out.getvalue().count("row-5 failed") == 1
    assert "further failures are only counted" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    display.end()
