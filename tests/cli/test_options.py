"""Unusable options, files and outputs are reported before a model is loaded."""

import json
import tempfile
from pathlib import Path

import pytest
from cli_runs import run
from tiny_chat import save

import attributor._models.load
import attributor.cli.answer_question
from attributor._documents import PromptText
from attributor.cli.prompt_input import read_prompt_input


@pytest.fixture
def doc(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("The harbour was built in 1931.", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("model")))


@pytest.fixture
def no_model(monkeypatch):
    """Fail the test if a model is loaded, because the error must come first."""

    def load_model(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(attributor._models, "load_model", load_model)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "no prompt: give --document FILE"),
        ("-d DOC", "--document needs --question"),
        ("--question Q", "no prompt"),
        ("-d DOC -q Q --messages DOC", "--document and --messages are different sources"),
        ("--prompt-file DOC --messages DOC", "--messages and --prompt-file are different sources"),
        ("--prompt-file DOC -q Q", "--question goes with --document, not with --prompt-file"),
        ("--messages DOC --instruction Q", "--instruction goes with --document, not with --messages"),
        ("-d DOC -q Q --raw", "--chat and --raw go with --prompt-file"),
        ("--prompt-file DOC --raw --system S", "--system needs a chat"),
        ("-d DOC -q Q --answer A --max-new-tokens 3", "--max-new-tokens does not go with it"),
        ("-d DOC -q Q --how median", "--how must be sum, mean, max or topK"),
        ("-d DOC -q Q --how top0", "--how must be sum, mean, max or topK"),
        ("-d DOC -q Q --by word", "--by"),
        ("-d DOC -q Q --max-new-tokens 0", "--max-new-tokens"),
        ("-d DOC -q Q --effects sentences", "--effects"),
        ("-d DOC -q Q --top -1", "--top"),
        ("-d DOC -q Q --power x", "--power"),
        ("-d DOC -q Q --nonsense", "--nonsense"),
        ("-d - -d - -q Q", "standard input (-) can be read only once"),
        ("-d DOC -q Q --html out.html --save out.html", "--html and --save both name out.html"),
    ],
)
def test_wrong_options_exit_2_with_a_sentence(args, message, doc, no_model):
    result = run("flow", *[doc if arg == "DOC" else arg for arg in args.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert not result.stdout


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("option", "data", "message"),
    [
        ("-d", None, "cannot read"),
        ("-d", b"", "is empty"),
        ("-d", b" \n\t\n", "is empty"),
        ("-d", b"caf\xe9", "is not UTF-8 text (byte 3 is 0xe9)"),
        ("-d", "café".encode("utf-16"), "is not UTF-8 text but looks like UTF-16; convert it first"),
        ("-d", "cafe".encode("utf-16-le"), "is not UTF-8 text but looks like UTF-16; convert it first"),
        ("-d", b"%PDF-1.7\n%\xe2", "is damaged, or no PDF: "),
        ("-d", b"PK\x03\x04", "is a zip archive or an office document, not text"),
        ("--prompt-file", b"%PDF-1.7\n%\xe2", "is a PDF, not text; extract its text first"),
        ("--prompt-file", b"", "is empty"),
        ("--messages", b"{", "is not JSON"),
        ("--messages", b"[" * 100_000, "is n"),  # "is nested too deeply", or "is not JSON" if Python parses it
        ("--messages", b"[]", "must hold"),
        ("--messages", b'{"turns": []}', "must hold"),
        ("--messages", b'["hello"]', "message 1 has no role"),
        ("--messages", b'[{"role": "user", "content": 3}]', "content of message 1 must be text"),
        (
            "--messages",
            b'[{"role": "user", "content": [{"type": "image_url"}]}]',
            "part 1 is of type 'image_url', which is not followed",
        ),
        ("--messages", b'[{"role": "assistant", "content": "Yes."}]', "there is no prompt before it"),
    ],
)
def test_files_that_cannot_be_used_exit_1_before_a_model_is_loaded(option, data, message, tmp_path, no_model):
    path = tmp_path / "input" if data is None else write(tmp_path, "input", data)
    result = run("flow", option, path, *(["-q", "Q"] if option == "-d" else []))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


@pytest.mark.parametrize("option", ["--html", "--save"])
def test_outputs_are_checked_before_a_model_is_loaded(option, doc, tmp_path, no_model):
    for place, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "out", "there is no folder")):
        result = run("flow", "-d", doc, "-q", "Q", option, place)
        assert result.exit_code == 1
        assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"], "checking leaves nothing behind"


def test_a_folder_that_cannot_be_written_to(doc, tmp_path, no_model, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    result = run("flow", "-d", doc, "-q", "Q", "--html", tmp_path / "out.html")
    assert result.exit_code == 1
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "nonsense"], "unknown weights 'nonsense'"),
        (["--power", "-1"], "power must be a finite number > 0, got -1.0"),
        (["--impl", "fortran"], "unknown implementation 'fortran'"),
        (["--impl", "cuda"], "implementation 'cuda' cannot be used here"),
    ],
)
def test_settings_are_checked_before_a_model_is_loaded(options, message, doc, no_model):
    result = run("flow", "-d", doc, "-q", "Q", *options)
    assert result.exit_code == 1
    assert message in result.stderr


def test_lines_of_a_document_may_end_with_cr_alone(tmp_path):
    path = write(tmp_path, "mac.txt", b"Title:\rOne.\rTwo.\r")
    (document,) = read_prompt_input(documents=[path], question="Q").documents
    assert (document.title, PromptText.of(document).text) == ("Title", "One.\nTwo.")
    assert read_prompt_input(prompt_file=path).text == "Title:\nOne.\nTwo.\n"


def test_text_parts_of_messages_are_joined_also_in_the_answer(tmp_path):
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]
    prompt = read_prompt_input(messages=write(tmp_path, "chat.json", json.dumps(turns).encode()))
    assert prompt.messages == ({"role": "user", "content": "One.\nTwo."},)
    assert prompt.answer == "One.\nTwo."
