"""`ask(effects=...)` adds removal effects of cited sentences: values, cost, caches, and citations without one."""

import gc
import json
import logging
import weakref
from dataclasses import replace

import pytest
import tiny_chat
import torch

import attributor
from attributor import Citation, Document, InputError, Weights, ask
from attributor._ask import AskOptions, answer_prompt, needed, recorded_flow, write_answer
from attributor._cite import split_documents
from attributor._effects import api as effects_api
from attributor._effects import gradient_run
from attributor._heads import resolve
from attributor._models import DEFAULT_MODEL, converted_folder, load_model
from attributor._prompt import prompt_from_text, remove_spans

KEEPER = Document("\r\nThe lighthouse stands on the cliff.\r\nThe keeper writes. ", "The light", {"id": 7})
BOATS = "Fishing boats leave before dawn. The harbour has nets."
DOCUMENTS = [KEEPER, BOATS]
QUESTION = "Who keeps the light?"
HALF = Weights.of_heads((2, 4), {(0, 1): 0.5, (1, 3): 0.25}, question=0.5)
ANSWER = "The keeper writes. Fishing boats leave."  # each token lies in one claim


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


@pytest.fixture
def options(model, tokenizer):
    return {"model": model, "tokenizer": tokenizer, "weights": HALF}


@pytest.fixture
def context_reads(monkeypatch):
    """Log the lengths of contexts read again before a backward pass over a suffix; treat every prompt as long."""
    lengths = []
    read = gradient_run._read_context
    monkeypatch.setattr(
        gradient_run, "_read_context", lambda model, reader, ids: lengths.append(len(ids)) or read(model, reader, ids)
    )
    monkeypatch.setattr(effects_api, "SUFFIX_FROM", 1)
    return lengths


def sentences_of(answer):
    """Return the spans in the prompt of the sentences that `cite` ranks, by document and characters."""
    documents = answer.flow.documents
    return {
        (documents[s.document].index, *documents[s.document].source_span(s.start, s.stop)): s
        for s in split_documents(answer.flow.text, documents)
    }


def effects_by_hand(cited, model, **options):
    """Return the effects from the public function, on the ids of the flow."""
    flow = cited.flow
    readable = attributor.Prompt(flow.text, flow.ids[: flow.prompt_length], flow.offsets)
    return attributor.effects(model, flow.ids, list(sentences_of(cited).values()), prompt=readable, **options)


def losses_by_hand(cited, model, tokenizer, rows):
    """Return how much log p of the answer tokens in `rows` falls without each cited sentence, by document and span."""
    prompt, flow = cited.reader.prompt, cited.flow
    answer = flow.ids[flow.prompt_length :]

    def log_prob(ids):
        with torch.no_grad():
            logits = model(torch.cat([ids, answer])[None]).logits[0, len(ids) - 1 : -1].double()
        return float(logits.log_softmax(-1)[torch.arange(len(answer)), answer][rows].sum())

    losses = {}
    for place, sentence in sentences_of(cited).items():
        if place in needed_by_place(cited.citations):
            shorter = remove_spans(tokenizer, prompt, [(sentence.start, sentence.stop)])
            losses[place] = log_prob(prompt.ids) - log_prob(shorter.ids)
    return losses


def needed_by_place(citations):
    return {(c.document, c.start, c.stop): c.needed for c in citations}


def test_without_effects_nothing_is_needed(options):
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, **options)
    assert answer.effects is None
    assert all(citation.needed is None for citation in answer.citations)
    assert "needed" not in str(answer) + json.dumps(answer.to_json())
    assert "effects" not in answer.seconds


