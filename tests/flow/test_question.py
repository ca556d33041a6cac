"""The question share of a flow: its start rows, the forms of the question argument, and the results."""

import json
from dataclasses import replace

import pytest
import tiny_chat
import torch
from families import VOCABULARY, tiny
from method_readings import reading_of
from safetensors import safe_open
from safetensors.torch import save_file

from attributor import InputError, RecordingError, Weights, flow, record
from attributor._flow.eager import eager_attentions
from attributor._flow.start_rows import start_rows
from attributor._prompt.build import build_prompt, encode_answer, prompt_from_messages, prompt_from_text
from attributor._prompt.sequence import span_tokens
from attributor.kernels.flow_step.definition import recurrence
from attributor.methods import FlowMethod, Straight, union

N, K = 50, 40
ASKED = torch.tensor([27, 28, 29, 31, 36])
HEADS = torch.tensor([[0.0, 0.3, 0, 0.2], [0] * 4, [0.1, 0.1, 0.1, 0.1], [1.5, 0, 0, 0]])
FAMILIES = ["llama", "mistral", "gemma2"]  # grouped heads; a window; both in alternation, with capped logits
DOCUMENTS = [("The harbour", "Boats leave before dawn."), ("The light", "It stands on the cliff. The keeper writes.")]
QUESTION = "Who keeps the light?"


def ids_of(n=N, seed=1):
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed))


def close(got, expected, budget=2e-6):
    torch.testing.assert_close(got.double(), expected.double(), rtol=0, atol=budget)


def mixed(model, ids, weights, asked, share, k=K, first=None):
    """Return (a, k) float64 from attention matrices: the answer's rows of X_L mixed with the question's mean row."""
    attentions = eager_attentions(model, ids[:-1]).double() ** weights.power
    if weights.sink == "drop":
        attentions[..., 0] = 0
    X = recurrence(attentions, weights.heads.double())
    return ((1 - share) * X[k - 1 if first is None else first :] + share * X[asked].mean(0))[:, :k]


# ---- the rows


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
def test_start_rows_sum_to_one_and_have_the_question_share(share):
    rows = start_rows(torch.tensor([6, 7, 8]), 9, torch.tensor([1, 2, 4]), share)
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.sum(1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(rows[:, [1, 2, 4]], torch.full((3, 3), share / 3).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(rows[:, 6:], (1 - share) * torch.eye(3).double(), rtol=0, atol=1e-7)
    assert (rows > 0).sum() == (3 if share == 0 else 12)


def test_start_rows_without_a_question_are_the_identity():
    assert torch.equal(start_rows(torch.tensor([3, 4]), 5, None, 0.5), torch.eye(5, dtype=torch.float64)[3:])


def test_a_question_may_end_where_the_answer_starts():
    rows = start_rows(torch.tensor([4]), 5, torch.tensor([3, 4]), 0.5)
    assert rows.tolist() == [[0, 0, 0, 0.25, 0.75]]


# ---- the flow


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"power": 2.0}, {"sink": "drop"}], ids=["plain", "power", "no sink"])
def test_the_flow_equals_the_recurrence_with_a_question_share(family, options):
    model, weights = tiny(family), Weights(HEADS, question=0.3, **options)
    expected = mixed(model, ids_of(), weights, ASKED, 0.3)
    without = mixed(model, ids_of(), weights, ASKED, 0.0)
    assert (expected - without).abs().max() > 0.01
    got = flow(model, ids_of(), prompt_length=K, weights=weights, question=ASKED)
    close(got.scores, expected)
    assert got.meta["question"] == "0.3"
    alone = flow(model, ids_of(), prompt_length=K, weights=weights)
    close(alone.scores, without)
    assert alone.meta["question"] == "0"


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_rows_still_sum_to_one(family):
    got = flow(tiny(family), ids_of(), prompt_length=K, weights=Weights("mean", question=0.5), question=ASKED)
    assert got.missing_mass.abs().max() < 1e-6
    exact = flow(
        tiny(family, dtype=torch.float64), ids_of(), prompt_length=K, weights=Weights("mean", question=0.3),
        question=ASKED,
    )  # fmt: skip
    assert exact.missing_mass.abs().max() < 1e-12
    weights, early = Weights(HEADS, sink="drop", question=0.5), torch.tensor([2, 4, 9])  # the window contains the sink
    dropped = flow(tiny(family), ids_of(), prompt_length=K, weights=weights, question=early).missing_mass
    assert dropped.max() > 1e-3
    close(dropped, 1 - mixed(tiny(family), ids_of(), weights, early, 0.5, N, first=K - 1).sum(1))


