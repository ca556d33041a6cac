"""`prompt=` takes the result of build_prompt instead of documents, question and prompt_length."""

import pytest
import tiny_chat
import torch

from attributor import InputError, Weights, build_prompt, flow, record

DOCUMENTS = [("The light", "The lighthouse stands.\r\nThe keeper writes."), "Fishing boats leave before dawn."]
HALF = Weights.of_heads((2, 4), {(0, 1): 0.5, (1, 3): 0.25}, question=0.5)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


@pytest.fixture(scope="module")
def prompt(tokenizer):
    return build_prompt(tokenizer, DOCUMENTS, "Who keeps the light?")


@pytest.fixture(scope="module")
def ids(model, prompt):
    return model.generate(prompt.ids[None], max_new_tokens=6, do_sample=False, pad_token_id=0)[0]


@pytest.mark.parametrize("weights", ["mean", HALF], ids=["mean", "half"])
def test_a_prompt_sets_text_documents_question_and_length(model, tokenizer, prompt, ids, weights):
    by_prompt = flow(model, ids, prompt=prompt, tokenizer=tokenizer, weights=weights)
    question = prompt.question_tokens if weights is HALF else None
    by_hand = flow(model, ids, prompt_length=len(prompt.ids), weights=weights, question=question)
    assert torch.equal(by_prompt.scores, by_hand.scores)
    assert (by_prompt.question_scores is None) == (weights == "mean")
    assert (by_prompt.text, by_prompt.documents) == (prompt.text, prompt.documents)
    assert by_prompt.answer == tokenizer.decode(ids[len(prompt.ids) :])
    for citation in by_prompt.cite().citations:
        text = DOCUMENTS[citation.document]
        text = text if isinstance(text, str) else text[1]
        assert text[citation.start : citation.stop] == citation.quote


def test_a_recording_accepts_a_prompt_without_ids(model, tokenizer, prompt):
    with record(model, weights=HALF) as recording:
        out = model.generate(prompt.ids[None], max_new_tokens=6, do_sample=False, pad_token_id=0)
    flows = [recording.flow(*given, prompt=prompt, tokenizer=tokenizer) for given in ((out,), ())]
    assert torch.equal(flows[0].scores, flows[1].scores)
    assert flows[0].answer == flows[1].answer == tokenizer.decode(out[0, len(prompt.ids) :])
    again = flow(model, out, prompt=prompt, tokenizer=tokenizer, weights=HALF)
    torch.testing.assert_close(flows[0].scores, again.scores, rtol=0, atol=2e-6)


def test_each_row_can_have_its_own_prompt(model, tokenizer, prompt):
    other = build_prompt(tokenizer, ["The harbour has nets."], "Who?")
    rows = [torch.cat([one.ids, torch.tensor([5, 6, 7])]) for one in (prompt, other)]
    n = max(map(len, rows))
    batch = torch.zeros(2, n, dtype=torch.long)
    mask = torch.zeros(2, n, dtype=torch.long)
    for i, row in enumerate(rows):
        batch[i, n - len(row) :], mask[i, n - len(row) :] = row, 1
    flows = flow(model, batch, attention_mask=mask, prompt=[prompt, other], weights=HALF, tokenizer=tokenizer)
    for one, row, of_row in zip((prompt, other), rows, flows, strict=True):
        alone = flow(model, row, prompt=one, weights=HALF, tokenizer=tokenizer)
        torch.testing.assert_close(of_row.scores, alone.scores, rtol=0, atol=2e-6)
        assert of_row.documents == one.documents


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_length": 3}, "prompt= brings its own prompt_length; leave prompt_length= out"),
        ({"documents": ["x"]}, "prompt= brings its own documents"),
        ({"question": "x"}, "prompt= brings its own question"),
        ({"prompt": "text"}, "prompt must be what build_prompt returned, got 'text'"),
        ({"prompt": ["one", "two"]}, "prompt must be what build_prompt returned"),
    ],
)
def test_conflicting_arguments_are_refused(model, tokenizer, prompt, ids, options, message):
    with pytest.raises(InputError, match=message):
        flow(model, ids, **({"prompt": prompt, "tokenizer": tokenizer, "weights": HALF} | options))


def test_ids_that_differ_from_the_prompt_are_refused(model, tokenizer, prompt, ids):
    changed = ids.clone()
    changed[4] += 1
    with pytest.raises(InputError, match="they differ at token 4"):
        flow(model, changed, prompt=prompt, tokenizer=tokenizer)
    with pytest.raises(InputError, match="they differ at token 3"):
        flow(model, ids[:3], prompt=prompt, tokenizer=tokenizer)
    with pytest.raises(InputError, match="2 prompts were given for 1 sequences"):
        flow(model, ids, prompt=[prompt, prompt], tokenizer=tokenizer)
