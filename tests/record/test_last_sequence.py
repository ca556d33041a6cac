"""recording.flow() without ids uses the output of the last generate(), also in pipelines and in LangChain's wrapper."""

import pytest
import tiny_chat
import torch
from transformers import pipeline

from attributor import InputError, RecordingError, record

CHAT = [{"role": "user", "content": "The keeper writes. Fishing boats leave. Who writes?"}]
DOCUMENTS = ["The keeper writes.", "Fishing boats leave."]
OPTIONS = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt")["input_ids"]


def expected(model, ids, tokenizer):
    with record(model) as recording:
        out = model.generate(ids, **OPTIONS)
    return recording.flow(out, tokenizer=tokenizer, documents=DOCUMENTS)


def same(flow, other):
    assert torch.equal(flow.ids, other.ids)
    assert flow.answer == other.answer
    torch.testing.assert_close(flow.scores, other.scores, rtol=0, atol=1e-6)


def test_the_default_is_the_output_of_generate(model, tokenizer, ids):
    for options in ({}, {"return_dict_in_generate": True}):
        with record(model) as recording:
            model.generate(ids, **OPTIONS, **options)
        same(recording.flow(tokenizer=tokenizer, documents=DOCUMENTS), expected(model, ids, tokenizer))


def test_the_default_is_the_last_of_several_turns(model, tokenizer, ids):
    with record(model) as recording:
        model.generate(ids[:, :6], **OPTIONS)
        model.generate(ids, **OPTIONS)
    same(recording.flow(tokenizer=tokenizer, documents=DOCUMENTS), expected(model, ids, tokenizer))


def test_several_calls_without_generate_need_the_prompt_length(model, ids):
    with record(model) as recording, torch.no_grad():
        model(ids)
    flow = recording.flow()
    assert torch.equal(flow.ids, ids[0])
    with record(model) as recording, torch.no_grad():
        out = model(ids, use_cache=True)
        model(ids[:, :1], past_key_values=out.past_key_values)
    with pytest.raises(InputError, match="pass prompt_length"):
        recording.flow()
    assert torch.equal(recording.flow(prompt_length=ids.shape[1]).ids, torch.cat([ids[0], ids[0, :1]]))


def test_embeddings_without_ids_are_refused(model, ids):
    with record(model) as recording, torch.no_grad():
        model(inputs_embeds=torch.randn(1, 4, model.config.hidden_size))
    with pytest.raises(RecordingError, match="was given embeddings"):
        recording.flow()


def test_the_default_works_inside_a_pipeline(model, tokenizer, ids):
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    with record(model) as recording:
        text = generator(CHAT, **OPTIONS)[0]["generated_text"][-1]["content"]
    flow = recording.flow(tokenizer=tokenizer, documents=DOCUMENTS)
    assert flow.answer.strip() == text.strip()
    same(flow, expected(model, ids, tokenizer))
    assert {citation.document for citation in flow.cite().citations} <= {0, 1}


def test_the_default_works_inside_the_wrapper_of_langchain(model, tokenizer):
    wrapper = pytest.importorskip("langchain_huggingface", reason="langchain-huggingface is not installed")
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer, **OPTIONS)
    chain = wrapper.HuggingFacePipeline(pipeline=generator)
    prompt = f"{' '.join(DOCUMENTS)} Who writes?"
    with record(model) as recording:
        text = chain.invoke(prompt)
    flow = recording.flow(tokenizer=tokenizer, documents=DOCUMENTS)
    assert text.endswith(flow.answer)
    assert flow.cite().text == flow.answer