def test_without_normalization_the_question_grows_by_the_same_factor():
    model, weights = tiny("llama"), Weights("mean", question=0.5)
    plain, raw = (
        flow(model, ids_of(), prompt_length=K, weights=weights, question=ASKED, normalize=on).scores
        for on in (True, False)
    )
    torch.testing.assert_close(raw, 16 * plain)


def test_value_norms_work_with_a_question():
    """A row is linear in its start, so the mixture equals the mixture of rows with a single start."""
    model, ids, last = tiny("llama"), ids_of(), int(ASKED[-1])
    weights = Weights(HEADS / 8, value_norms=True)
    expected = 0.75 * flow(model, ids, prompt_length=K, weights=weights).scores
    expected[:, : last + 1] += 0.25 * flow(model, ids[: last + 1], weights=weights).scores
    got = flow(model, ids, prompt_length=K, weights=replace(weights, question=0.25), question=ASKED[-1:])
    torch.testing.assert_close(got.scores, expected, rtol=1e-5, atol=2e-6)
    assert got.missing_mass is None


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_the_reference_accepts_a_question_for_models_that_cannot_be_recorded(family, monkeypatch):
    model, weights = tiny(family), Weights(HEADS, question=0.5)
    recorded = flow(model, ids_of(), prompt_length=K, weights=weights, question=ASKED)
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    got = flow(model, ids_of(), prompt_length=K, weights=weights, question=ASKED, impl="reference")
    assert got.meta["implementation"] == "reference (eager attentions)"
    assert got.meta["question"] == "0.5"
    close(got.scores, mixed(model, ids_of(), weights, ASKED, 0.5))
    close(got.scores, recorded.scores)
    raw = flow(model, ids_of(), prompt_length=K, weights=weights, question=ASKED, impl="reference", normalize=False)
    torch.testing.assert_close(raw.scores, got.scores * float((1 + HEADS.sum(1)).prod()))


# ---- forms of the question argument


@pytest.fixture(scope="module")
def chat():
    """Return a model, its tokenizer, a prompt with a question, and the ids of prompt and answer."""
    tokenizer = tiny_chat.tokenizer()
    prompt = build_prompt(tokenizer, DOCUMENTS, QUESTION)
    ids = torch.cat([prompt.ids, encode_answer(tokenizer, "The keeper.")])
    return tiny("llama", vocab_size=len(tokenizer)), tokenizer, prompt, ids


def test_text_characters_and_positions_select_the_same_tokens(chat):
    model, tokenizer, prompt, ids = chat
    k, weights = len(prompt.ids), Weights(HEADS, question=0.5)
    at = prompt.text.index(QUESTION)
    inside = [i for i, (a, b) in enumerate(prompt.offsets.tolist()) if a >= at and b <= at + len(QUESTION)]
    assert "".join(prompt.text[a:b] for a, b in prompt.offsets[inside].tolist()) == QUESTION
    expected = mixed(model, ids, weights, inside, 0.5, k)
    for named in (QUESTION, (at, at + len(QUESTION)), torch.tensor(inside), torch.tensor(inside[::-1] + inside)):
        got = flow(model, ids, prompt_length=k, weights=weights, tokenizer=tokenizer, question=named)
        close(got.scores, expected)
    assert span_tokens(prompt.offsets, *prompt.question).tolist() == inside
    close(flow(model, ids, prompt_length=k, weights=weights, question=torch.tensor(inside).int()).scores, expected)
    close(flow(model, ids, prompt_length=k, weights=weights, question=[torch.tensor(inside)]).scores, expected)


def test_a_question_for_each_sequence_or_one_for_all():
    model, weights = tiny("llama"), Weights(HEADS, question=0.5)
    batch = torch.stack([ids_of(seed=1), ids_of(seed=2)])
    other = torch.tensor([3, 9])
    each = flow(model, batch, prompt_length=K, weights=weights, question=[ASKED, other])
    for got, ids, asked in zip(each, batch, (ASKED, other), strict=True):
        close(got.scores, mixed(model, ids, weights, asked, 0.5))
    shared = flow(model, batch, prompt_length=K, weights=weights, question=ASKED)
    close(shared[1].scores, mixed(model, batch[1], weights, ASKED, 0.5))
    some = flow(model, batch, prompt_length=K, weights=weights, question=[ASKED, None])
    close(some[1].scores, mixed(model, batch[1], weights, ASKED, 0.0))
    assert [found.meta["question"] for found in some] == ["0.5", "0"]


