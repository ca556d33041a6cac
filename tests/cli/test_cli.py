"""The command line without a model: what it asks for, what is printed where, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from cli_runs import run
from example_flow import example
from tiny_chat import save

import attributor._models.load
import attributor.cli.answer_question
from attributor._ask import Answer
from attributor._errors import ModelLoadError
from attributor._record.head_weights import HeadWeights
from attributor.cli.commands import app


@pytest.fixture
def doc(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("The harbour was built in 1931.", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("model")))


@pytest.fixture
def asked(monkeypatch):
    """Replaces the model by a flow made by hand, and keeps what it was asked."""
    seen = {}
    meta = {"model": "tiny", "weights": "mean", "layers": "2", "heads": "4", "heads_used": "8", "normalize": "true"}

    def answer(source, settings, stages):
        seen.update(source=source, settings=settings)
        flow = example(meta=meta)
        return Answer(
            flow=flow,
            weights=HeadWeights(torch.full((2, 4), 0.25), name="mean"),
            model="tiny",
            uses_question=False,
            written=source.answer is None,
            notes=("the answer was cut off",),
            seconds={"load": 1.0, "sweep": 0.5},
        )

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    return seen


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_titled_file_a_named_file_and_a_folder(asked, tmp_path):
    (tmp_path / "more").mkdir()
    write(tmp_path, "ferry_times.txt", b"\xef\xbb\xbfTwice a day.\r\nNot on Sundays.\n")
    write(tmp_path / "more", "b.md", b"B:\nsecond")
    write(tmp_path / "more", "a.txt", b"first:")
    write(tmp_path / "more", "c.pdf", b"%PDF")
    result = run("flow", "-d", tmp_path / "ferry_times.txt", "-d", tmp_path / "more", "-q", "When?")
    assert result.exit_code == 0, result.stderr
    assert asked["source"].documents == (
        ("ferry times", "Twice a day.\nNot on Sundays."),
        ("a", "first:"),
        ("B", "second"),
    )
    (tmp_path / "none").mkdir()
    assert "is a folder without .txt or .md files" in run("flow", "-d", tmp_path / "none", "-q", "Q").stderr


def test_standard_input(asked):
    assert run("flow", "-d", "-", "-q", "Q", input="Some text.\n").exit_code == 0
    assert asked["source"].documents == (("document", "Some text."),)
    assert run("flow", "--prompt-file", "-", input="Some text.\n").exit_code == 0
    assert asked["source"].text == "Some text.\n"


def test_the_assistants_last_message_is_the_answer(asked, tmp_path):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The keeper."}]
    path = write(tmp_path, "chat.json", json.dumps({"messages": turns}).encode())
    assert run("flow", "--messages", path).exit_code == 0
    assert asked["source"].answer == "The keeper."
    assert asked["source"].messages == (turns[0],)
    result = run("flow", "--messages", path, "--answer", "Nobody.")
    assert result.exit_code == 2
    assert "the last message is the assistant's answer" in result.stderr


def test_options_with_dashes_and_with_underscores(asked, doc):
    spelled = ["--max-new-tokens=7", "--device-map", "cpu", "--trust-remote-code"]
    for options in (spelled, [option.replace("-", "_").replace("__", "--", 1) for option in spelled]):
        asked.clear()
        result = run("flow", "-d", doc, "-q", "Q", *options)
        assert result.exit_code == 0, result.stderr
        settings = asked["settings"]
        assert (settings.max_new_tokens, settings.device_map, settings.trust_remote_code) == (7, "cpu", True)


def test_every_option_reaches_the_model(asked, doc):
    run("flow", "-d", doc, "-q", "Q", "-mM", "--dtype=bfloat16", "--revision=r", "--weights=output_norm")
    settings = asked["settings"]
    assert (settings.model, settings.dtype, settings.revision) == ("M", "bfloat16", "r")
    assert (settings.weights, settings.max_new_tokens, settings.power) == ("output_norm", 64, None)
    more = ["--power=2", "--impl=reference", "--instruction=I", "--system=S", "--answer=A"]
    run("flow", "-d", doc, "-q", "Q", *more)
    assert (asked["settings"].power, asked["settings"].impl) == (2.0, "reference")
    source = asked["source"]
    assert (source.question, source.instruction, source.system, source.answer) == ("Q", "I", "S", "A")


@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_json_is_alone_on_stdout_and_its_shares_make_up_everything(by, asked, doc):
    result = run("flow", "-d", doc, "-q", "Q", "--json", "--top", "0", "--by", by)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert set(found) == {
        "version", "question", "answer", "answer_written_by_model", "prompt_tokens", "answer_tokens", "by", "how",
        "top", "documents", "rest", "meta", "notes", "seconds", "files",
    }  # fmt: skip
    assert set(found["top"][0]) == {"rank", "share", "text", "start", "stop", "index", "document", "title"}
    shares = [hit["share"] for hit in found["top"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + sum(found["rest"].values()) == pytest.approx(1, abs=1e-5)
    assert [hit["rank"] for hit in found["top"]] == list(range(1, len(shares) + 1))
    flow = example()
    for hit in found["top"]:
        assert flow.text[hit["start"] : hit["stop"]] == hit["text"]
    assert found["answer"] == flow.answer
    assert found["notes"] == ["the answer was cut off"]
    assert not result.stderr


def test_json_of_other_sums_and_fewer_pieces(asked, doc):
    found = json.loads(run("flow", "-d", doc, "-q", "Q", "--json", "--top", "2", "--how", "top3").stdout)
    assert len(found["top"]) == 2
    assert found["rest"]["prompt"] is None
    assert (found["by"], found["how"]) == ("sentence", "top3")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [["--json"], []])
def test_a_flow_on_a_full_disk(options, folder, doc):
    command = [sys.executable, "-m", "attributor.cli", "flow", "-m", folder, "-d", doc, "-q", "Q", "-a", "A", *options]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (1, "error: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_scores_that_are_not_shares_are_not_shown_as_percentages(by, monkeypatch, doc):
    def answer(source, settings, stages):
        meta = {"model": "tiny", "weights": "mean", "layers": "2", "heads": "4", "heads_used": "8"}
        flow = example(meta=meta, missing_mass=None)
        weights = HeadWeights(torch.full((2, 4), 0.25), power=2, name="mean")
        return Answer(flow, weights, "tiny", uses_question=False, written=False, notes=(), seconds={})

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    shown = run("flow", "-d", doc, "-q", "Q", "--by", by).stdout
    best = example().top(1, by=by)[0].share
    assert "%" not in shown
    assert f"{best:.3g}" in shown


def test_files_are_written_and_named(asked, doc, tmp_path):
    page, saved = tmp_path / "out.html", tmp_path / "out.safetensors"
    result = run("flow", "-d", doc, "-q", "Q", "--html", page, "--save", saved)
    assert result.exit_code == 0
    assert "<html" in page.read_text("utf-8")
    assert attributor.load(saved).answer == example().answer
    assert "out.html" in result.stdout.replace("\n", "")
    found = json.loads(run("flow", "-d", doc, "-q", "Q", "--html", page, "--json").stdout)
    assert found["files"] == {"html": str(page)}


def test_the_view_names_question_answer_weights_and_notes(asked, doc):
    out = run("flow", "-d", doc, "-q", "How often does the ferry cross?").stdout
    for words in ("How often does the ferry cross?", "Twice a day.", "tiny", "the plain definition", "cut off"):
        assert words in out
    assert "Given" in run("flow", "-d", doc, "-q", "Q", "--answer", "Twice.").stdout


def test_an_error_is_one_sentence_and_debug_shows_the_traceback(monkeypatch, doc):
    def load_model(*_, **__):
        raise ModelLoadError("M: no such model \x1b[31m[bold]")

    monkeypatch.setattr(attributor._models, "load_model", load_model)
    result = run("flow", "-d", doc, "-q", "Q")
    assert result.exit_code == 1
    assert result.stderr == "error: M: no such model ␛[31m[bold]\n", "neither a control sequence nor markup"
    result = run("flow", "-d", doc, "-q", "Q", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "load_model" in result.stderr


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), 1, "out of memory"),
    ],
)
def test_ctrl_c_is_130_and_out_of_memory_is_1(raised, status, words, monkeypatch, doc):
    def answer(*_):
        raise raised

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    result = run("flow", "-d", doc, "-q", "Q")
    assert result.exit_code == status
    assert words in result.stderr
    assert bool(result.stderr) == bool(words), "an interruption is quiet"
    assert "Traceback" not in result.stderr


def test_an_unexpected_error_is_not_hidden(monkeypatch, doc):
    def answer(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    assert isinstance(run("flow", "-d", doc, "-q", "Q").exception, RuntimeError)


def test_help_has_examples_and_exit_statuses():
    result = run("flow", "--help")
    assert result.exit_code == 0
    words = " ".join(result.stdout.replace("│", " ").split())
    for needed in ("Examples", "attributor flow -d notes.txt", "Exit status", "[default: mean]", "[default: sentence]"):
        assert needed in words
    top = run("--help").stdout
    assert all(command in top for command in ("flow", "demo", "info"))
    assert run("--version").stdout.startswith("attributor 0")


def test_the_demo_uses_the_shipped_documents(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "demo.html").exists()
    source, settings = asked["source"], asked["settings"]
    assert len(source.documents) == 10
    assert all(title and body for title, body in source.documents)
    assert any(title == "The lighthouse" and "164 steps" in body for title, body in source.documents)
    assert source.question.endswith("?")
    assert settings.weights == "retrieval"
    assert run("demo", "--question", "Who bakes?", "--weights", "mean", "--html", "x/y.html").exit_code == 0
    assert (asked["source"].question, asked["settings"].weights) == ("Who bakes?", "mean")
    assert run("demo", "--answer", "A", "--max-new-tokens", "3").exit_code == 2
    write(tmp_path, "file", b"")
    assert "cannot make the folder file" in run("demo", "--html", "file/demo.html").stderr


def test_the_documentation_is_complete(asked, doc):
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    group = typer.main.get_command(app)
    for command in group.commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                assert f"attributor {command.name} [{parameter.metavar}]" in text
                continue
            named = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
            assert any(f"`{name}" in text for name in named), f"{command.name} {named}"
    found = json.loads(run("flow", "-d", doc, "-q", "Q", "--json").stdout)
    for key in (*found, *found["top"][0], *found["documents"][0], *found["rest"]):
        assert f"`{key}`" in text, key