def test_needed_is_the_loss_without_the_sentence(options, model, tokenizer):
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=True, **options)
    truth = effects_by_hand(answer, model)
    torch.testing.assert_close(answer.effects.scores, truth.scores, rtol=1e-6, atol=1e-9)
    assert answer.effects.rows == "all"
    places = list(sentences_of(answer))
    assert [(KEEPER.text, BOATS)[d][start:stop] for d, start, stop in places] == [
        "The lighthouse stands on the cliff.", "The keeper writes.", "Fishing boats leave before dawn.",
        "The harbour has nets.",
    ]  # fmt: skip
    losses = losses_by_hand(answer, model, tokenizer, slice(None))
    assert len(losses) > 1
    assert max(map(abs, losses.values())) > 1e-3
    for citations in (answer.citations, *(claim.citations for claim in answer.claims)):
        assert citations
        for place, value in needed_by_place(citations).items():
            assert value == pytest.approx(losses[place], abs=1e-5)
    change = answer.without(1).change
    assert answer.citations[0].needed == pytest.approx(-change, abs=1e-5)
    report = answer.to_json()
    assert json.loads(json.dumps(report)) == report
    assert report["citations"][0]["needed"] == answer.citations[0].needed
    assert f", needed {answer.citations[0].needed:+.1f} nats: " in str(answer)
    assert list(answer.seconds)[-2:] == ["effects", "removals"]


def test_needed_of_claims_adds_up_to_the_whole_answer(options, model, tokenizer):
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects="claims", **options)
    whole = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=True, **options)
    assert len(answer.effects) == len(answer.claims) == 2
    offsets = answer.flow.answer_offsets
    for claim, effects in zip(answer.claims, answer.effects, strict=True):
        tokens = ((offsets[:, 0] < claim.stop) & (offsets[:, 1] > claim.start)).nonzero()[:, 0].tolist()
        span = (tokens[0], tokens[-1] + 1)
        truth = effects_by_hand(answer, model, answer=span)
        torch.testing.assert_close(effects.scores, truth.scores, rtol=1e-6, atol=1e-9)
        losses = losses_by_hand(answer, model, tokenizer, slice(*span))
        assert claim.citations
        for place, value in needed_by_place(claim.citations).items():
            assert value == pytest.approx(losses[place], abs=1e-5)
    total = answer.effects[0].scores + answer.effects[1].scores
    torch.testing.assert_close(total, whole.effects.scores, rtol=1e-4, atol=1e-6)
    assert needed_by_place(answer.citations) == pytest.approx(needed_by_place(whole.citations), rel=1e-4, abs=1e-6)


def test_estimates_of_claims_that_share_tokens_have_no_sum(options, context_reads):
    spans = ["The keeper writes.", "keeper writes. Fishing"]
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, claims=spans, effects="claims", **options)
    assert all(citation.needed is not None for claim in answer.claims for citation in claim.citations)
    assert [citation.needed for citation in answer.citations] == [None] * len(answer.citations)


def test_the_end_token_of_a_generated_answer_does_not_count(options, model, monkeypatch):
    plain = ask(DOCUMENTS, QUESTION, max_new_tokens=5, **options)
    ids = plain.flow.ids[plain.flow.prompt_length :]
    place = next(i for i in range(1, 5) if ids[i] not in ids[:i])
    monkeypatch.setattr(model.generation_config, "eos_token_id", int(ids[place]))
    answer = ask(DOCUMENTS, QUESTION, max_new_tokens=5, effects=True, **options)
    assert len(answer.flow.scores) == place
    truth = effects_by_hand(plain, model, answer=(0, place))
    torch.testing.assert_close(answer.effects.scores, truth.scores, rtol=1e-4, atol=1e-6)
    assert answer.effects.log_prob == pytest.approx(truth.log_prob, abs=1e-5)


@pytest.mark.parametrize("effects", [True, "claims"])
def test_a_long_prompt_is_not_read_again_after_a_generated_answer(options, model, context_reads, effects, monkeypatch):
    caches = []

    def write(*args, **more):
        answer_pass = write_answer(*args, **more)
        caches.append(weakref.ref(answer_pass.cache))
        return answer_pass

    monkeypatch.setattr(recorded_flow, "write_answer", write)
    answer = ask(DOCUMENTS, QUESTION, max_new_tokens=5, effects=effects, **options)
    assert context_reads == []
    gc.collect()
    assert caches[0]() is None, "the cache is released with the answer's recording still there"
    assert answer.recording is not None
    assert any("what was needed is estimated from what question and answer read" in note for note in answer.notes)
    every = (answer.effects,) if effects is True else answer.effects
    assert {one.rows for one in every if one} == {"suffix"}
    truth = effects_by_hand(answer, model, rows="suffix").scores
    if effects is True:
        torch.testing.assert_close(answer.effects.scores, truth, rtol=1e-4, atol=1e-6)
        scores = dict(zip(sentences_of(answer), answer.effects.scores.tolist(), strict=True))
        for place, value in needed_by_place(answer.citations).items():
            assert value == scores[place]


