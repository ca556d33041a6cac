"""ask() takes documents and a question and returns an answer, its flow and notes; also its parts."""

import pytest
import tiny_chat
import torch

from attributor import DeviceMemoryError, InputError, RecordingError, Weights, flow
from attributor._ask import (
    MAX_NEW_TOKENS,
    AskOptions,
    Hints,
    StageClock,
    WriteOptions,
    answer_prompt,
    ask,
    cut_off_note,
    fit_answer,
    follow,
    force_answer,
    question_notes,
    read_and_follow,
    recorded_flow,
    write_answer,
)
from attributor._ask import api as asking
from attributor._heads import resolve
from attributor._prompt import build_prompt, encode_answer, prompt_from_messages, prompt_from_text, span_tokens

DOCUMENTS = [
    ("The light", "The lighthouse stands on the cliff. The keeper writes."),
    "Fishing boats leave before dawn.",
]
QUESTION = "Who keeps the light?"
HALF = Weights.of_heads((2, 4), {(0, 1): 0.5, (1, 3): 0.25}, question=0.5)
CUT_OFF = "the answer was cut off after 5 tokens; max_new_tokens=N allows more"


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


def by_hand(model, answer, question=None, weights="mean"):
    """Return the flow of the same ids from the public function."""
    found = answer.flow
    return flow(model, found.ids, prompt_length=found.prompt_length, weights=weights, question=question).scores


@pytest.mark.parametrize("weights", ["mean", HALF], ids=["mean", "half"])
def test_a_generated_answer_equals_generate_and_flow(model, tokenizer, weights):
    answer = ask(DOCUMENTS, QUESTION, model=model, tokenizer=tokenizer, weights=weights, max_new_tokens=5)
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION)
    k = len(prompt.ids)
    written = model.generate(prompt.ids[None], max_new_tokens=5, do_sample=False, pad_token_id=0)[0]
    assert torch.equal(answer.flow.ids, written)
    assert answer.flow.prompt_length == k
    assert answer.flow.answer == tokenizer.decode(written[k:])
    assert answer.flow.text == prompt.text
    assert answer.flow.documents == prompt.documents
    assert [document.label for document in answer.flow.documents] == ["The light", "document 2"]
    assert answer.uses_question == (weights is HALF)
    question = span_tokens(prompt.offsets, *prompt.question) if weights is HALF else None
    torch.testing.assert_close(answer.flow.scores, by_hand(model, answer, question, weights), rtol=0, atol=2e-6)
    if weights is HALF:
        assert (answer.flow.scores - by_hand(model, answer, None, weights)).abs().max() > 1e-3
    assert answer.written
    assert answer.model == "LlamaForCausalLM"
    assert answer.notes == (CUT_OFF,)
    assert list(answer.seconds) == ["load", "tokenize", "prompt", "answer", "sweep", "cite"]
    assert torch.equal(answer.recording.flow(written).scores, answer.flow.scores) == (weights == "mean")


@pytest.mark.parametrize("weights", ["mean", HALF], ids=["mean", "half"])
def test_a_forced_answer_equals_flow_on_its_tokens(model, tokenizer, weights):
    answer = ask(DOCUMENTS, QUESTION, model=model, tokenizer=tokenizer, weights=weights, answer="The keeper.")
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION)
    forced = encode_answer(tokenizer, "The keeper.")
    assert torch.equal(answer.flow.ids, torch.cat([prompt.ids, forced]))
    assert answer.flow.answer == "The keeper."
    assert answer.flow.documents == prompt.documents
    assert answer.uses_question == (weights is HALF)
    question = prompt.question_tokens if weights is HALF else None
    assert torch.equal(answer.flow.scores, by_hand(model, answer, question, weights))
    assert (answer.written, answer.notes, answer.recording) == (False, (), None)
    assert list(answer.seconds) == ["load", "tokenize", "prompt", "sweep", "cite"]


def test_generated_and_forced_answers_have_the_same_flow(model, tokenizer):
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF}
    written = ask(DOCUMENTS, QUESTION, max_new_tokens=5, **options)
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION)
    answer = written.flow.ids[len(prompt.ids) :]
    weights = resolve(HALF, model)
    forced = force_answer(model, prompt.ids, answer, weights)
    sequence = prompt.with_answer(answer, tokenizer)
    again = follow(forced.recorded, sequence, weights, prompt.question_tokens)
    torch.testing.assert_close(again.scores, written.flow.scores, rtol=0, atol=2e-6)


def test_system_and_instruction_are_part_of_the_prompt(model, tokenizer):
    options = {"model": model, "tokenizer": tokenizer, "weights": "mean", "answer": "x"}
    answer = ask(DOCUMENTS, QUESTION, system="The keeper answers.", instruction="Simply.", **options)
    assert (
        answer.flow.text
        == build_prompt(tokenizer, DOCUMENTS, QUESTION, "The keeper answers.", instruction="Simply.").text
    )
    assert "Simply provide" in ask(DOCUMENTS, QUESTION, **options).flow.text


