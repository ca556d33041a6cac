"""The runner: what a case's record holds, and folders that survive kills, full disks, bad rows and shared rows."""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import pytest
import torch
from eval_rows import row, write_rows
from families import VOCABULARY, tiny
from tiny_chat import model as tiny_model
from tiny_chat import tokenizer as tiny_tokenizer

import attributor
from attributor import FileFormatError, InputError, OutputError, UnsupportedModelError
from attributor._prompt import encode_answer
from attributor.eval import read, runner
from attributor.eval.case import run_case
from attributor.eval.config import Config
from attributor.eval.faithfulness import case_seed
from attributor.eval.faithfulness import measure as faithful
from attributor.eval.store import CaseWriter, Follower, RunFolder

METHODS = ("flow", "max-attention", "length", "random")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(len(tokenizer))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", [row(i) for i in range(6)])


@pytest.fixture
def go(model, tokenizer, tmp_path):
    """Runs with the tiny model, into `tmp_path / "run"` unless told otherwise."""

    def run(config, out=None, **options):
        return runner.run(config, out or tmp_path / "run", model=model, tokenizer=tokenizer, **options)

    return run


def settings(source, **changes):
    fields = {"methods": METHODS, "max_new_tokens": 4, "check_answer": False, "cost_rows": 0, **changes}
    return Config(source=str(source), **fields)


def records(folder):
    return [json.loads(line) for line in (Path(folder) / "cases.jsonl").read_text("ascii").splitlines()]


def without_times(found):
    """Metrics or records without what a clock, or a machine's memory, had a part in."""
    if isinstance(found, dict):
        timed = ("costs", "seconds", "seconds_read", "seconds_plain", "peak_bytes")
        return {name: without_times(value) for name, value in found.items() if name not in timed}
    return [without_times(entry) for entry in found] if isinstance(found, list) else found


def same(one, other):
    assert without_times(one.run["metrics"]) == without_times(other.run["metrics"])
    assert one.run["counts"] == other.run["counts"]
    assert without_times(records(one.folder)) == without_times(records(other.folder))


# What a record holds


def test_a_run_over_a_file(go, rows):
    outcome = go(settings(rows, check_answer=True, cost_rows=2))
    found = records(outcome.folder)
    assert [record["id"] for record in found] == [f"case-{i}" for i in range(6)]
    assert outcome.run["counts"] == {"rows": 6, "done": 6, "skipped": 0, "failed": 0}
    assert outcome.run["status"] == "done"
    assert outcome.run == json.loads((outcome.folder / "run.json").read_text("utf-8"))
    assert Config.from_json(outcome.run["config"]) == settings(rows, check_answer=True, cost_rows=2)
    for i, record in enumerate(found):
        assert (record["question"], record["expected"]) == (row(i)["question"], row(i)["answer"])
        assert [record["text"][start:stop] for start, stop, _ in record["segments"]] == [
            sentence.strip() for sentences in row(i)["context"]["sentences"] for sentence in sentences
        ]
        assert (record["gold"], record["gold_documents"]) == ([0, 2], [0, 1])
        assert [title for *_, title in record["documents"]] == row(i)["context"]["title"]
        assert list(record["methods"]) == list(METHODS)
        assert (record["em"], record["f1"]) != (None, None)
        assert (record["seconds_plain"] is not None) == (i < 2)
        assert record["peak_bytes"] > 10_000_000
    for method in METHODS:
        assert outcome.run["metrics"]["methods"][method]["sentence"]


@pytest.mark.parametrize("end_token", [True, False])
def test_scores_are_those_of_the_plain_functions(go, rows, model, tokenizer, end_token):
    record = records(go(settings(rows, limit=1, end_token=end_token)).folder)[0]
    answer = encode_answer(tokenizer, record["answer"])
    if end_token:
        answer = torch.cat([answer, torch.tensor([tokenizer.eos_token_id])])
    prompt = torch.tensor(tokenizer(record["text"])["input_ids"])
    assert record["tokens"] == len(prompt)
    assert record["answer_tokens"] == len(answer)
    ids = torch.cat([prompt, answer])
    flow = attributor.flow(
        model,
        ids,
        prompt_length=len(prompt),
        tokenizer=tokenizer,
        documents=[(a, b) for a, b, _ in record["documents"]],
    )
    want = flow.by("document", "sum").scores.sum(0).tolist()
    assert record["methods"]["flow"]["documents"]["sum"] == pytest.approx(want, abs=1e-5)
    with torch.no_grad():
        logits = model(ids[None]).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    assert record["log_prob"] == pytest.approx(float(logits[torch.arange(len(answer)), answer].sum()), abs=1e-4)


