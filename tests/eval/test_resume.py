"""Interrupted runs resume: kills, full disks, folders of other runs, and the remaining files."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from clock import PATIENCE
from eval_examples import make_example, write_examples
from eval_runs import ObserverLog, assert_near, assert_same, measure_rounding, read_records, settings
from tiny_chat import model as tiny_model

from attributor import FileFormatError, InputError, OutputError
from attributor.eval.run import runner
from attributor.eval.run.case import run_case
from attributor.eval.store import CaseWriter, Follower, RunFolder, flow_name

HERE = Path(__file__).parents[1] / "helpers"


# Runs that end early


class Ends(BaseException):
    """Like a kill: no code catches it."""


def stop_after(monkeypatch, count, error):
    seen = []

    def case(question, setting, **options):
        if len(seen) == count:
            raise error
        seen.append(question.id)
        return run_case(question, setting, **options)

    monkeypatch.setattr(runner, "run_case", case)
    return seen


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Ends()])
def test_a_stopped_run_resumes_and_ends_with_the_same_numbers(evaluate, examples, tmp_path, monkeypatch, error):
    whole = evaluate(settings(examples), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, error)
        with pytest.raises(type(error)):
            evaluate(settings(examples))
    state = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert state["status"] == ("interrupted" if isinstance(error, KeyboardInterrupt) else "running")
    assert "metrics" not in state
    with (tmp_path / "run" / "cases.jsonl").open("ab") as file:
        file.write(b'{"id": "case-3", "stat')  # as a kill during a write leaves it
    seen = stop_after(monkeypatch, -1, error)
    notes = []
    outcome = evaluate(settings(examples), observer=ObserverLog(notes))
    assert seen == ["case-3", "case-4", "case-5"]
    assert any("was not finished (22 bytes) and was cut off" in note for note in notes)
    assert_same(outcome, whole)


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
import tiny_chat
from attributor.eval.run import runner
from attributor.eval.config import Config
import json
config = Config.from_json(json.loads({config!r}))
whole = runner.run_case
def slow(question, setting, **options):
    {before}
    return whole(question, setting, **options)
runner.run_case = slow
tokenizer = tiny_chat.tokenizer()
runner.run_evaluation(config, Path({out!r}), model=tiny_chat.model(len(tokenizer)), tokenizer=tokenizer)
"""


def script(config, out, before="pass"):
    text = SCRIPT.format(tests=str(HERE), config=json.dumps(config.to_json()), out=str(out), before=before)
    return textwrap.dedent(text)


def test_a_run_resumes_after_kill_9(evaluate, examples, tmp_path, tokenizer):
    config = settings(examples)
    process = subprocess.Popen([sys.executable, "-c", script(config, tmp_path / "run", "time.sleep(0.2)")])
    cases = tmp_path / "run" / "cases.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not (cases.exists() and cases.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = cases.read_bytes().count(b"\n")
    assert 2 <= done < 6
    listener = ObserverLog([])
    outcome = evaluate(config, observer=listener)
    assert listener.before == (6, done)
    assert len(listener.cases) == 6 - done
    whole = evaluate(config, tmp_path / "whole")
    exact = tiny_model(len(tokenizer)).double()
    assert_near(
        outcome,
        whole,
        measure_rounding(whole, runner.run_evaluation(config, tmp_path / "exact", model=exact, tokenizer=tokenizer)),
    )


def test_a_complete_run_is_not_changed(evaluate, examples, monkeypatch):
    config = settings(examples)
    first = evaluate(config)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    stop_after(monkeypatch, 0, AssertionError("a case was run"))
    second = runner.run_evaluation(config, first.folder)  # no model is passed or loaded
    assert second.was_complete
    assert second.run == first.run
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


def test_a_folder_of_another_configuration_is_refused(evaluate, examples, tmp_path):
    outcome = evaluate(settings(examples))
    kept = (outcome.folder / "cases.jsonl").read_bytes()
    with pytest.raises(InputError) as caught:
        evaluate(settings(examples, methods=("random",), max_tokens=900))
    assert "methods: flow,max-attention,length,random there, random now" in str(caught.value)
    assert "max_tokens: none there, 900 now" in str(caught.value)
    assert "limit" not in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert (outcome.folder / "cases.jsonl").read_bytes() == kept

    write_examples(tmp_path / "rows.jsonl", [make_example(i) for i in range(3)])
    here = settings(tmp_path / "rows.jsonl")
    evaluate(here, tmp_path / "here")
    write_examples(tmp_path / "rows.jsonl", [make_example(i, question="Who?") for i in range(3)])
    with pytest.raises(InputError, match="the rows of the data set are not those of then"):
        evaluate(here, tmp_path / "here")
    again = evaluate(here, tmp_path / "here", overwrite=True)
    assert {record["question"] for record in read_records(again.folder)} == {"Who?"}