def test_the_default_model_and_retrieval_heads_are_used_by_default(model, tokenizer, monkeypatch):
    names, rules = [], []
    monkeypatch.setattr(asking, "load_model", lambda name: names.append(name) or (model, tokenizer))
    monkeypatch.setattr(asking, "resolve", lambda rule, *_, **__: rules.append(rule) or resolve(HALF, model))
    first = ask(DOCUMENTS, QUESTION, answer="The keeper.")
    second = ask(DOCUMENTS, QUESTION, model="org/other", answer="The keeper.")
    assert names == [asking.DEFAULT_MODEL, "org/other"]
    assert rules == ["retrieval"] * 2
    assert torch.equal(first.flow.scores, second.flow.scores)
    with pytest.raises(InputError, match="pass tokenizer= with model="):
        ask(DOCUMENTS, QUESTION, model=model)


@pytest.mark.parametrize(
    ("documents", "question", "answer", "message"),
    [
        ([""], QUESTION, None, "document 1 is empty"),
        (DOCUMENTS, " ", None, "the question is empty"),
        (DOCUMENTS, QUESTION, " ", "the answer is empty"),
        (["The light. " * 400], QUESTION, None, "more than the model's 1024 positions"),
        (["The light. " * 400], QUESTION, "x", "more than the model's 1024 positions"),
    ],
)
def test_invalid_documents_questions_and_answers_are_refused(model, tokenizer, documents, question, answer, message):
    with pytest.raises(InputError, match=message):
        ask(documents, question, model=model, tokenizer=tokenizer, weights="mean", answer=answer)


def test_progress_goes_to_the_callback_without_the_layers_of_written_tokens(model, tokenizer):
    calls = []
    ask(
        DOCUMENTS,
        QUESTION,
        model=model,
        tokenizer=tokenizer,
        weights="mean",
        max_new_tokens=3,
        progress=lambda *call: calls.append(call),
    )
    answers = [("answer", done, 3) for done in (1, 2, 3)]
    assert calls == [("prompt", 1, 2), ("prompt", 2, 2), *answers, ("sweep", 1, 2), ("sweep", 2, 2)]


def test_prompts_from_messages_and_from_text_are_answered(model, tokenizer):
    weights = resolve(HALF, model)
    note = "these weights begin 50% of each row on the question, and {}; here all of it begins at the answer"
    chat = prompt_from_messages(tokenizer, [{"role": "user", "content": QUESTION}])
    answer = answer_prompt(model, tokenizer, chat, weights, AskOptions(max_new_tokens=5))
    assert not answer.uses_question
    assert answer.notes == (note.format("the prompt does not say where it stands"), CUT_OFF)
    torch.testing.assert_close(answer.flow.scores, by_hand(model, answer, None, HALF), rtol=0, atol=2e-6)
    hints = Hints("only -q says so", "-n allows more")
    plain = prompt_from_text(tokenizer, QUESTION, chat=False)
    answer = answer_prompt(model, tokenizer, plain, weights, AskOptions(max_new_tokens=1, hints=hints))
    assert answer.notes == (note.format("only -q says so"), "the answer was cut off after 1 token; -n allows more")
    assert not answer_prompt(model, tokenizer, plain, resolve("mean", model), AskOptions(answer="x")).notes


def test_an_answer_is_limited_by_the_models_window(tokenizer):
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION)
    k = len(prompt.ids)
    for positions, count in ((k + 3, 3), (k + 1, 1), (k, 1)):
        small = tiny_chat.model(len(tokenizer), positions)
        answer = answer_prompt(small, tokenizer, prompt, resolve("mean", small))
        tokens = f"{count} token{'s' * (count > 1)}"
        assert answer.notes == (
            f"the model has {positions} positions, so the answer was kept to {tokens}",
            f"the answer was cut off after {tokens}; max_new_tokens=N allows more",
        )
        assert len(answer.flow.scores) == count


# ---- the recorded pass


def log_probs_of(model, prompt, answer):
    with torch.no_grad():
        logits = model(torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]


@pytest.mark.parametrize("weights", [None, "mean"])
def test_force_answer_returns_log_probs_and_cache(model, tokenizer, weights):
    prompt, answer = build_prompt(tokenizer, DOCUMENTS, QUESTION).ids, encode_answer(tokenizer, "The keeper.")
    forced = force_answer(model, prompt, answer, weights, log_probs=True, cache=True)
    torch.testing.assert_close(forced.log_probs, log_probs_of(model, prompt, answer), rtol=0, atol=1e-5)
    assert forced.cache.get_seq_length() == len(prompt) + len(answer) - 1
    assert forced.seconds > 0
    assert not forced.cut_off
    assert (forced.recording is None) == (weights is None)
    bare = force_answer(model, prompt, answer, weights)
    assert (bare.log_probs, bare.cache) == (None, None)
    with pytest.raises(InputError, match="no tokens"):
        force_answer(model, prompt, answer[:0], weights)
    if weights is None:
        with pytest.raises(RecordingError, match="without recording"):
            bare.recorded  # noqa: B018


