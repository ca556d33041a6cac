"""The runner: the record of a case, its forward passes and its memory."""

import gc
import json
import sys
import weakref

import pytest
import torch
from eval_examples import make_example, write_examples
from eval_runs import METHODS, read_records, settings
from families import VOCABULARY, tiny
from tiny_chat import model as tiny_model

import attributor
from attributor._ask import force_answer, write_answer
from attributor._prompt.build import encode_answer
from attributor.eval.config import Config
from attributor.eval.run import case as case_module
from attributor.eval.run import runner
from attributor.eval.run.case import run_case
from attributor.eval.run.faithfulness import case_seed
from attributor.eval.run.faithfulness import measure as faithful
from attributor.eval.run.write_from_cache import write_from_cache
from attributor.eval.store import RunFolder
from attributor.methods.bm25 import score_texts


def test_a_run_over_a_file(evaluate, examples):
    outcome = evaluate(settings(examples, check_answer=True, cost_rows=2))
    found = read_records(outcome.folder)
    assert [record["id"] for record in found] == [f"case-{i}" for i in range(6)]
    assert outcome.run["counts"] == {"rows": 6, "done": 6, "skipped": 0, "failed": 0}
    assert outcome.run["status"] == "done"
    assert outcome.run == json.loads((outcome.folder / "run.json").read_text("utf-8"))
    assert Config.from_json(outcome.run["config"]) == settings(examples, check_answer=True, cost_rows=2)
    for i, record in enumerate(found):
        assert (record["question"], record["expected"]) == (make_example(i)["question"], make_example(i)["answer"])
        assert [record["text"][start:stop] for start, stop, _ in record["segments"]] == [
            sentence.strip() for sentences in make_example(i)["context"]["sentences"] for sentence in sentences
        ]
        assert (record["gold"], record["gold_documents"]) == ([0, 2], [0, 1])
        assert [title for *_, title in record["documents"]] == make_example(i)["context"]["title"]
        assert list(record["methods"]) == list(METHODS)
        assert (record["em"], record["f1"]) != (None, None)
        assert (record["seconds_plain"] is not None) == (i < 2)
        assert record["peak_bytes"] > 10_000_000
    for method in METHODS:
        assert outcome.run["metrics"]["methods"][method]["sentence"]


@pytest.mark.parametrize("end_token", [True, False])
def test_scores_equal_those_of_the_public_functions(evaluate, examples, model, tokenizer, end_token):
    record = read_records(evaluate(settings(examples, limit=1, end_token=end_token)).folder)[0]
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
    """Count a model's forward passes and the positions read by each."""

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


def test_a_generated_answer_is_attributed_without_a_second_pass(evaluate, examples, model, tokenizer):
    with Counting(model) as counted:
        outcome = evaluate(settings(examples, limit=2, answer="generated"))
    found = read_records(outcome.folder)
    first, second = (record["tokens"] for record in found)
    # the first prompt is read once more at the start, untimed; the last generated token is never read
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


def test_the_models_own_answer_is_generated_from_the_cache(evaluate, examples, model, tokenizer):
    with Counting(model) as counted:
        outcome = evaluate(settings(examples, limit=1, check_answer=True))
    record = read_records(outcome.folder)[0]
    k, a = record["tokens"], record["answer_tokens"]
    assert counted.read[:2] == [k + a - 1] * 2  # untimed, then recorded
    assert counted.read[2:] == [1] * 4  # the prompt's last token again, then the generated tokens
    prompt = torch.tensor(tokenizer(record["text"])["input_ids"])
    out = model.generate(prompt[None], max_new_tokens=4, do_sample=False, pad_token_id=0)[0, k:]
    assert record["generated"] == tokenizer.decode(out, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "qwen2", "gpt2", "deepseek_v3", "gpt_oss"])
def test_generation_from_a_cache_equals_generation_without(family):
    """Also with a sliding window, whose cache cannot be cropped and is not used."""
    other = tiny(family)
    ids = torch.randint(3, VOCABULARY, (43,), generator=torch.Generator().manual_seed(3))
    prompt, answer = ids[:40], ids[40:]
    found = force_answer(other, prompt, answer, "mean", log_probs=True, cache=True)
    plain = force_answer(other, prompt, answer, None, log_probs=True)
    torch.testing.assert_close(found.log_probs, plain.log_probs, rtol=0, atol=1e-5)
    flow = found.recording.flow(ids, prompt_length=40).scores
    written = write_from_cache(other, prompt, 6, found.cache)
    assert written.tolist() == write_answer(other, prompt, 6, None).answer.tolist()
    torch.testing.assert_close(flow, found.recording.flow(ids, prompt_length=40).scores, rtol=0, atol=0)