def test_a_long_prompt_with_a_forced_answer_is_read_once_for_all_claims(options, model, context_reads):
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects="claims", **options)
    assert len(context_reads) == 1
    truth = effects_by_hand(answer, model, rows="suffix").scores
    torch.testing.assert_close(sum(one.scores for one in answer.effects), truth, rtol=1e-4, atol=1e-6)


def test_a_short_prompt_keeps_no_cache(options, monkeypatch):
    caches = []

    def write(*args, **more):
        caches.append(more["cache"])
        return write_answer(*args, **more)

    monkeypatch.setattr(recorded_flow, "write_answer", write)
    assert ask(DOCUMENTS, QUESTION, max_new_tokens=3, effects=True, **options).effects.rows == "all"
    assert caches == [False]


@pytest.mark.parametrize("effects", [True, "claims"])
def test_answers_without_claims_or_documents_have_no_effects(options, model, tokenizer, effects):
    empty = ask(DOCUMENTS, QUESTION, answer=tokenizer.eos_token, effects=effects, **options)
    thinking = ask(DOCUMENTS, QUESTION, answer="<think> The keeper", effects=effects, **options)
    plain = prompt_from_text(tokenizer, QUESTION, chat=False)
    bare = replace(plain, documents=())
    weights = resolve("mean", model)
    no_documents = answer_prompt(model, tokenizer, bare, weights, AskOptions(answer="The keeper.", effects=effects))
    assert (empty.effects, no_documents.effects) == (None, None)
    assert (thinking.effects is None) == (effects == "claims"), "no claim, but an answer"
    for answer in (empty, thinking, no_documents):
        assert "needed" not in json.dumps(answer.to_json())


def test_the_cost_of_claims_is_logged_before_they_are_computed(options, caplog, monkeypatch):
    order = []
    compute = needed.effects_of
    monkeypatch.setattr(needed, "effects_of", lambda *a, **o: order.append(len(caplog.messages)) or compute(*a, **o))
    with caplog.at_level(logging.INFO, "attributor"):
        answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects="claims", **options)
    read = len(answer.flow.ids) - 1
    count = len(answer.citations)
    assert caplog.messages == [
        f"effects of 2 claims: 2 backward passes over {read:,} tokens, and {count} forward passes"
    ]
    assert order == [1, 1], "the line stands before the first pass"
    caplog.clear()
    ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=True, **options)
    assert caplog.messages == []
    ask(DOCUMENTS, QUESTION, answer="The keeper", effects="claims", **options)
    assert caplog.messages[0].startswith("effects of 1 claim: 1 backward pass over ")


def test_the_logged_cost_of_a_long_prompt_counts_the_rows_read_again(options, caplog, context_reads):
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects="claims", **options)
    read = len(answer.flow.ids) - 1 - context_reads[0]
    assert caplog.messages == [f"effects of 2 claims: 2 backward passes over {read} tokens"]


@pytest.mark.parametrize(("effects", "passes"), [(True, 1), ("claims", 2)])
def test_progress_counts_the_layers_of_all_passes(options, caplog, effects, passes):
    calls = []
    ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=effects, progress=lambda *call: calls.append(call), **options)
    assert [call for call in calls if call[0] == "effects"] == [
        ("effects", done, 2 * passes) for done in range(2 * passes + 1)
    ]
    removals = [call for call in calls if call[0] == "removals"]
    count = removals[-1][2]
    assert removals == [("removals", 0, count), ("removals", count, count)]
    assert caplog.messages == []


