"""Removal of documents: the measurements of a run, measures by hand, and the report."""

import csv
import io
import json
import math
import re

import pytest
import torch
from eval_runs import ObserverLog, assert_same, read_records
from fake_cases import write_run
from rich.console import Console

from attributor import FileFormatError
from attributor._prompt import build_prompt
from attributor.eval.config import Config
from attributor.eval.data import generate_questions, lengthen
from attributor.eval.metrics import measure_cases, summarize
from attributor.eval.metrics.removals import NEEDED, CaseRemovals, is_too_weak
from attributor.eval.report import build_report, print_report, read_run, write_report
from attributor.eval.report.files import to_csv
from attributor.eval.run import runner
from attributor.eval.run.case import run_case
from attributor.eval.run.removals import fit_length, list_removals, measure_removals

METHODS = ("flow", "removal-gradient", "leave-one-out", "length", "random")
TOKENS = 900  # in tokens of the tiny tokenizer, which are short


def settings(**changes):
    fields = {"methods": METHODS, "max_new_tokens": 4, "check_answer": False, "cost_rows": 0, "rows": 1, **changes}
    return Config(dataset="removal", **{"tokens": TOKENS, **fields})


# The run


@pytest.fixture(scope="module")
def run(model, tokenizer, tmp_path_factory):
    """A run over one row of every kind."""
    out = tmp_path_factory.mktemp("removal") / "run"
    return runner.run_evaluation(settings(), out, model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def records(run):
    return read_records(run.folder)


def test_every_kind_is_run_and_summarized(run, records):
    assert run.run["counts"] == {"rows": 7, "done": 7, "skipped": 0, "failed": 0}
    assert run.run["data"]["name"] == "removal"
    removals = run.run["metrics"]["removals"]
    kinds = [record["kind"] for record in records]
    assert [entry["kind"] for entry in removals["kinds"].values()] == [*kinds, "paraphrase"]
    assert set(removals["methods"]) == set(METHODS)
    for record in records:
        assert record["tokens"] <= TOKENS
        nats = {name: method["nats"] for name, method in record["methods"].items()}
        assert nats == {name: name in ("removal-gradient", "leave-one-out") for name in METHODS}


def test_prompts_are_filled_with_distractors(records, tokenizer):
    questions = {question.id: question for question in generate_questions("removal", rows=1).questions}
    for record in records:
        question = fit_length(questions[record["id"]], tokenizer, settings())
        assert len(question.documents) == len(record["documents"]) > len(questions[record["id"]].documents)
        more = fit_length(questions[record["id"]], tokenizer, settings(tokens=TOKENS + 300))
        assert len(more.documents) > len(question.documents)


def test_removals_equal_prompts_built_without_the_documents(records, model, tokenizer):
    """The expected values come from a new prompt of the remaining documents."""
    for record in (record for record in records if record["kind"] in ("duplicate", "paraphrase")):
        base = next(q for q in generate_questions("removal", rows=1).questions if q.id == record["id"])
        question = fit_length(base, tokenizer, settings())
        documents = [(document.title, "".join(document.pieces)) for document in question.documents]
        answer = tokenizer(question.answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]

        def log_p(removed, question=question, documents=documents, answer=answer):
            stay = [document for d, document in enumerate(documents) if d not in removed]
            prompt = build_prompt(tokenizer, stay, question.text).ids
            ids = torch.cat([prompt, torch.tensor(answer)])
            with torch.no_grad():
                rows = model(ids[None]).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
            return float(rows[torch.arange(len(answer)), answer].sum())

        removals = record["removals"]
        assert removals["convention"] == "text"
        assert removals["planted"] == list(question.planted)
        assert removals["full"] == pytest.approx(log_p([]), abs=1e-4)
        assert record["log_prob"] == pytest.approx(log_p([]), abs=1e-4)
        for removed, value in zip(removals["sets"], removals["log_probs"], strict=True):
            assert value == pytest.approx(log_p(removed), abs=1e-4), removed


def make_question(kind, tokenizer):
    """Return the first row of a kind at full length."""
    return fit_length(generate_questions("removal", rows=1, kinds=[kind]).questions[0], tokenizer, settings())


def test_planted_documents_pairs_of_them_and_distractors_are_removed(tokenizer):
    question = make_question("written", tokenizer)
    distractors, sets = list_removals(question)
    a, b, c = question.planted
    assert distractors == [d for d in range(len(question.documents)) if d not in question.planted]
    assert sets == [[a], [b], [c], [a, b], [a, c], [b, c], *([d] for d in distractors)]


def test_of_many_distractors_eight_are_removed_from_all_over_the_prompt():
    question = lengthen("removal", generate_questions("removal", rows=1, kinds=["single"]).questions[0], 50)
    distractors, _ = list_removals(question)
    others = [d for d in range(51) if d not in question.planted]
    assert [others.index(d) for d in distractors] == [0, 7, 14, 21, 28, 35, 42, 49]


def test_the_model_reads_the_recorded_sets(tokenizer):
    question = make_question("duplicate", tokenizer)
    worth = torch.arange(1.0, len(question.documents) + 1).double()
    measured = measure_removals(question, lambda stays: stays.double() @ worth, convention="text")
    assert measured["full"] == worth.sum()
    assert measured["without_documents"] == 0
    lost = [measured["full"] - value for value in measured["log_probs"]]
    assert lost == [sum(d + 1 for d in removed) for removed in measured["sets"]]


def test_a_written_row_has_the_answer_that_the_model_writes(records, model, tokenizer):
    (record,) = [record for record in records if record["kind"] == "written"]
    assert record["generated"] == record["answer"]
    prompt = torch.tensor(tokenizer(record["text"])["input_ids"])
    out = model.generate(prompt[None], max_new_tokens=4, do_sample=False, pad_token_id=0)[0, len(prompt) :]
    assert record["answer"] == tokenizer.decode(out, skip_special_tokens=True).strip()
    assert all(record["answer"] == record["expected"] for record in records if record["kind"] != "written")


def test_a_row_that_does_not_fit_is_skipped_with_the_option(evaluate):
    outcome = evaluate(settings(kinds=("single",), tokens=100))
    (record,) = read_records(outcome.folder)
    assert record["status"] == "skipped"
    assert record["reason"].endswith("more than --tokens 100")
    assert outcome.run["metrics"]["removals"] is None


def test_a_stopped_run_resumes_with_the_same_numbers(evaluate, run, monkeypatch, tmp_path):
    seen = []

    def case(question, setting, **options):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(question.id)
        return run_case(question, setting, **options)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_case", case)
        with pytest.raises(KeyboardInterrupt):
            evaluate(settings())
    listener = ObserverLog([])
    outcome = evaluate(settings(), observer=listener)
    assert listener.before == (7, 3)
    assert_same(outcome, run)
    assert evaluate(settings()).was_complete


# The measures


def case(drops, scores, planted=(0, 1), gold=(0, 1), kind="duplicate", **changes):
    """Return a record of four documents; `drops` by set, `scores` by method."""
    return {
        "id": f"row-{len(drops)}-{kind}",
        "status": "done",
        "kind": kind,
        "segments": [[0, 1, d] for d in range(4)],
        "documents": [[0, 1, ""] for _ in range(4)],
        "gold": list(gold),
        "gold_documents": list(gold),
        "methods": {
            name: {"scores": {"segment": values}, "documents": {"segment": values}, "nats": name == "nats"}
            for name, values in scores.items()
        },
        "removals": {
            "convention": "text",
            "planted": list(planted),
            "distractors": [2],
            "full": -1.0,
            "sets": [list(removed) for removed in drops],
            "log_probs": [-1.0 - drop for drop in drops.values()],
            "without_documents": -1.0 - 5.0,
        },
        **changes,
    }


DROPS = {(0,): 0.5, (1,): 2.0, (0, 1): 4.0, (2,): -0.5}


def test_measures_equal_values_computed_by_hand():
    scores = {
        "nats": [1.0, 2.5, 0.0, 0.0],
        "wrong": [0.0, 0.0, 1.0, 0.0],
        "unmeasured": [0.0, 1.0, 0.0, 2.0],
        "tied": [3.0, 3.0, 3.0, 3.0],
    }
    arrays = measure_cases([case(DROPS, scores)]).removals
    columns = dict(zip(scores, arrays.scored["first"][0], strict=True))
    assert columns == {"nats": 1.0, "wrong": 0.0, "unmeasured": 0.0, "tied": 0.25}
    # the drops and the sums of "nats" have the ranks 2, 3, 4, 1; the sums of "wrong" have 2, 2, 2, 4
    ranks = dict(zip(scores, arrays.scored["rank"][0], strict=True))
    assert ranks["nats"] == pytest.approx(1)
    assert ranks["wrong"] == pytest.approx(-3 / math.sqrt(3 * 5))
    errors = dict(zip(scores, arrays.scored["error"][0], strict=True))
    assert errors["nats"] == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert math.isnan(errors["wrong"])
    model = {name: float(values[0]) for name, values in arrays.model.items()}
    assert model["planted"] == pytest.approx(1.25)
    assert model["pairs"] == pytest.approx(4)
    assert model["distractors"] == pytest.approx(-0.5)
    assert model["evidence"] == pytest.approx(4)
    assert model["documents"] == pytest.approx(5)
    assert model["counts"] == 1
    assert model["zero"] == pytest.approx(1)
    assert math.isnan(model["says"])


def test_a_row_counts_if_a_drop_reaches_log_2():
    for drop, counts in ((NEEDED + 1e-6, True), (NEEDED - 1e-6, False)):
        removals = CaseRemovals.of(case({(0,): drop, (1,): 0.0}, {}))
        assert (removals.costliest == 0) == counts
    below = case({(0,): 0.6, (1,): 0.0, (0, 1): 9.0}, {"m": [1.0, 0.0, 0.0, 0.0]})
    summary = summarize([below], resamples=10)["removals"]
    assert summary["methods"]["m"]["duplicate"]["first"]["n"] == 0
    assert summary["methods"]["m"]["duplicate"]["rank"]["n"] == 1
    assert summary["kinds"]["duplicate"]["counts"]["value"] == 0


def test_too_weak_is_decided_by_the_rule():
    assert is_too_weak("single", 0.6, 5.0)
    assert not is_too_weak("single", 0.7, 0.0)
    assert is_too_weak("memory", 0.0, 0.7)
    assert not is_too_weak("memory", 9.0, 0.6)
    assert is_too_weak("written", 5.0, 0.6)
    assert not is_too_weak("written", 0.0, 0.7)
    assert not is_too_weak("single", None, None)


def test_written_answers_are_split_by_whether_they_are_right():
    rows = [
        case(DROPS, {"m": [1.0, 0, 0, 0]}, kind=kind, id=str(i), says=says)
        for i, (kind, says) in enumerate([("single", 0), ("written", 0), ("written", 1), ("written", 1), ("memory", 1)])
    ]
    summary = summarize(rows, resamples=10)["removals"]
    assert {group: entry["rows"] for group, entry in summary["kinds"].items()} == {
        "single": 1, "written, right": 2, "written, wrong": 1, "memory": 1,
    }  # fmt: skip
    assert list(summary["kinds"]) == ["single", "written, right", "written, wrong", "memory"]


def test_the_forms_of_a_kind_are_groups_listed_after_the_kinds():
    forms = ("other words", "code names", "other words", "", "")
    kinds = ("paraphrase", "paraphrase", "paraphrase", "single", "written")
    rows = [
        case(DROPS, {}, kind=kind, level=form, id=str(i), says=1)
        for i, (kind, form) in enumerate(zip(kinds, forms, strict=True))
    ]
    summary = summarize(rows, resamples=10)["removals"]
    assert [(group, entry["kind"], entry["rows"]) for group, entry in summary["kinds"].items()] == [
        ("paraphrase", "paraphrase", 3),
        ("single", "single", 1),
        ("written, right", "written", 1),
        ("paraphrase: other words", "paraphrase", 2),
        ("paraphrase: code names", "paraphrase", 1),
    ]


def test_the_distance_to_the_best_method_is_paired():
    rows = [case(DROPS, {"good": [0.0, 9.0, 0, 0], "half": [0.0, 9.0 * (i % 2), 0.5, 0]}, id=str(i)) for i in range(10)]
    scored = summarize(rows, resamples=200)["removals"]["methods"]
    assert scored["good"]["duplicate"]["first"]["value"] == 1
    assert scored["half"]["duplicate"]["first"]["value"] == 0.5
    behind = scored["half"]["duplicate"]["first"]["behind"]
    assert (behind["value"], behind["n"]) == (0.5, 10)
    assert behind["low"] > 0
    assert scored["good"]["duplicate"]["first"]["behind"]["value"] == 0


def test_the_smallest_error_is_the_best():
    rows = [case(DROPS, {"nats": [0.5, 2.0, -0.5, 0]}, id=str(i)) for i in range(3)]
    for row in rows:
        row["methods"]["far"] = {**row["methods"]["nats"], "documents": {"segment": [1.5, 3.0, 0.5, 0.0]}}
    scored = summarize(rows, resamples=10)["removals"]["methods"]
    assert scored["nats"]["duplicate"]["error"]["value"] == pytest.approx(0)
    assert scored["far"]["duplicate"]["error"]["value"] == pytest.approx(1)
    assert scored["far"]["duplicate"]["error"]["behind"]["value"] == pytest.approx(1)


def test_scores_of_only_some_documents_have_no_value():
    arrays = measure_cases([case(DROPS, {"short": [1.0, 2.0], "infinite": [1.0, math.inf, 0, 0]})]).removals
    assert all(math.isnan(value) for values in arrays.scored.values() for value in values[0])


def test_runs_without_removals_have_no_summary_of_them():
    assert summarize([case(DROPS, {}) | {"removals": None}], resamples=10)["removals"] is None


# The report


@pytest.fixture
def folder(tmp_path):
    scores = {"good": [0.0, 9.0, 0, 0], "random": [0.1, 0.2, 0.9, 0.5], "nats": [0.4, 2.2, 0.1, 0.0]}
    rows = [case(DROPS, scores, id=f"d{i}", question="SECRET") for i in range(3)]
    weak = {(0,): 0.1, (1,): 0.0, (0, 1): 0.2, (2,): 0.0}
    rows += [case(weak, scores, id=f"s{i}", kind="single", says=0) for i in range(3)]
    rows += [case(DROPS, scores, id=f"m{i}", kind="memory", says=1) for i in range(3)]
    return write_run(tmp_path / "run", rows, {"dataset": "removal", "rows": 3, "seed": 0, "kinds": ["duplicate"]})


def test_the_report_shows_kinds_methods_and_what_the_model_is_too_weak_for(folder, tmp_path):
    report = build_report([read_run(folder)], resamples=50)
    console = Console(file=io.StringIO(), width=160)
    print_report(console, report)
    shown = " ".join(console.file.getvalue().split())
    for words in (
        "Removal: what the answer loses",
        "Removal: how often the costliest document comes first",
        "Removal: rank correlation",
        "Removal: error in nats",
        "0 for every document",
        "The model is too weak for 'single': without the document with the fact the answer loses 0.20 nats",
        "The model is too weak for 'memory': without any document the answer loses 5.00 nats, 0.69 or more",
        "Costs",
    ):
        assert words in shown, words
    assert "too weak for 'duplicate'" not in shown
    assert "Finding the evidence" not in shown, "those tables are details of such a run"
    files, _ = write_report(report, tmp_path / "report")
    text = {path.name: path.read_text("utf-8") for path in files if path.suffix in (".md", ".html")}
    for content in text.values():
        assert "Removal: what the answer loses" in content
        assert "Finding the evidence" in content
        assert "The costliest document is the one" in content
        assert "SECRET" not in content
    assert re.search(r"\| Method \| duplicate \(3\) \| single\\\* \(0\) \| memory\\\* \(3\) \|", text["report.md"])
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    first = [row for row in rows if (row["method"], row["metric"]) == ("good", "removal:first")]
    assert [(row["stratum"], row["value"], row["n"]) for row in first] == [
        ("kind:duplicate", "1.0", "3"),
        ("kind:memory", "1.0", "3"),
    ]
    assert [row["value"] for row in rows if row["metric"] == "removal:evidence"] == ["4.0", "0.2", "4.0"]
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "removals",
    [
        3,
        {"planted": [0]},
        {"planted": [0], "sets": [[9]], "log_probs": [1.0], "full": 0.0, "without_documents": 0.0},
        {"planted": [0], "sets": [[0]], "log_probs": [], "full": 0.0, "without_documents": 0.0},
        {"planted": [0], "sets": [[0]], "log_probs": ["x"], "full": 0.0, "without_documents": 0.0},
        {"planted": [0], "sets": [0], "log_probs": [1.0], "full": 0.0, "without_documents": 0.0},
    ],
)
def test_damaged_removals_are_named(removals, tmp_path):
    folder = write_run(tmp_path / "damaged", [case(DROPS, {}) | {"removals": removals}], {"dataset": "removal"})
    with pytest.raises(FileFormatError, match="removals must be null or hold planted"):
        read_run(folder)