def test_a_missing_library_is_an_error_before_a_model_is_loaded_and_leaves_no_run(examples, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    monkeypatch.setattr(runner, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(
        InputError, match=r"'bm25' needs the package bm25s, .* pip install bm25s, or name other methods"
    ):
        runner.run_evaluation(settings(examples, methods=("flow", "bm25:title")), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.json*"))


def test_a_run_that_ended_before_its_first_case_may_change_its_settings(evaluate, examples):
    folder = evaluate(settings(examples)).folder
    for file in folder.glob("cases*"):
        file.unlink()
    outcome = evaluate(settings(examples, methods=("length",)))
    assert list(outcome.run["metrics"]["methods"]) == ["length"]


def test_other_methods_are_refused_with_those_of_the_run(evaluate, examples):
    first = evaluate(settings(examples, methods=("length", "position")))
    with pytest.raises(
        InputError, match="give --method length,position to go on with it, another --out, or --overwrite"
    ):
        evaluate(settings(examples, methods=("length",)))
    assert evaluate(settings(examples, methods=("length", "position"))).run == first.run


def test_a_folder_of_other_files_is_refused_and_not_changed(evaluate, examples, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not the folder of a run"):
            evaluate(settings(examples), tmp_path / "mine", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "mine").iterdir() if path.name != ".lock"] == ["thesis.txt"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot write to the folder"):
        evaluate(settings(examples), tmp_path / "file")


def test_overwriting_keeps_files_that_are_not_the_runs(evaluate, examples):
    outcome = evaluate(settings(examples, limit=2))
    (outcome.folder / "notes.txt").write_text("mine", encoding="utf-8")
    evaluate(settings(examples, limit=3), overwrite=True)
    assert len(read_records(outcome.folder)) == 3
    assert (outcome.folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_two_runs_do_not_write_the_same_folder(evaluate, examples, tmp_path):
    first = RunFolder(tmp_path / "run")
    first.open(settings(examples), {})
    with pytest.raises(OutputError, match="being written by another run"):
        evaluate(settings(examples))
    first.close()
    assert evaluate(settings(examples)).run["status"] == "done"  # the lock is free and the first run has no case


def test_a_full_disk_loses_no_written_case(evaluate, examples, tmp_path):
    whole = evaluate(settings(examples), tmp_path / "whole")
    size = (whole.folder / "cases.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))  # Python ignores the signal and raises OSError
    try:
        with pytest.raises(OutputError, match="Every case before is kept"):
            evaluate(settings(examples))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = (tmp_path / "run" / "cases.jsonl").read_bytes()
    assert left.endswith(b"\n")
    assert 1 <= len(left.splitlines()) < 6
    assert left == (tmp_path / "run" / "cases.jsonl").read_bytes()
    assert_same(evaluate(settings(examples)), whole)


def test_a_damaged_line_is_named(evaluate, examples):
    outcome = evaluate(settings(examples))
    lines = (outcome.folder / "cases.jsonl").read_bytes().splitlines(keepends=True)
    (outcome.folder / "cases.jsonl").write_bytes(b"".join([*lines[:2], b"\x00\x00\n", *lines[3:]]))
    with pytest.raises(FileFormatError, match=r"cases\.jsonl: line 3 is no record"):
        evaluate(settings(examples))


# Files


def test_an_unfinished_last_line_is_removed(tmp_path):
    folder = RunFolder(tmp_path)
    for whole, torn in ((b'{"id": "a"}\n', b"x" * 200_000), (b"", b"{"), (b'{"id": "a"}\n' * 3, b"")):
        (tmp_path / "cases.jsonl").write_bytes(whole + torn)
        assert len(folder._repair()) == bool(torn)
        assert (tmp_path / "cases.jsonl").read_bytes() == whole


def test_lines_ending_with_cr_alone_are_refused(tmp_path):
    content = b'{"id": "a"}\r{"id": "b"}\r'
    (tmp_path / "cases.jsonl").write_bytes(content)
    with pytest.raises(
        FileFormatError, match=r"cases\.jsonl: its lines end with CR alone, as on old Macs; convert them"
    ):
        RunFolder(tmp_path)._repair()
    assert (tmp_path / "cases.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "[" * 100_000),
        ("run.json", '{"format": "attributor.run", "version": "2"}'),
        ("cases.jsonl", '{"id":' * 100_000 + "\n"),
        ("cases.jsonl", None),
    ],
)
def test_a_run_folder_that_cannot_be_read_is_named(name, content, tmp_path):
    folder = RunFolder(tmp_path)
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=re.escape(name)):
        assert folder.run or folder.records()


def test_the_parts_of_a_shared_run_are_merged_in_the_order_of_the_data(tmp_path):
    folder = RunFolder(tmp_path)
    for name, ids in (("cases.jsonl", "ab"), ("cases.0.jsonl", "fc"), ("cases.1.jsonl", "deb")):
        with CaseWriter(tmp_path / name) as writer:
            for letter in ids:
                writer.write({"id": letter, "from": name})
    found = folder.merge(list("abcdef"))
    assert list(found) == list("abcdef")
    assert found["b"]["from"] == "cases.1.jsonl", "the last one counts"
    assert [path.name for path in tmp_path.iterdir()] == ["cases.jsonl"]
    assert [json.loads(line)["id"] for line in (tmp_path / "cases.jsonl").read_bytes().splitlines()] == list("abcdef")


def test_the_first_process_reads_cases_that_others_finish(tmp_path):
    follower = Follower(RunFolder(tmp_path), tmp_path / "cases.0.jsonl")
    with CaseWriter(tmp_path / "cases.0.jsonl") as own, CaseWriter(tmp_path / "cases.1.jsonl") as other:
        own.write({"id": "mine"})
        other.write({"id": "theirs"})
        assert [record["id"] for record in follower.read_new()] == ["theirs"]
        assert follower.read_new() == []
        os.write(other._handle, b'{"id": "ha')
        assert follower.read_new() == []
        os.write(other._handle, b'lf"}\n')
        assert [record["id"] for record in follower.read_new()] == ["half"]


def test_flow_names_are_unique_and_equal_in_the_browser():
    ids = ["a", "A", "ä1", "แ", "é", "%e41", "a/b", "../a", "x" * 200, "x" * 201, "", "\ud800", "😀", "\U0001f6001"]
    assert len({flow_name(case) for case in ids}) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9%_-]*\.safetensors", flow_name(case)) for case in ids)
    browser = HERE.parents[1] / "webapp/tests/run/flownames.json"  # the tests of the browser's rule read it too
    for case, name in json.loads(browser.read_text("utf-8")).items():
        assert flow_name(case) == name