@pytest.mark.parametrize("weights", [None, "mean"])
def test_write_answer_returns_log_probs_and_cache(model, tokenizer, weights, monkeypatch):
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION).ids
    free = write_answer(model, prompt, 5, weights, log_probs=True, cache=True)
    assert free.cut_off
    assert free.cache.get_seq_length() == len(prompt) + 4, "the last token is not read"
    assert write_answer(model, prompt, 1, weights).cache is None
    torch.testing.assert_close(free.log_probs, log_probs_of(model, prompt, free.answer), rtol=0, atol=1e-5)
    place = next(i for i in range(1, 5) if free.answer[i] not in free.answer[:i])
    monkeypatch.setattr(model.generation_config, "eos_token_id", int(free.answer[place]))
    for keep_end, length in ((False, place), (True, place + 1)):
        ended = write_answer(model, prompt, 5, weights, log_probs=True, keep_end=keep_end)
        assert torch.equal(ended.answer, free.answer[:length])
        torch.testing.assert_close(ended.log_probs, free.log_probs[:length], rtol=0, atol=1e-5)
        assert not ended.cut_off
    monkeypatch.setattr(model.generation_config, "eos_token_id", int(free.answer[0]))
    assert torch.equal(write_answer(model, prompt, 5, weights).answer, free.answer[:1]), "all of the answer"


@pytest.mark.parametrize("answer", [WriteOptions(4), torch.tensor([5, 9, 9])], ids=["written", "forced"])
def test_heads_that_are_recorded_only_do_not_change_the_flow(model, tokenizer, answer):
    prompt, weights = build_prompt(tokenizer, DOCUMENTS, QUESTION), resolve(HALF, model)
    alone, sequence, found = read_and_follow(model, tokenizer, prompt, answer, weights)
    every, _, same = read_and_follow(model, tokenizer, prompt, answer, weights, recorded=resolve("mean", model))
    assert torch.equal(found.scores, same.scores)
    assert torch.equal(sequence.ids, found.ids)
    assert (alone.recorded.weights.count, every.recorded.weights.count) == (2, 8)
    assert every.recorded._recorder.progress is None


@pytest.mark.parametrize("answer", [WriteOptions(4), torch.tensor([5, 9, 9])], ids=["written", "forced"])
@pytest.mark.parametrize("step", ["read", "follow"])
def test_out_of_memory_errors_say_what_was_needed(model, tokenizer, monkeypatch, answer, step):
    def full(*_, **__):
        raise MemoryError

    names = ("force_answer", "write_answer") if step == "read" else ("follow",)
    for name in names:
        monkeypatch.setattr(recorded_flow, name, full)
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION)
    count = answer.count if isinstance(answer, WriteOptions) else len(answer)
    with pytest.raises(DeviceMemoryError, match=f"keys of 2 heads for {len(prompt.ids) + count} tokens take"):
        read_and_follow(model, tokenizer, prompt, answer, resolve(HALF, model))


# ---- notes and the clock


def test_notes_about_question_and_cut_off_answer(model):
    half, mean = resolve(HALF, model), resolve("mean", model)
    assert question_notes(half, None, "its place is unknown", " (mark it)") == [
        "these weights begin 50% of each row on the question, and its place is unknown; here all of it begins at the "
        "answer (mark it)"
    ]
    assert question_notes(half, torch.tensor([3]), "x") == question_notes(mean, None, "x") == []
    assert cut_off_note(1) == "the answer was cut off after 1 token"
    assert cut_off_note(1200, "-n allows more") == "the answer was cut off after 1,200 tokens; -n allows more"
    assert fit_answer(90, 10, 100, "full") == fit_answer(90, 10, None, "full") == (10, [])
    assert fit_answer(90, 11, 100, "full") == (10, ["full, so the answer was kept to 10 tokens"])
    assert fit_answer(100, MAX_NEW_TOKENS, 100, "full") == (1, ["full, so the answer was kept to 1 token"])


def test_the_clock_adds_up_the_time_of_a_stage(monkeypatch):
    times = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    calls = []
    clock = StageClock(lambda *call: calls.append(call))
    clock.begin("load")
    clock("prompt", 1, 2)
    clock("answer", 1, 9)
    clock("prompt", 2, 2)
    clock("sweep", 1, 1)
    clock.begin("load")
    clock.finish()
    clock.finish()
    assert clock.seconds == {"load": 2, "prompt": 1, "answer": 1, "sweep": 1}
    assert calls == [("prompt", 1, 2), ("answer", 1, 9), ("sweep", 1, 1)]
    assert StageClock.of(clock) is clock
    assert StageClock.of(None).seconds == {}