@pytest.mark.parametrize("effects", ["claim", "", None, 1, 0, 2.0, ["claims"]])
def test_unknown_effects_are_refused_before_a_model_is_loaded(effects):
    with pytest.raises(InputError, match="effects must be True, False or 'claims', got "):
        ask(DOCUMENTS, QUESTION, model="no/such-model", effects=effects)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "What may fit: the answer without effects"),
        (attributor.UnsupportedModelError("layers.0 (Int8Linear) has no gradient"), "layers.0 (Int8Linear) has no"),
        (attributor.NumericsError("the gradient is NaN"), "the gradient is NaN"),
    ],
)
def test_the_answer_survives_a_failure_of_its_effects(options, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(needed, "effects_of", fail)
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=True, **options)
    assert answer.effects is None
    assert answer.citations
    assert all(citation.needed is not None for citation in answer.citations), "removals need no gradient"
    (note,) = [note for note in answer.notes if message in note]
    assert note.startswith("what the answer needed is not estimated: ")


def test_the_estimate_survives_a_failure_of_the_removals(options, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(needed.Ablator, "token_log_probs", full)
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=True, **options)
    assert answer.effects is not None
    assert all(citation.needed is None for citation in answer.citations)
    assert any("is not known: out of memory: the prompt of" in note for note in answer.notes)


def test_effects_work_inside_no_grad(options):
    expected = ask(DOCUMENTS, QUESTION, max_new_tokens=3, effects=True, **options).effects.scores
    with torch.inference_mode():
        answer = ask(DOCUMENTS, QUESTION, max_new_tokens=3, effects=True, **options)
    torch.testing.assert_close(answer.effects.scores, expected)


def test_without_computes_no_effects(options):
    answer = ask(DOCUMENTS, QUESTION, answer=ANSWER, effects=True, **options)
    changed = answer.without(1)
    assert changed.citation.needed == answer.citations[0].needed
    assert changed.answer.effects is None


def test_the_effect_of_the_top_sentence_has_the_sign_of_its_removal():
    if converted_folder() is None:
        pytest.skip(f"{DEFAULT_MODEL} is not in the cache")
    documents = [
        "The harbour of Marrowick has a stone pier of 210 metres. Boats leave before dawn.",
        "The lighthouse stands on Gannet Head. It was finished in 1868 and has 164 steps.",
    ]
    model, tokenizer = load_model(DEFAULT_MODEL)
    options = {"model": model, "tokenizer": tokenizer, "weights": "mean", "max_new_tokens": 1, "effects": True}
    for text, place in (("The lighthouse has 164 steps.", 3), ("Boats leave before dawn.", 1)):
        answer = ask(documents, "What do the notes say?", answer=text, **options)
        assert int(answer.effects.scores.abs().argmax()) == place
        (document, start, stop), sentence = list(sentences_of(answer).items())[place]
        cited = Citation(1, document, start, stop, sentence.text, 0.5, None, None, {})
        change = replace(answer, citations=(cited,)).without(cited).change
        assert float(answer.effects.scores[place]) > 0.5
        assert change < -5, "without the sentence the answer is less probable"


def test_a_second_copy_of_a_sentence_lowers_needed_but_not_its_share():
    """Both copies have large shares. If one is removed, the other still supports the answer, so neither is needed."""
    if converted_folder() is None:
        pytest.skip(f"{DEFAULT_MODEL} is not in the cache")
    documents = [
        ("The harbour", "The harbour of Marrowick has a stone pier of 210 metres. Boats leave before dawn."),
        ("The lighthouse", "The lighthouse stands on Gannet Head. It was finished in 1868 and has 164 steps."),
    ]
    model, tokenizer = load_model(DEFAULT_MODEL)
    options = {"model": model, "tokenizer": tokenizer, "effects": True, "answer": "The lighthouse has 164 steps."}
    question = "How many steps does the lighthouse have?"
    alone = ask(documents, question, **options).citations
    twice = ask([*documents, ("A guide", "Visitors of Gannet Head climb 164 steps.")], question, **options).citations
    assert "164 steps" in alone[0].quote
    assert alone[0].needed > 5
    assert [c for c in twice if "164 steps" in c.quote] == list(twice[:2])
    assert twice[0].share + twice[1].share > 0.9 * alone[0].share
    assert max(abs(twice[0].needed), abs(twice[1].needed)) < 0.25 * alone[0].needed
