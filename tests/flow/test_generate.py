"""Generation is greedy for any settings of the model and prints nothing."""

import copy
from types import SimpleNamespace

import pytest
import torch
from families import VOCABULARY, tiny

from attributor._models.generation import end_token_ids, generate, strip_end_token

PROMPT = torch.randint(3, VOCABULARY, (20,), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def likeliest(model, count):
    """Return (20 + count,) ids: the prompt, then the token with the highest logit at each step."""
    ids = PROMPT
    for _ in range(count):
        ids = torch.cat([ids, model(ids[None]).logits[0, -1].argmax()[None]])
    return ids


def changed(**settings):
    model = copy.deepcopy(tiny("llama"))
    model.generation_config.update(**settings)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": True, "temperature": 5.0, "top_k": 50, "top_p": 0.9},
        {"num_beams": 4},
        {"eos_token_id": None, "pad_token_id": None},
    ],
    ids=["as it is", "sampling", "beams", "no end"],
)
def test_generation_is_greedy(settings):
    model = changed(**settings)
    want = likeliest(model, 6)
    assert not set(want[20:-1].tolist()) & set(end_token_ids(model)), "it would end early, so compare with a cut one"
    torch.testing.assert_close(generate(model, PROMPT, 6)[0], want)


@pytest.mark.parametrize("several", [False, True])
def test_generation_stops_at_an_end_token_without_warnings(capfd, several):
    want = likeliest(tiny("llama"), 6)
    end = int(want[22])
    model = changed(eos_token_id=[1, end] if several else end, pad_token_id=None)
    out = generate(model, PROMPT, 6)[0]
    stop = 20 + want[20:].tolist().index(end) + 1
    torch.testing.assert_close(out, want[:stop])
    assert strip_end_token(model, out[20:])[1]
    assert capfd.readouterr() == ("", "")


def test_generation_returns_more_on_request():
    model = tiny("llama")
    out = generate(model, PROMPT, 3, output_logits=True, return_dict_in_generate=True)
    torch.testing.assert_close(out.sequences[0], likeliest(model, 3))
    assert len(out.logits) == 3


def test_the_end_token_is_stripped_unless_it_is_the_whole_answer():
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[7, 9]))
    for ids, want in (([3, 9], [3]), ([3], [3]), ([9], [9]), ([7, 3], [7, 3]), ([], [])):
        kept, ended = strip_end_token(model, torch.tensor(ids, dtype=torch.int64))
        assert (kept.tolist(), ended) == (want, ids[-1:] == [9])


@pytest.mark.parametrize(("ends", "want"), [(None, []), (2, [2]), ([2, 5], [2, 5]), (torch.tensor([4]), [4])])
def test_end_token_ids_accept_none_one_or_several(ends, want):
    assert end_token_ids(SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ends))) == want