def test_prompts_that_are_too_long_are_skipped_and_counted(evaluate, examples, tokenizer, tmp_path):
    everything = read_records(evaluate(settings(examples)).folder)
    most = sorted(record["tokens"] for record in everything)[2]
    outcome = evaluate(settings(examples, max_tokens=most), tmp_path / "short")
    found = read_records(outcome.folder)
    longer = sum(record["tokens"] > most for record in everything)
    assert longer
    assert outcome.run["counts"] == {"rows": 6, "done": 6 - longer, "skipped": longer, "failed": 0}
    for record, whole in zip(found, everything, strict=True):
        assert record["tokens"] == whole["tokens"]
        assert (record["status"] == "skipped") == (whole["tokens"] > most)
        if record["status"] == "skipped":
            assert record["reason"] == f"the prompt has {whole['tokens']} tokens, more than --max-tokens {most}"
            assert record["methods"] == {}

    # The last token of an answer is never read, so the window needs one position less than both, but no fewer.
    first = everything[0]
    window = first["tokens"] + first["answer_tokens"] - 1
    for positions, status in ((window, "done"), (window - 1, "skipped")):
        small = tiny_model(len(tokenizer), positions)
        out = runner.run_evaluation(
            settings(examples, limit=1), tmp_path / str(positions), model=small, tokenizer=tokenizer
        )
        assert read_records(out.folder)[0]["status"] == status


def test_faithfulness_uses_masks_that_no_method_was_fitted_to(evaluate, examples):
    config = settings(examples, limit=2, methods=("flow", "contextcite:8"), faithfulness=True, masks=12, mask_seed=5)
    for record in read_records(evaluate(config).folder):
        found = record["faithfulness"]
        assert (found["convention"], found["masks"], found["seed"]) == ("text", 12, 5)
        assert set(found["drops"]) == set(found["lds"]) == {"flow", "contextcite:8"}
        assert all(set(drops) == {"1", "3", "5"} for drops in found["drops"].values())
        assert all(-1 <= value <= 1 for value in found["lds"].values())


def test_drops_and_lds_of_an_additive_model():
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


def test_flows_are_saved_under_portable_names(evaluate, tmp_path):
    odd = ["../up", "a/b", "Ä", "case", "CASE", "x" * 300, ".", "a b"]
    file = write_examples(tmp_path / "odd.jsonl", [make_example(i, id=name) for i, name in enumerate(odd)])
    outcome = evaluate(settings(file, methods=("length", "flow"), save_flows=True))
    files = list((outcome.folder / "flows").iterdir())
    assert len({path.name.lower() for path in files}) == len(odd) == len(files)
    assert all(path.name.isascii() and len(path.name) < 130 for path in files)
    record = read_records(outcome.folder)[0]
    flow = attributor.load(RunFolder(outcome.folder).flow_file("../up"))
    assert flow.text == record["text"]
    assert [document.label for document in flow.documents] == make_example(0)["context"]["title"]
    assert flow.by("document").scores.sum(0).tolist() == pytest.approx(
        record["methods"]["flow"]["documents"]["sum"], abs=1e-5
    )


def test_a_saved_flow_has_the_question_share(evaluate, examples, model, tmp_path):
    weights = attributor.Weights(torch.full((2, 4), 0.25), question=0.5)
    weights.save(tmp_path / "half.safetensors")
    method = f"flow:{tmp_path / 'half.safetensors'}"
    outcome = evaluate(settings(examples, methods=(method, "flow"), limit=1, save_flows=True))
    record = read_records(outcome.folder)[0]
    kept = attributor.load(RunFolder(outcome.folder).flow_file(record["id"]))
    assert kept.meta["question"] == "0.5"
    of = {name: found["documents"]["sum"] for name, found in record["methods"].items()}
    assert kept.by("document").scores.sum(0).tolist() == pytest.approx(of[method], abs=1e-5)
    assert of[method] != pytest.approx(of["flow"], abs=1e-3)


def test_a_case_frees_its_recording_at_once(evaluate, examples, monkeypatch):
    kept = []

    def watched(*args, **options):
        found = force_answer(*args, **options)
        kept.extend(map(weakref.ref, [found] + [part for part in (found.recording, found.cache) if part is not None]))
        return found

    def case(*args, **options):
        record = run_case(*args, **options)
        gc.disable()  # the recording of a long prompt is large, so it must not wait for garbage collection
        return record

    monkeypatch.setattr(case_module, "force_answer", watched)
    monkeypatch.setattr(runner, "run_case", case)
    try:
        evaluate(settings(examples, limit=2, check_answer=True, methods=("flow", "gradient-x-input", "contextcite:4")))
        assert len(kept) == 7
        assert not [reference for reference in kept if reference() is not None]
    finally:
        gc.enable()


def test_methods_that_compare_words_score_the_texts_of_the_record(evaluate, examples):
    names = ("bm25", "bm25:title", "answer-string", *(("cite-right",) if sys.version_info >= (3, 11) else ()))
    outcome = evaluate(settings(examples, methods=names, limit=2))
    for record in read_records(outcome.folder):
        texts = [record["text"][start:stop] for start, stop, _ in record["segments"]]
        titles = [record["documents"][document][2] for *_, document in record["segments"]]
        query = f"{record['question']} {record['answer']}"
        scores = {name: fields["scores"]["segment"] for name, fields in record["methods"].items()}
        titled = [f"{title} {text}" for title, text in zip(titles, texts, strict=True)]
        assert scores["bm25"] == pytest.approx(score_texts(query, texts).tolist())
        assert scores["bm25:title"] == pytest.approx(score_texts(query, titled).tolist())
        assert scores["bm25:title"] != pytest.approx(scores["bm25"])
        assert scores["answer-string"] == [float(record["answer"].lower() in text.lower()) for text in texts]
        for name in names:
            assert len(scores[name]) == len(texts)
            assert max(scores[name]) > 0
            assert not record["methods"][name]["reads"]
            assert record["methods"][name]["passes"] == 0
