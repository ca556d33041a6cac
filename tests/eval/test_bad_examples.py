"""Unusable rows are recorded and reported; unusable settings are refused before a model is loaded."""

import json

import pytest
from eval_examples import make_example, write_examples
from eval_runs import ObserverLog, read_records, settings
from tiny_chat import tokenizer as tiny_tokenizer

from attributor import FileFormatError, InputError, UnsupportedModelError
from attributor.eval.config import Config
from attributor.eval.run import runner
from attributor.eval.run.case import run_case


def test_bad_examples_are_recorded_and_the_run_continues(evaluate, tmp_path, monkeypatch):
    lost = make_example(3, supporting_facts={"title": ["Nowhere"], "sent_id": [0]})
    nameless = make_example(4)
    del nameless["id"]
    file = write_examples(
        tmp_path / "bad.jsonl",
        [make_example(0), "{broken", make_example(2), lost, nameless, make_example(2), make_example(6)],
    )

    def case(question, setting, **options):
        if question.id == "case-2":
            raise MemoryError("no room")
        return run_case(question, setting, **options)

    tracebacks = []
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_case", case)
        outcome = evaluate(settings(file), debug=tracebacks.append)
    assert outcome.failed == 5
    assert outcome.run["counts"] == {"rows": 7, "done": 2, "skipped": 0, "failed": 5}
    found = {record["id"]: record for record in read_records(outcome.folder)}
    assert list(found)[:3] == ["case-0", "case-2", "case-6"]
    assert found["case-2"]["reason"] == "MemoryError: no room"
    assert "MemoryError: no room" in tracebacks[0]
    reasons = {name: record["reason"] for name, record in found.items() if record["status"] == "failed"}
    assert "broken JSON" in reasons["row 2"]
    assert "Nowhere" in reasons["case-3"]
    assert "row 5" in reasons["row 5"]
    assert "is that of row 3 too" in reasons["case-2 (row 6)"]

    again = evaluate(settings(file))
    assert again.was_complete
    assert again.failed == 5
    retried = evaluate(settings(file), retry_failed=True)
    assert retried.run["counts"] == {"rows": 7, "done": 3, "skipped": 0, "failed": 4}
    assert [record["id"] for record in read_records(retried.folder)] == list(found)


def test_non_finite_scores_fail_only_their_case(evaluate, examples, monkeypatch):
    from attributor.methods.length import Length

    honest = Length.__call__

    def broken(self, reading):
        scores = honest(self, reading)
        return scores * float("nan") if "Cleo" in reading.question else scores

    monkeypatch.setattr(Length, "__call__", broken)
    outcome = evaluate(settings(examples))
    failed = [record for record in read_records(outcome.folder) if record["status"] == "failed"]
    assert [record["id"] for record in failed] == ["case-2"]
    assert failed[0]["reason"].startswith("NumericsError: method 'length'")


def test_an_error_that_affects_every_case_ends_the_run(evaluate, examples, model, tmp_path, tokenizer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_case", lambda *_, **__: (_ for _ in ()).throw(UnsupportedModelError("layer 0")))
        with pytest.raises(UnsupportedModelError):
            evaluate(settings(examples))
    slow = tiny_tokenizer()
    slow.chat_template = "{{ raise_exception('no roles') }}"
    with pytest.raises(InputError, match="refuses these messages"):
        runner.run_evaluation(settings(examples), tmp_path / "template", model=model, tokenizer=slow)
    notes = []
    plain = tiny_tokenizer(template=None)
    runner.run_evaluation(
        settings(examples, limit=1), tmp_path / "plain", model=model, tokenizer=plain, observer=ObserverLog(notes)
    )
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
def test_unusable_settings_are_refused_before_a_model_is_loaded(examples, tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        runner.run_evaluation(settings(examples, **changes), tmp_path / "run")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run" / "run.json").exists()


def test_settings_round_trip_through_json():
    config = Config(methods=("flow", "random"), limit=3, verifier="http://localhost", verifier_model="m")
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.differences(config) == []
    with pytest.raises(FileFormatError, match="newer"):
        Config.from_json({"colour": "blue"})
