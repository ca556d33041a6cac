"""Facts of a model that remain without a reference to it."""

from types import SimpleNamespace

import pytest
import torch
from families import tiny

from attributor import InputError, flow, record
from attributor._models.facts import model_facts, window_of


def configured(**fields):
    config = SimpleNamespace(**fields)
    config.get_text_config = lambda decoder: config
    return SimpleNamespace(config=config)


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 256}, 256),
        ({"max_position_embeddings": None, "n_positions": 256}, 256),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": "many"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_window_is_read_from_the_configuration(fields, window):
    assert window_of(configured(**fields)) == window


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_facts_are_those_of_the_configuration(family):
    model = tiny(family)
    facts = model_facts(model)
    config = model.config
    assert facts.shape == (config.num_hidden_layers, config.num_attention_heads)
    assert facts.name == facts.kind == type(model).__name__  # a model made from a configuration has no id
    assert (facts.id, facts.dtype, facts.window) == ("", torch.float32, config.max_position_embeddings)
    assert facts.vocabulary == config.vocab_size
    with record(model) as recording, torch.no_grad():
        model(torch.arange(3, 9)[None])
    layer = recording.layer(0)
    assert (layer.query.shape[2], layer.key.shape[0]) == (facts.head_size, facts.kv_heads)


def test_a_recording_outlives_its_model():
    model, ids = tiny("llama"), torch.arange(3, 30)
    expected = [flow(model, ids, prompt_length=20, weights=name).scores for name in ("mean", "output_norm")]
    with record(model) as recording, torch.no_grad():
        model(ids[None, :-1])
    kept = [recording.flow(ids, prompt_length=20, weights=name).scores for name in ("mean", "output_norm")]
    for got, wanted in zip(kept, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)
    del model
    assert torch.equal(recording.flow(ids, prompt_length=20, weights="mean").scores, kept[0])
    with pytest.raises(InputError, match="'output_norm' are derived from LlamaForCausalLM, which is no longer in mem"):
        recording.flow(ids, prompt_length=20, weights="output_norm")
