"""Models whose weights accelerate offloads between calls, with placeholders on the meta device."""

import copy

import pytest
import torch
from families import VOCABULARY, tiny

import attributor
from attributor._ask import force_answer, write_answer
from attributor._models.facts import device_of
from attributor._models.generation import generate
from attributor._prompt.build import Prompt
from attributor._text.segments import Segment
from attributor.eval.run.write_from_cache import write_from_cache
from attributor.methods import Ablator

accelerate = pytest.importorskip("accelerate")
K, N = 24, 30
IDS = torch.randint(3, VOCABULARY, (N,), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def here():
    return tiny("llama")


@pytest.fixture(scope="module")
def elsewhere(here):
    model = accelerate.cpu_offload(copy.deepcopy(here))
    assert model.get_input_embeddings().weight.device.type == model.device.type == "meta"
    return model


def test_ids_move_to_the_device_of_the_embedding(here, elsewhere):
    assert device_of(here) == device_of(elsewhere) == torch.device("cpu")


@pytest.mark.parametrize("impl", [None, "reference"])
def test_offloaded_weights_give_the_same_flow(here, elsewhere, impl):
    want = attributor.flow(here, IDS, prompt_length=K, impl=impl).scores
    torch.testing.assert_close(attributor.flow(elsewhere, IDS, prompt_length=K, impl=impl).scores, want)


def test_offloaded_weights_give_the_same_answer_and_log_probs(here, elsewhere):
    prompt, answer = IDS[:K], IDS[K:]
    assert torch.equal(generate(elsewhere, prompt, 5), generate(here, prompt, 5))
    want = force_answer(here, prompt, answer, None, log_probs=True)
    got = force_answer(elsewhere, prompt, answer, "mean", log_probs=True, cache=True)
    torch.testing.assert_close(got.log_probs, want.log_probs)
    written = write_from_cache(elsewhere, prompt, 5, got.cache)
    assert torch.equal(written, write_answer(here, prompt, 5, None).answer)


def test_offloaded_weights_give_the_same_masked_log_probs(here, elsewhere):
    offsets = torch.stack([torch.arange(K), torch.arange(K) + 1], dim=1)
    prompt = Prompt(text="x" * K, ids=IDS[:K], offsets=offsets, documents=())
    segments = [Segment(i, i + 6, "xxxxxx") for i in range(0, K, 6)]
    masks = torch.tensor([[True, False, True, True], [False, True, False, True]])
    want, got = (Ablator(m, None, prompt, IDS[K:], segments, "mask")(masks) for m in (here, elsewhere))
    torch.testing.assert_close(got, want)


def test_blocks_preloaded_as_a_whole_give_the_same_flow(here):
    whole_layers = accelerate.cpu_offload(copy.deepcopy(here), preload_module_classes=["LlamaDecoderLayer"])
    want = attributor.flow(here, IDS, prompt_length=K).scores
    torch.testing.assert_close(attributor.flow(whole_layers, IDS, prompt_length=K).scores, want)


@pytest.mark.parametrize("rows", ["all", "suffix"])
@pytest.mark.parametrize("limit", [0, 1 << 40])
def test_offloaded_weights_give_the_same_removal_effects(here, elsewhere, rows, limit, monkeypatch):
    monkeypatch.setattr("attributor._effects.gradient_run.CHECKPOINT_FROM", limit)
    want, got = (
        attributor.effects(model, IDS, [(2, 9), (9, 20)], prompt_length=K, rows=rows) for model in (here, elsewhere)
    )
    torch.testing.assert_close(got.scores, want.scores)
    assert torch.isfinite(got.scores).all()
    assert got.scores.abs().sum() > 0
