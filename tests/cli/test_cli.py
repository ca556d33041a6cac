"""The command line without a model: its settings, its output and its exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_runs import run
from example_answer import META, example_answer
from example_flow import example
from tiny_chat import save

import attributor._models.load
import attributor.cli.answer_question
from attributor._cite import show_share
from attributor._documents import PromptText
from attributor._errors import ModelLoadError
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
    """Replace the model by a flow made by hand and store the source and settings."""
    seen = {}

    def answer(source, settings, stages):
        seen.update(source=source, settings=settings)
        written = source.answer is None
        return example_answer(question=source.question, written=written, notes=("the answer was cut off",))

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    return seen


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def shown(source):
    """Return the titles and texts of the documents as in a prompt."""
    return [(document.title, PromptText.of(document).text) for document in source.documents]


def test_documents_from_titled_and_named_files_and_folders(asked, tmp_path):
    (tmp_path / "more").mkdir()
    write(tmp_path, "ferry_times.txt", b"\xef\xbb\xbfTwice a day.\r\nNot on Sundays.\n")
    write(tmp_path / "more", "b.md", b"B:\nsecond")
    write(tmp_path / "more", "a.txt", b"first:")
    write(tmp_path / "more", "c.csv", b"1,2")
    result = run("ask", "-d", tmp_path / "ferry_times.txt", "-d", tmp_path / "more", "-q", "When?")
    assert result.exit_code == 0, result.stderr
    assert shown(asked["source"]) == [
        ("ferry times", "Twice a day.\nNot on Sundays."),
        ("a", "first:"),
        ("B", "second"),
    ]
    assert asked["source"].notes == (f"1 file in {tmp_path / 'more'} was not read, it is no .txt, .md or .pdf: c.csv",)
    (tmp_path / "none").mkdir()
    assert "is a folder without .txt, .md or .pdf files" in run("ask", "-d", tmp_path / "none", "-q", "Q").stderr


def test_standard_input_can_be_document_or_prompt(asked):
    assert run("ask", "-d", "-", "-q", "Q", input="Some text.\n").exit_code == 0
    assert shown(asked["source"]) == [("document", "Some text.")]
    assert run("ask", "--prompt-file", "-", input="Some text.\n").exit_code == 0
    assert asked["source"].text == "Some text.\n"


def test_the_assistants_last_message_is_the_answer(asked, tmp_path):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The keeper."}]
    path = write(tmp_path, "chat.json", json.dumps({"messages": turns}).encode())
    assert run("ask", "--messages", path).exit_code == 0
    assert asked["source"].answer == "The keeper."
    assert asked["source"].messages == (turns[0],)
    result = run("ask", "--messages", path, "--answer", "Nobody.")
    assert result.exit_code == 2
    assert "the last message is the assistant's answer" in result.stderr


def test_options_accept_dashes_and_underscores(asked, doc):
    spelled = ["--max-new-tokens=7", "--device-map", "cpu", "--trust-remote-code"]
    for options in (spelled, [option.replace("-", "_").replace("__", "--", 1) for option in spelled]):
        asked.clear()
        result = run("ask", "-d", doc, "-q", "Q", *options)
        assert result.exit_code == 0, result.stderr
        settings = asked["settings"]
        assert (settings.max_new_tokens, settings.device_map, settings.trust_remote_code) == (7, "cpu", True)


def test_every_option_reaches_the_model(asked, doc):
    run("ask", "-d", doc, "-q", "Q", "-mM", "--dtype=bfloat16", "--revision=r", "--weights=output_norm")
    settings = asked["settings"]
    assert (settings.model, settings.dtype, settings.revision) == ("M", "bfloat16", "r")
    assert (settings.weights, settings.max_new_tokens, settings.power) == ("output_norm", 64, None)
    more = ["--power=2", "--impl=reference", "--instruction=I", "--system=S", "--answer=A"]
    run("ask", "-d", doc, "-q", "Q", *more)
    assert (asked["settings"].power, asked["settings"].impl) == (2.0, "reference")
    source = asked["source"]
    assert (source.question, source.instruction, source.system, source.answer) == ("Q", "I", "S", "A")


@pytest.mark.parametrize(
    ("options", "effects"), [([], False), (["--effects", "answer"], True), (["--effects=claims"], "claims")]
)
def test_the_effects_option_reaches_ask(asked, doc, options, effects):
    result = run("ask", "-d", doc, "-q", "Q", *options)
    assert result.exit_code == 0, result.stderr
    assert asked["settings"].effects is effects or asked["settings"].effects == effects == "claims"


@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_json_is_the_only_output_on_stdout_and_its_shares_add_up(by, asked, doc):
    result = run("ask", "-d", doc, "-q", "Q", "--json", "--top", "0", "--by", by)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    answer = json.loads(json.dumps(example_answer(question="Q", written=True).to_json()))
    assert {key: report[key] for key in answer} == answer | {"notes": ["the answer was cut off"]}
    assert set(report) - set(answer) == {"pieces", "files"}
    pieces = report["pieces"]
    assert (pieces["by"], pieces["how"]) == (by, "sum")
    hits = pieces["top"]
    assert set(hits[0]) == {"rank", "share", "text", "start", "stop", "document", "title"}
    shares = [hit["share"] for hit in hits]
    assert shares == sorted(shares, reverse=True)
    assert [hit["rank"] for hit in hits] == list(range(1, len(shares) + 1))
    flow = example()
    documents = flow.by("document").total()
    inside = [hit for hit in flow.by(by).top(1000) if by == "document" or hit.index in inside_documents(flow, by)]
    assert [hit["text"] for hit in hits] == [hit.text for hit in inside]
    assert shares == pytest.approx([hit.share / float(documents.sum()) for hit in inside], rel=1e-5)
    if by == "document":
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert shares == pytest.approx(sorted((d["share"] for d in report["documents"]), reverse=True), abs=1e-6)
    assert not result.stderr


def inside_documents(flow, by):
    """Return the pieces inside documents."""
    return {index for index, segment in enumerate(flow.by(by).segments) if segment.document is not None}


def test_json_follows_how_and_top(asked, doc):
    pieces = json.loads(run("ask", "-d", doc, "-q", "Q", "--json", "--top", "2", "--how", "top3").stdout)["pieces"]
    assert (pieces["by"], pieces["how"]) == ("sentence", "top3")
    expected = example().by("sentence", "top3").top(2)
    assert [hit["score"] for hit in pieces["top"]] == pytest.approx([hit.share for hit in expected])
    assert "share" not in pieces["top"][0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [["--json"], []])
def test_a_full_disk_for_standard_output_is_an_error(options, folder, doc):
    command = [sys.executable, "-m", "attributor.cli", "ask", "-m", folder, "-d", doc, "-q", "Q", "-a", "A"]
    command += ["--weights", "mean", *options]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (1, "error: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_scores_that_are_not_sums_are_not_shown_as_percentages(by, asked, doc):
    shown = run("ask", "-d", doc, "-q", "Q", "--by", by, "--how", "max").stdout.rpartition("Where the answer")[2]
    listed = shown.partition("of the whole flow")[0].rpartition("\n")[0]
    best = max(
        hit.share
        for hit in example().by(by, "max").top(99)
        if by == "document" or hit.index in inside_documents(example(), by)
    )
    assert "%" not in listed
    assert f"{best:.3g}" in listed


@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_scores_that_do_not_add_up_to_1_have_shares_of_the_documents_too(by, monkeypatch, doc):
    flow = example(meta=META, missing_mass=None)
    monkeypatch.setattr(attributor.cli.answer_question, "answer", lambda *_: example_answer(flow))
    shown = run("ask", "-d", doc, "-q", "Q", "--by", by).stdout
    best = json.loads(run("ask", "-d", doc, "-q", "Q", "--by", by, "--json").stdout)["pieces"]["top"][0]["share"]
    assert show_share(best) in shown
    assert "of the whole flow" not in shown


def test_the_old_name_is_the_same_command(asked, doc):
    old, new = (json.loads(run(name, "-d", doc, "-q", "Q", "--json").stdout) for name in ("flow", "ask"))
    assert old == new
    assert "attributor flow" not in run("--help").stdout


def test_files_are_written_and_named(asked, doc, tmp_path):
    page, saved = tmp_path / "out.html", tmp_path / "out.safetensors"
    result = run("ask", "-d", doc, "-q", "Q", "--html", page, "--save", saved)
    assert result.exit_code == 0
    assert "<html" in page.read_text("utf-8")
    assert attributor.load(saved).answer == example().answer
    assert "out.html" in result.stdout.replace("\n", "")
    found = json.loads(run("ask", "-d", doc, "-q", "Q", "--html", page, "--json").stdout)
    assert found["files"] == {"html": str(page)}


def test_the_view_names_question_answer_weights_and_notes(asked, doc):
    out = run("ask", "-d", doc, "-q", "How often does the ferry cross?").stdout
    for words in ("How often does the ferry cross?", "Twice a day.", "tiny", "the plain definition", "cut off"):
        assert words in out
    assert "Given" in run("ask", "-d", doc, "-q", "Q", "--answer", "Twice.").stdout


def test_an_error_is_one_sentence_and_debug_shows_the_traceback(monkeypatch, doc):
    def load_model(*_, **__):
        raise ModelLoadError("M: no such model \x1b[31m[bold]")

    monkeypatch.setattr(attributor._models, "load_model", load_model)
    result = run("ask", "-d", doc, "-q", "Q")
    assert result.exit_code == 1
    assert result.stderr == "error: M: no such model ␛[31m[bold]\n", "neither a control sequence nor markup"
    result = run("ask", "-d", doc, "-q", "Q", "--debug")
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
def test_exit_status_is_130_after_ctrl_c_and_1_out_of_memory(raised, status, words, monkeypatch, doc):
    def answer(*_):
        raise raised

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    result = run("ask", "-d", doc, "-q", "Q")
    assert result.exit_code == status
    assert words in result.stderr
    assert bool(result.stderr) == bool(words), "an interruption is quiet"
    assert "Traceback" not in result.stderr


def test_an_unexpected_error_is_not_hidden(monkeypatch, doc):
    def answer(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(attributor.cli.answer_question, "answer", answer)
    assert isinstance(run("ask", "-d", doc, "-q", "Q").exception, RuntimeError)


def test_help_has_examples_and_exit_statuses():
    result = run("ask", "--help")
    assert result.exit_code == 0
    words = " ".join(result.stdout.replace("│", " ").split())
    for needed in (
        "Examples",
        "attributor ask -d notes.txt",
        "Exit status",
        "[default: retrieval]",
        "[default: sentence]",
    ):
        assert needed in words
    top = run("--help").stdout
    assert all(command in top for command in ("ask", "demo", "info"))
    assert run("--version").stdout.startswith("attributor 0")


def test_the_demo_uses_the_shipped_documents(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "demo.html").exists()
    source, settings = asked["source"], asked["settings"]
    assert len(source.documents) == 10
    assert all(title and body for title, body in shown(source))
    assert any(title == "The lighthouse" and "164 steps" in body for title, body in shown(source))
    assert source.question.endswith("?")
    assert settings.weights == "retrieval"
    assert run("demo", "--question", "Who bakes?", "--weights", "mean", "--html", "x/y.html").exit_code == 0
    assert (asked["source"].question, asked["settings"].weights) == ("Who bakes?", "mean")
    assert run("demo", "--answer", "A", "--max-new-tokens", "3").exit_code == 2
    write(tmp_path, "file", b"")
    assert "cannot make the folder file" in run("demo", "--html", "file/demo.html").stderr


def test_docs_cli_names_every_option(asked, doc):
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    group = typer.main.get_command(app)
    for command in group.commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                assert f"attributor {command.name} [{parameter.metavar}]" in text
                continue
            named = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
            assert any(f"`{name}" in text for name in named), f"{command.name} {named}"
    report = json.loads(run("ask", "-d", doc, "-q", "Q", "--json").stdout)
    pages = (Path(__file__).parents[2] / "docs" / "citations.md").read_text("utf-8")
    for key in (*report, *report["pieces"], *report["pieces"]["top"][0], "without", "score"):
        assert f"`{key}`" in pages, key
