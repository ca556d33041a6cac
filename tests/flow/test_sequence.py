"""A Sequence holds a prompt and its answer: ids, text, spans and documents."""

import pytest
import torch
from tiny_chat import model as chat_model
from tiny_chat import tokenizer as chat_tokenizer

from attributor import InputError, RecordingError, flow, record
from attributor._flow.api import flow_of
from attributor._heads.resolution import resolve
from attributor._prompt.build import build_prompt, encode_answer
from attributor._prompt.sequence import TokenSequence


@pytest.fixture(scope="module")
def chat():
    """Return a tokenizer whose decoding changes the text (a blank before the first word), and its model."""
    tokenizer = chat_tokenizer(metaspace=True)
    return chat_model(len(tokenizer)), tokenizer


@pytest.fixture(scope="module")
def answered(chat):
    tokenizer = chat[1]
    prompt = build_prompt(tokenizer, [("Harbour", "The harbour of the island."), "The keeper writes."], "Who keeps?")
    return prompt, prompt.with_answer(encode_answer(tokenizer, "The keeper"), tokenizer)


def test_a_sequence_of_ids_has_no_text():
    sequence = TokenSequence.of(torch.arange(7), 5)
    assert (sequence.text, sequence.offsets, sequence.answer, sequence.documents) == (None, None, None, ())
    assert sequence.read_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert sequence.positions.tolist() == [4, 5]
    alone = TokenSequence.of(torch.arange(5), 5)
    assert (alone.read_ids.numel(), alone.positions.tolist()) == (5, [4])


def test_a_document_that_is_not_in_the_text_is_reported(chat):
    ids = encode_answer(chat[1], "The harbour of the island")
    assert TokenSequence.of(ids, 3, chat[1], ["harbour"]).documents[0].text == "harbour"
    with pytest.raises(InputError, match="document 1 is not in the prompt's text: 'lighthouse'"):
        TokenSequence.of(ids, 3, chat[1], ["lighthouse"])


def test_an_answered_prompt_keeps_its_own_text_and_spans(answered):
    prompt, sequence = answered
    assert (sequence.text, sequence.documents, sequence.answer) == (prompt.text, prompt.documents, "The keeper")
    assert torch.equal(sequence.offsets, prompt.offsets)
    assert len(sequence.answer_offsets) == sequence.ids.numel() - sequence.prompt_length


def test_a_flow_has_the_text_of_its_sequence(chat, answered):
    model, (prompt, sequence) = chat[0], answered
    got = flow_of(model, sequence, resolve("mean", model))
    expected = flow(model, sequence.ids, prompt_length=sequence.prompt_length)
    assert torch.equal(got.scores, expected.scores)
    assert torch.equal(got.missing_mass, expected.missing_mass)
    assert (got.text, got.documents, got.answer, got.normalized) == (prompt.text, prompt.documents, "The keeper", True)


def test_a_recording_has_the_flow_of_a_sequence_that_it_read(chat, answered):
    model, (_, sequence) = chat[0], answered
    with record(model) as recording, torch.no_grad():
        model(sequence.read_ids[None])
    got = recording.flow_of(sequence)
    torch.testing.assert_close(got.scores, flow_of(model, sequence, resolve("mean", model)).scores, rtol=0, atol=2e-6)
    assert got.text == sequence.text
    other = TokenSequence(sequence.ids.flip(0), sequence.prompt_length)
    with pytest.raises(RecordingError, match="not what the model read"):
        recording.flow_of(other)
    with pytest.raises(RecordingError, match="the last token was not read"):
        recording.flow_of(TokenSequence(sequence.ids, sequence.ids.numel()))
