"""Compiled models run uncompiled while they are recorded; fullgraph compilation raises an error with the cause."""

import pytest
import torch
from families import VOCABULARY, tiny

from attributor import flow, record

WRITE = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def ids():
    return torch.randint(3, VOCABULARY, (1, 30), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_compiled_models_are_recorded(ids, warm):
    model = tiny("llama")
    expected = flow(model, ids, prompt_length=20).scores
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        logits = compiled(ids).logits if warm else None
        with record(model) as recording:
            compiled(ids)
        torch.testing.assert_close(recording.flow(ids, prompt_length=20).scores, expected, rtol=0, atol=2e-6)
        torch.testing.assert_close(flow(compiled, ids, prompt_length=20).scores, expected, rtol=0, atol=2e-6)
        if logits is not None:
            assert torch.equal(compiled(ids).logits, logits)


def test_compiled_layers_with_a_static_cache_are_recorded(ids):
    model = tiny("llama")
    for layer in model.model.layers:
        layer.compile(backend="eager")
    with record(model) as recording:
        out = model.generate(ids, cache_implementation="static", disable_compile=True, **WRITE)
    expected = flow(tiny("llama"), out, prompt_length=30).scores
    torch.testing.assert_close(recording.flow(out).scores, expected, rtol=0, atol=2e-6)


def test_fullgraph_compilation_is_refused_by_name(ids):
    model = tiny("llama")
    whole = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=r"attributor records attention.*leave out fullgraph=True"), record(model):
        whole(ids)