class Counting:
    """Counts a model's forward passes, and the positions that each read."""

    def __init__(self, model):
        self.read = []
        self._handle = model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _, args, kwargs):
        ids = args[0] if args else kwargs["input_ids"]
        self.read.append(ids.shape[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._handle.remove()


def test_a_generated_answer_is_attributed_without_a_second_pass(go, rows, model, tokenizer):
    with Counting(model) as counted:
        outcome = go(settings(rows, limit=2, answer="generated"))
    found = records(outcome.folder)
    first, second = (record["tokens"] for record in found)
    # the first prompt once more, untimed, before anything; the last token written is never read
    assert counted.read == [first, 1, 1, 1, first, 1, 1, 1, second, 1, 1, 1]
    for record in found:
        assert record["generated"] == record["answer"]
        assert record["em"] is not None
        prompt = torch.tensor(tokenizer(record["text"])["input_ids"])
        out = model.generate(prompt[None], max_new_tokens=4, do_sample=False, pad_token_id=0)[0]
        written = out[len(prompt) :]
        written = written[:-1] if int(written[-1]) == 2 and len(written) > 1 else written
        assert record["answer_tokens"] == len(written)
        ids = torch.cat([prompt, written])
        with torch.no_grad():
            logits = model(ids[None]).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        want = float(logits[torch.arange(len(written)), written].sum())
        assert record["log_prob"] == pytest.approx(want, abs=1e-4)
        scores = attributor.flow(model, ids, prompt_length=len(prompt)).scores.sum(0)
        assert max(record["methods"]["flow"]["scores"]["max"]) <= float(scores.max()) + 1e-5


def test_the_models_own_answer_is_written_from_the_cache(go, rows, model, tokenizer):
    with Counting(model) as counted:
        outcome = go(settings(rows, limit=1, check_answer=True))
    record = records(outcome.folder)[0]
    k, a = record["tokens"], record["answer_tokens"]
    assert counted.read[:2] == [k + a - 1] * 2  # untimed, then recorded
    assert counted.read[2:] == [1] * 4  # the prompt's last token again, then what was written
    prompt = torch.tensor(tokenizer(record["text"])["input_ids"])
    out = model.generate(prompt[None], max_new_tokens=4, do_sample=False, pad_token_id=0)[0, k:]
    assert record["generated"] == tokenizer.decode(out, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "qwen2", "gpt2", "deepseek_v3", "gpt_oss"])
def test_writing_behind_a_cache_is_writing_anew(family):
    """Also where a window slides: such a cache cannot be cut, and is not used."""
    other = tiny(family)
    ids = torch.randint(3, VOCABULARY, (43,), generator=torch.Generator().manual_seed(3))
    prompt, answer = ids[:40], ids[40:]
    found = read.force(other, prompt, answer, "mean", cache=True)
    plain = read.force(other, prompt, answer, None)
    torch.testing.assert_close(found.log_probs, plain.log_probs, rtol=0, atol=1e-5)
    flow = found.recording.flow(ids, prompt_length=40).scores
    written = read.write_behind(other, prompt, 6, found.cache)
    assert written.tolist() == read.write(other, prompt, 6, None).answer.tolist()
    torch.testing.assert_close(flow, found.recording.flow(ids, prompt_length=40).scores, rtol=0, atol=0)


def test_prompts_that_are_too_long_are_skipped_and_counted(go, rows, tokenizer, tmp_path):
    everything = records(go(settings(rows)).folder)
    most = sorted(record["tokens"] for record in everything)[2]
    outcome = go(settings(rows, max_tokens=most), tmp_path / "short")
    found = records(outcome.folder)
    longer = sum(record["tokens"] > most for record in everything)
    assert longer
    assert outcome.run["counts"] == {"rows": 6, "done": 6 - longer, "skipped": longer, "failed": 0}
    for record, whole in zip(found, everything, strict=True):
        assert record["tokens"] == whole["tokens"]
        assert (record["status"] == "skipped") == (whole["tokens"] > most)
        if record["status"] == "skipped":
            assert record["reason"] == f"the prompt has {whole['tokens']} tokens, more than --max-tokens {most}"
            assert record["methods"] == {}

    # The last token of an answer is never read, so a window of one less than both is enough, and no less.
    first = everything[0]
    window = first["tokens"] + first["answer_tokens"] - 1
    for positions, status in ((window, "done"), (window - 1, "skipped")):
        small = tiny_model(len(tokenizer), positions)
        out = runner.run(settings(rows, limit=1), tmp_path / str(positions), model=small, tokenizer=tokenizer)
        assert records(out.folder)[0]["status"] == status


def test_faithfulness_is_measured_with_masks_that_no_method_saw(go, rows):
    config = settings(rows, limit=2, methods=("flow", "contextcite:8"), faithfulness=True, masks=12, mask_seed=5)
    for record in records(go(config).folder):
        found = record["faithfulness"]
        assert (found["convention"], found["masks"], found["seed"]) == ("text", 12, 5)
        assert set(found["drops"]) == set(found["lds"]) == {"flow", "contextcite:8"}
        assert all(set(drops) == {"1", "3", "5"} for drops in found["drops"].values())
        assert all(-1 <= value <= 1 for value in found["lds"].values())


def test_drops_and_lds_of_a_model_that_is_a_sum():
    worth = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    asked = []

    def ablate(kept):
        asked.append(kept)
        return kept.double() @ worth - 10

    seen = attributor_masks = torch.tensor([[True, False, True, False]])
    scores = {"right": {"sum": worth.tolist(), "max": [0, 0, 0, 1]}, "wrong": {"segment": (-worth).tolist()}}
    found = faithful(
        scores, ablate, 4, convention="mask", count=10, seed=1, case_id="a", fitted=[seen, attributor_masks]
    )
    assert found["drops"]["right"] == pytest.approx({"1": 3.0, "3": 5.5, "5": 4.5})
    assert found["drops"]["wrong"] == pytest.approx({"1": -1.0, "3": 1.5, "5": 4.5})
    assert found["lds"] == pytest.approx({"right": 1.0, "wrong": -1.0})
    assert len(asked) == 1, "every method shares one call"
    assert not (asked[0][-10:] == seen[0]).all(1).any()
    assert case_seed(1, "a") != case_seed(1, "b")


def test_flows_are_kept_under_names_that_every_file_system_takes(go, tmp_path):
    odd = ["../up", "a/b", "Ä", "case", "CASE", "x" * 300, ".", "a b"]
    file = write_rows(tmp_path / "odd.jsonl", [row(i, id=name) for i, name in enumerate(odd)])
    outcome = go(settings(file, methods=("length", "flow"), save_flows=True))
    files = list((outcome.folder / "flows").iterdir())
    assert len({path.name.lower() for path in files}) == len(odd) == len(files)
    assert all(path.name.isascii() and len(path.name) < 130 for path in files)
    record = records(outcome.folder)[0]
    flow = attributor.load(RunFolder(outcome.folder).flow_file("../up"))
    assert flow.text == record["text"]
    assert [document.label for document in flow.documents] == row(0)["context"]["title"]
    assert flow.by("document").scores.sum(0).tolist() == pytest.approx(
        record["methods"]["flow"]["documents"]["sum"], abs=1e-5
    )


def test_a_flow_that_is_kept_has_the_share_of_its_question(go, rows, model, tmp_path):
    weights = attributor.Weights(torch.full((2, 4), 0.25), question=0.5)
    weights.save(tmp_path / "half.safetensors")
    method = f"flow:{tmp_path / 'half.safetensors'}"
    outcome = go(settings(rows, methods=(method, "flow"), limit=1, save_flows=True))
    record = records(outcome.folder)[0]
    kept = attributor.load(RunFolder(outcome.folder).flow_file(record["id"]))
    assert kept.meta["question"] == "0.5"
    of = {name: found["documents"]["sum"] for name, found in record["methods"].items()}
    assert kept.by("document").scores.sum(0).tolist() == pytest.approx(of[method], abs=1e-5)
    assert of[method] != pytest.approx(of["flow"], abs=1e-3)


def test_what_a_case_has_read_is_let_go_of_at_once(go, rows, monkeypatch):
    kept = []
    force = read.force

    def watched(*args, **options):
        found = force(*args, **options)
        kept.extend(map(weakref.ref, [found] + [part for part in (found.recording, found.cache) if part is not None]))
        return found

    def case(*args, **options):
        record = run_case(*args, **options)
        gc.disable()  # nothing may wait for the collector: a long prompt's recording is large
        return record

    monkeypatch.setattr(read, "force", watched)
    monkeypatch.setattr(runner, "run_case", case)
    try:
        go(settings(rows, limit=2, check_answer=True, methods=("flow", "gradient-x-input", "contextcite:4")))
        assert len(kept) == 7
        assert not [reference for reference in kept if reference() is not None]
    finally:
        gc.enable()


# Runs that end early


class Ends(BaseException):
    """Like a kill: nothing catches it."""


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
def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_numbers(go, rows, tmp_path, monkeypatch, error):
    whole = go(settings(rows), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, error)
        with pytest.raises(type(error)):
            go(settings(rows))
    state = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert state["status"] == ("interrupted" if isinstance(error, KeyboardInterrupt) else "running")
    assert "metrics" not in state
    with (tmp_path / "run" / "cases.jsonl").open("ab") as file:
        file.write(b'{"id": "case-3", "stat')  # what a kill in the middle of a write leaves
    seen = stop_after(monkeypatch, -1, error)
    notes = []
    outcome = go(settings(rows), watcher=Listener(notes))
    assert seen == ["case-3", "case-4", "case-5"]
    assert any("was not finished (22 bytes) and was cut off" in note for note in notes)
    same(outcome, whole)


class Listener:
    """A watcher that keeps what it is told."""

    def __init__(self, notes):
        self.notes, self.stages, self.cases, self.before = notes, [], [], None

    def say(self, text):
        self.notes.append(text)

    def stage(self, text):
        self.stages.append(text)

    def begin(self, total, before):
        self.before = (total, len(before))

    def case(self, record):
        self.cases.append(record["id"])

    def end(self):
        pass


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
import tiny_chat
from attributor.eval import read, runner
from attributor.eval.config import Config
import json
config = Config.from_json(json.loads({config!r}))
whole = runner.run_case
def slow(question, setting, **options):
    {before}
    return whole(question, setting, **options)
runner.run_case = slow
tokenizer = tiny_chat.tokenizer()
runner.run(config, Path({out!r}), model=tiny_chat.model(len(tokenizer)), tokenizer=tokenizer)
"""


def script(config, out, before="pass"):
    text = SCRIPT.format(tests=str(HERE), config=json.dumps(config.to_json()), out=str(out), before=before)
    return textwrap.dedent(text)


def test_kill_9_in_mid_run(go, rows, tmp_path):
    config = settings(rows)
    process = subprocess.Popen([sys.executable, "-c", script(config, tmp_path / "run", "time.sleep(0.2)")])
    cases = tmp_path / "run" / "cases.jsonl"
    deadline = time.monotonic() + 60
    while not (cases.exists() and cases.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = cases.read_bytes().count(b"\n")
    assert 2 <= done < 6
    listener = Listener([])
    outcome = go(config, watcher=listener)
    assert listener.before == (6, done)
    assert len(listener.cases) == 6 - done
    same(outcome, go(config, tmp_path / "whole"))


def test_a_complete_run_is_left_as_it_is(go, rows, monkeypatch):
    config = settings(rows)
    first = go(config)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    stop_after(monkeypatch, 0, AssertionError("a case was run"))
    second = runner.run(config, first.folder)  # no model is given, and none is loaded
    assert second.already
    assert second.run == first.run
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


def test_a_folder_of_another_configuration_is_refused(go, rows, tmp_path):
    outcome = go(settings(rows))
    kept = (outcome.folder / "cases.jsonl").read_bytes()
    with pytest.raises(InputError) as told:
        go(settings(rows, methods=("random",), max_tokens=900))
    assert "methods: flow,max-attention,length,random there, random now" in str(told.value)
    assert "max_tokens: none there, 900 now" in str(told.value)
    assert "limit" not in str(told.value)
    assert "--overwrite" in str(told.value)
    assert (outcome.folder / "cases.jsonl").read_bytes() == kept

    write_rows(tmp_path / "rows.jsonl", [row(i) for i in range(3)])
    here = settings(tmp_path / "rows.jsonl")
    go(here, tmp_path / "here")
    write_rows(tmp_path / "rows.jsonl", [row(i, question="Who?") for i in range(3)])
    with pytest.raises(InputError, match="the rows of the data set are not those of then"):
        go(here, tmp_path / "here")
    again = go(here, tmp_path / "here", overwrite=True)
    assert {record["question"] for record in records(again.folder)} == {"Who?"}


def test_a_folder_that_is_not_a_runs_is_refused_and_left_alone(go, rows, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not the folder of a run"):
            go(settings(rows), tmp_path / "mine", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "mine").iterdir() if path.name != ".lock"] == ["thesis.txt"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot write to the folder"):
        go(settings(rows), tmp_path / "file")


def test_overwriting_keeps_what_is_not_the_runs(go, rows):
    outcome = go(settings(rows, limit=2))
    (outcome.folder / "notes.txt").write_text("mine", encoding="utf-8")
    go(settings(rows, limit=3), overwrite=True)
    assert len(records(outcome.folder)) == 3
    assert (outcome.folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_two_runs_do_not_write_the_same_folder(go, rows, tmp_path):
    first = RunFolder(tmp_path / "run")
    first.open(settings(rows), {})
    with pytest.raises(OutputError, match="being written by another run"):
        go(settings(rows))
    first.close()
    with pytest.raises(InputError, match="rows of the data set"):  # the lock is free; the folder is of other rows
        go(settings(rows))


def test_a_full_disk_loses_nothing_that_was_written(go, rows, tmp_path):
    whole = go(settings(rows), tmp_path / "whole")
    size = (whole.folder / "cases.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))  # Python ignores the signal and sees an OSError
    try:
        with pytest.raises(OutputError, match="Every case before is kept"):
            go(settings(rows))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = (tmp_path / "run" / "cases.jsonl").read_bytes()
    assert left.endswith(b"\n")
    assert 1 <= len(left.splitlines()) < 6
    assert left == (tmp_path / "run" / "cases.jsonl").read_bytes()
    same(go(settings(rows)), whole)


def test_a_line_that_is_damaged_in_the_middle_is_named(go, rows):
    outcome = go(settings(rows))
    lines = (outcome.folder / "cases.jsonl").read_bytes().splitlines(keepends=True)
    (outcome.folder / "cases.jsonl").write_bytes(b"".join([*lines[:2], b"\x00\x00\n", *lines[3:]]))
    with pytest.raises(FileFormatError, match=r"cases\.jsonl: line 3 is no record"):
        go(settings(rows))


# Bad rows


def test_bad_rows_are_recorded_and_the_run_goes_on(go, tmp_path, monkeypatch):
    lost = row(3, supporting_facts={"title": ["Nowhere"], "sent_id": [0]})
    nameless = row(4)
    del nameless["id"]
    file = write_rows(tmp_path / "bad.jsonl", [row(0), "{broken", row(2), lost, nameless, row(2), row(6)])

    def case(question, setting, **options):
        if question.id == "case-2":
            raise MemoryError("no room")
        return run_case(question, setting, **options)

    tracebacks = []
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_case", case)
        outcome = go(settings(file), debug=tracebacks.append)
    assert outcome.failed == 5
    assert outcome.run["counts"] == {"rows": 7, "done": 2, "skipped": 0, "failed": 5}
    found = {record["id"]: record for record in records(outcome.folder)}
    assert list(found)[:3] == ["case-0", "case-2", "case-6"]
    assert found["case-2"]["reason"] == "MemoryError: no room"
    assert "MemoryError: no room" in tracebacks[0]
    reasons = {name: record["reason"] for name, record in found.items() if record["status"] == "failed"}
    assert "broken JSON" in reasons["row 2"]
    assert "Nowhere" in reasons["case-3"]
    assert "row 5" in reasons["row 5"]
    assert "is that of row 3 too" in reasons["case-2 (row 6)"]

    again = go(settings(file))
    assert again.already
    assert again.failed == 5
    retried = go(settings(file), retry_failed=True)
    assert retried.run["counts"] == {"rows": 7, "done": 3, "skipped": 0, "failed": 4}
    assert [record["id"] for record in records(retried.folder)] == list(found)


def test_scores_that_are_no_numbers_fail_their_row_alone(go, rows, monkeypatch):
    from attributor.methods.length import Length

    honest = Length.__call__

    def broken(self, reading):
        scores = honest(self, reading)
        return scores * float("nan") if "Cleo" in reading.question else scores

    monkeypatch.setattr(Length, "__call__", broken)
    outcome = go(settings(rows))
    failed = [record for record in records(outcome.folder) if record["status"] == "failed"]
    assert [record["id"] for record in failed] == ["case-2"]
    assert failed[0]["reason"].startswith("NumericsError: method 'length'")


def test_what_fails_in_every_row_ends_the_run(go, rows, model, tmp_path, tokenizer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_case", lambda *_, **__: (_ for _ in ()).throw(UnsupportedModelError("layer 0")))
        with pytest.raises(UnsupportedModelError):
            go(settings(rows))
    slow = tiny_tokenizer()
    slow.chat_template = "{{ raise_exception('no roles') }}"
    with pytest.raises(InputError, match="refuses these messages"):
        runner.run(settings(rows), tmp_path / "template", model=model, tokenizer=slow)
    notes = []
    plain = tiny_tokenizer(template=None)
    runner.run(settings(rows, limit=1), tmp_path / "plain", model=model, tokenizer=plain, watcher=Listener(notes))
    assert any("no chat template" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "guessed"}, "answer must be one of expected, generated"),
        ({"ablation": "words"}, "ablation must be one of text, mask"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"masks": 1}, "masks must be at least 3"),
        ({"methods": ()}, "no methods"),
        ({"methods": ("flows",)}, "unknown method 'flows'"),
        ({"methods": ("length",), "save_flows": True}, "no method is one"),
        ({"check_answer": True, "verifier": "localhost:80", "verifier_model": "m"}, "must be a base URL"),
        ({"check_answer": True, "verifier": "http://localhost"}, "the name of its model"),
        ({"check_answer": True, "verifier": "http://me:secret@localhost", "verifier_model": "m"}, "must hold no user"),
        ({"verifier": "http://localhost", "verifier_model": "m"}, "has it write none"),
        ({"verifier_model": "m"}, "goes with --verifier"),
        ({"dataset": "squad"}, "unknown data set"),
    ],
)
def test_settings_that_cannot_be_run_are_refused_before_a_model_is_loaded(rows, tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as told:
        runner.run(settings(rows, **changes), tmp_path / "run")
    assert "secret" not in str(told.value)
    assert not (tmp_path / "run" / "run.json").exists()


def test_settings_survive_their_file():
    config = Config(methods=("flow", "random"), limit=3, verifier="http://localhost", verifier_model="m")
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.differences(config) == []
    with pytest.raises(FileFormatError, match="newer"):
        Config.from_json({"colour": "blue"})


# Files


def test_a_line_that_is_torn_is_cut_wherever_it_begins(tmp_path):
    folder = RunFolder(tmp_path)
    for whole, torn in ((b'{"id": "a"}\n', b"x" * 200_000), (b"", b"{"), (b'{"id": "a"}\n' * 3, b"")):
        (tmp_path / "cases.jsonl").write_bytes(whole + torn)
        assert len(folder._repair()) == bool(torn)
        assert (tmp_path / "cases.jsonl").read_bytes() == whole


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


def test_the_first_process_sees_what_the_others_finish(tmp_path):
    follower = Follower(RunFolder(tmp_path), tmp_path / "cases.0.jsonl")
    with CaseWriter(tmp_path / "cases.0.jsonl") as own, CaseWriter(tmp_path / "cases.1.jsonl") as other:
        own.write({"id": "mine"})
        other.write({"id": "theirs"})
        assert [record["id"] for record in follower.new()] == ["theirs"]
        assert follower.new() == []
        os.write(other._handle, b'{"id": "ha')
        assert follower.new() == []
        os.write(other._handle, b'lf"}\n')
        assert [record["id"] for record in follower.new()] == ["half"]