def test_positions_of_a_padded_batch_are_counted_without_padding():
    model, weights = tiny("llama"), Weights(HEADS, question=0.5)
    short = ids_of(44, seed=3)
    batch, mask = torch.zeros(2, N, dtype=torch.int64), torch.ones(2, N, dtype=torch.int64)
    batch[0], batch[1, 6:], mask[1, :6] = ids_of(), short, 0
    question = [ASKED, torch.tensor([5, 6])]
    got = flow(model, batch, attention_mask=mask, prompt_length=[K, 30], weights=weights, question=question)
    close(got[1].scores, mixed(model, short, weights, [5, 6], 0.5, 30))


def test_a_recording_takes_the_question_with_each_flow():
    model, weights = tiny("mistral"), Weights(HEADS, question=0.5)
    with record(model, weights=weights) as recording:
        out = model.generate(ids_of(K)[None], max_new_tokens=6, min_new_tokens=6, do_sample=False)
    close(recording.flow(out, question=ASKED).scores, mixed(model, out[0], weights, ASKED, 0.5))
    close(recording.flow(out).scores, mixed(model, out[0], weights, ASKED, 0.0))


TENSORS = {
    "two dimensions": (torch.zeros(1, 2, dtype=torch.int64), r"\(Q,\) token positions, got \(1, 2\)"),
    "floats": (torch.tensor([1.0]), "got .* torch.float32"),
    "complex": (torch.tensor([1j]), "got .* torch.complex64"),
    "a mask": (torch.ones(K, dtype=torch.bool), "got .* torch.bool"),
    "empty": (torch.tensor([], dtype=torch.int64), r"tokens 0 to 39 of the prompt, got \[\]"),
    "negative": (torch.tensor([-1, 3]), r"tokens 0 to 39 of the prompt, got \[-1, 3\]"),
    "in the answer": (torch.tensor([3, K]), r"tokens 0 to 39 of the prompt, got \[3, 40\]"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_invalid_question_positions_are_refused(case):
    given, match = TENSORS[case]
    with pytest.raises(InputError, match=match):
        flow(tiny("llama"), ids_of(), prompt_length=K, weights=Weights(HEADS, question=0.5), question=given)


TEXTS = {
    "not there": ("Who was it?", "^the question is not in the text: .* give its"),
    "twice": ("The ", "^the question is in the text more than once"),
    "past the end": ((5, 100_000), "^the question spans characters 5 to 100000"),
    "empty": ((5, 5), "^the question spans characters 5 to 5"),
    "a number": (7, "^the question must be a Segment, a string or"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_invalid_question_texts_are_refused(chat, case):
    model, tokenizer, prompt, ids = chat
    given, match = TEXTS[case]
    weights = Weights(HEADS, question=0.5)
    with pytest.raises(InputError, match=match.replace("?", ".")):
        flow(model, ids, prompt_length=len(prompt.ids), weights=weights, tokenizer=tokenizer, question=given)


def test_other_invalid_questions_are_refused():
    model, weights = tiny("llama"), Weights(HEADS, question=0.5)
    with pytest.raises(InputError, match=r"question as text needs tokenizer=; or .* positions as a tensor"):
        flow(model, ids_of(), prompt_length=K, weights=weights, question=QUESTION)
    with pytest.raises(InputError, match=r"weights 'mean' take no share from it; .*'retrieval', or Weights\(..., que"):
        flow(model, ids_of(), prompt_length=K, question=ASKED)
    with pytest.raises(InputError, match="3 questions were given for 1 sequence; give one each, or one for all"):
        flow(model, ids_of(), prompt_length=K, weights=weights, question=[ASKED] * 3)
    with pytest.raises(InputError, match=r"^the question of row 1 must be tokens 0 to 39 of the prompt, got \[40\]"):
        flow(model, ids_of().expand(2, -1), prompt_length=K, weights=weights, question=[ASKED, torch.tensor([K])])
    with record(model, weights=HEADS) as recording, torch.no_grad():
        model(ids_of()[None])
    with pytest.raises(InputError, match="weights 'custom' take no share"):
        recording.flow(ids_of(), prompt_length=K, question=ASKED)


# ---- one recording, several flows


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recording_has_flows_of_other_weights(family):
    model, ids = tiny(family), ids_of()
    with record(model, weights=torch.ones(4, 4)) as recording, torch.no_grad():
        model(ids[None])
    for weights in (
        Weights("mean"), Weights(HEADS), Weights(HEADS, power=2.0, sink="drop"), Weights("output_norm"),
        Weights(HEADS, question=0.5),
    ):  # fmt: skip
        asked = ASKED if weights.question else None
        got = recording.flow(ids, prompt_length=K, weights=weights, question=asked)
        expected = flow(model, ids, prompt_length=K, weights=weights, question=asked)
        close(got.scores, expected.scores)
        used = ("weights", "heads_used", "power", "sink", "question", "normalize")
        assert [got.meta[name] for name in used] == [expected.meta[name] for name in used]


def test_weights_that_need_unrecorded_data_are_refused():
    model, ids = tiny("llama"), ids_of()
    with record(model, weights=HEADS) as recording, torch.no_grad():
        model(ids[None])
    with pytest.raises(
        RecordingError, match=r"'mean' need 9 heads that were not recorded, \(layer 0, head 0\) for one"
    ):
        recording.flow(ids, prompt_length=K, weights="mean")
    with pytest.raises(RecordingError, match=r"value norms were not recorded; .*value_norms=True"):
        recording.flow(ids, prompt_length=K, weights=Weights(HEADS, value_norms=True))
    with pytest.raises(InputError, match=r"\(2, 4\) layers x heads"):
        recording.flow(ids, prompt_length=K, weights=torch.ones(2, 4))
    fewer = torch.where(HEADS > 0.15, HEADS, 0)
    close(
        recording.flow(ids, prompt_length=K, weights=fewer).scores,
        flow(model, ids, prompt_length=K, weights=fewer).scores,
    )


# ---- attention of a recording


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"power": 3.0}, {"sink": "drop"}], ids=["plain", "power", "no sink"])
def test_attention_equals_eager_attention(family, options):
    model, ids = tiny(family), ids_of()
    with record(model, weights=torch.ones(4, 4)) as recording, torch.no_grad():
        model(ids[None])
    P = eager_attentions(model, ids).double() ** options.get("power", 1)
    if "sink" in options:
        P[..., 0] = 0
    positions = torch.tensor([0, 44, 44, 17])  # in any order, with repetition
    for layer, heads in ((0, torch.tensor([0.0, 0.5, 0.0, 2.0])), (3, torch.ones(4))):
        expected = torch.einsum("h,hij->ij", heads.double(), P[layer])[positions]
        got = recording.attention(layer, heads, positions, **options)
        assert (got.shape, got.dtype) == ((4, N), torch.float32)
        close(got, expected)


def test_attention_of_a_padded_sequence_equals_eager_attention():
    model, short = tiny("llama"), ids_of(44, seed=3)
    batch, mask = torch.zeros(2, N, dtype=torch.int64), torch.ones(2, N, dtype=torch.int64)
    batch[0], batch[1, 6:], mask[1, :6] = ids_of(), short, 0
    with record(model) as recording, torch.no_grad():
        model(batch, attention_mask=mask)
    got = recording.attention(1, torch.ones(4), torch.tensor([43, 5]), row=1)
    close(got, eager_attentions(model, short)[1].sum(0)[[43, 5]])


def test_unrecorded_or_unsupported_attention_is_refused():
    model = tiny("llama")
    with record(model, weights=HEADS) as recording, torch.no_grad():
        model(ids_of()[None])
    one, last = torch.eye(4), torch.tensor([N - 1])
    recording.attention(0, one[1], last)
    for layer, heads in ((0, one[0]), (0, one[1] + one[2]), (1, one[0]), (9, one[0])):
        with pytest.raises(RecordingError, match=f"of layer {layer} were not all recorded"):
            recording.attention(layer, heads, last)
    with pytest.raises(RecordingError, match=r"value norms were not recorded"):
        recording.attention(0, one[1], last, value_norms=True)
    for heads in (torch.zeros(4), torch.ones(3), torch.ones(1, 4), -one[1], one[1] * torch.nan):
        with pytest.raises(InputError, match=r"heads must be \(4,\) numbers >= 0, not all 0"):
            recording.attention(0, heads, last)
    for positions in (torch.tensor([N]), torch.tensor([-1]), torch.tensor(3)):
        with pytest.raises(InputError, match=r"positions must be \(O,\), each 0 to 49"):
            recording.attention(0, one[1], positions)


# ---- the methods


@pytest.mark.parametrize("asked", [True, False])
def test_methods_start_their_rows_by_the_question_share(chat, asked):
    model, tokenizer, prompt, ids = chat
    k, weights = len(prompt.ids), Weights(HEADS, question=0.3)
    methods = [FlowMethod(weights), Straight(weights)]
    shown = prompt if asked else replace(prompt, question=None)
    reading = reading_of(model, tokenizer, shown, ids[k:], prompt.documents, union(methods, model))
    tokens = span_tokens(prompt.offsets, *prompt.question)
    assert torch.equal(reading.question_tokens, tokens) if asked else reading.question_tokens is None
    share = 0.3 if asked else 0.0
    close(methods[0](reading), mixed(model, ids, weights, tokens, share, k).sum(0), 5e-6)
    straight = torch.einsum("lh,lhij->ij", HEADS.double(), eager_attentions(model, ids[:-1]).double())
    rows = (1 - share) * straight[k - 1 :] + share * straight[tokens].mean(0)
    close(methods[1](reading), rows.sum(0)[:k], 2e-5)


# ---- weights with a share


def test_weights_with_a_question_share_survive_saving(tmp_path):
    path = tmp_path / "w.safetensors"
    Weights(HEADS, question=0.5, note="half").save(path)
    loaded = Weights.load(path)
    assert loaded.question == 0.5
    assert repr(loaded) == "Weights(7 of 4 x 4 heads, question=0.5, 'half')"
    got = flow(tiny("llama"), ids_of(), prompt_length=K, weights=path, question=ASKED)
    close(got.scores, mixed(tiny("llama"), ids_of(), loaded, ASKED, 0.5))


def test_older_weights_files_have_question_share_0(tmp_path):
    path, old = tmp_path / "w.safetensors", tmp_path / "old.safetensors"
    Weights(HEADS, power=2.0).save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    fields = json.loads(metadata["fields"])
    assert fields.pop("question") == 0
    save_file({"heads": HEADS}, old, metadata | {"fields": json.dumps(fields)})
    loaded = Weights.load(old)
    assert (loaded.question, loaded.power) == (0, 2)


@pytest.mark.parametrize("share", [-0.1, 1, 1.0, 2, float("nan"), float("inf"), "half", True, None])
def test_invalid_question_shares_are_refused(share):
    with pytest.raises(InputError, match=r"^question "):
        Weights("mean", question=share)


def test_a_rule_keeps_the_calibrated_question_share_unless_it_sets_one():
    found = Weights(HEADS, question=0.5)
    assert Weights("retrieval").apply_to(found).question == 0.5
    assert Weights("retrieval", question=0.25).apply_to(found).question == 0.25


# ---- place of the question in a prompt


@pytest.mark.parametrize("template", [tiny_chat.TEMPLATE, tiny_chat.TRIMMING, None], ids=["chat", "trimming", "none"])
@pytest.mark.parametrize("system", [None, "  Be brief.\n"])
@pytest.mark.parametrize("instruction", ["", "Simply provide the answer."])
def test_a_prompt_has_the_tokens_of_its_question(template, system, instruction):
    documents = [*DOCUMENTS, ("Notes", f"Somebody asked: {QUESTION} Nobody knew.")]  # repeats the question's text
    tokenizer = tiny_chat.tokenizer(template)
    prompt = build_prompt(tokenizer, documents, f" {QUESTION}\n", system, instruction=instruction)
    start, stop = prompt.question
    assert prompt.text[start:stop] == QUESTION
    assert start == prompt.text.rindex(QUESTION) > prompt.documents[-1].stop
    found = span_tokens(prompt.offsets, start, stop)
    assert tokenizer.decode(prompt.ids[found]).strip() == QUESTION


def test_prompts_from_text_or_messages_have_no_question():
    tokenizer = tiny_chat.tokenizer()
    assert prompt_from_text(tokenizer, QUESTION).question is None
    assert prompt_from_messages(tokenizer, [{"role": "user", "content": QUESTION}]).question is None
