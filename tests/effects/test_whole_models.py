"""Effects of whole models agree with autograd through a gate on every key, for each supported family."""

import pytest
import torch
from families import RECORDED, VOCABULARY, tiny
from gated_attention import gate_gradient

import attributor
from attributor._effects import SegmentTokens

K, ANSWER = 50, 7
SPANS = [(3, 11), (11, 12), (12, 30), (33, 45)]
IDS = torch.randint(3, VOCABULARY, (K + ANSWER,), generator=torch.Generator().manual_seed(1))


def exact(family, **changes):
    model = tiny(family, **changes).double()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the other implementations refuse float64
    return model


def truth(model, spans, *, k=K, ids=IDS, **options):
    stops = SegmentTokens.of_spans(spans, k).find_stops(len(ids) - 1)
    tokens = gate_gradient(model, ids, k, stops, **options)[:k]
    return torch.stack([tokens[start:stop].sum() for start, stop in spans]), tokens


@pytest.mark.parametrize("family", RECORDED)
def test_agrees_with_a_gate_on_every_key(family):
    model = exact(family)
    scores, tokens = truth(model, SPANS)
    effects = attributor.effects(model, IDS, SPANS, prompt_length=K)
    assert effects.rows == "all"
    assert tokens.abs().max() > 1e-6, "the truth must not be empty"
    torch.testing.assert_close(effects.tokens, tokens, rtol=1e-6, atol=1e-9 * float(tokens.abs().max()))
    torch.testing.assert_close(effects.scores, scores, rtol=1e-6, atol=1e-9 * float(tokens.abs().max()))


@pytest.mark.parametrize("family", RECORDED)
def test_suffix_rows_are_those_of_the_backward_pass_of_everything(family):
    model = exact(family)
    scores, tokens = truth(model, SPANS, start=45)
    effects = attributor.effects(model, IDS, SPANS, prompt_length=K, rows="suffix")
    assert effects.rows == "suffix"
    torch.testing.assert_close(effects.tokens, tokens, rtol=1e-6, atol=1e-9 * float(tokens.abs().max()))
    torch.testing.assert_close(effects.scores, scores, rtol=1e-6, atol=1e-9 * float(tokens.abs().max()))


@pytest.mark.parametrize("rows", ["all", "suffix"])
@pytest.mark.parametrize("spans", [[(0, 50)], [(49, 50)], [(0, 1), (40, 50)]])
def test_a_segment_at_the_end_of_the_prompt_agrees_with_a_gate(spans, rows):
    model = exact("llama")
    scores, _ = truth(model, spans, start=49 if rows == "suffix" else 0)
    effects = attributor.effects(model, IDS, spans, prompt_length=K, rows=rows)
    torch.testing.assert_close(effects.scores, scores, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("rows", ["all", "suffix"])
@pytest.mark.parametrize("answer", [(0, 1), (2, 5), (6, 7)])
def test_effects_on_a_part_of_the_answer(answer, rows):
    model = exact("qwen3")
    scores, _ = truth(model, SPANS, answer=answer, start=45 if rows == "suffix" else 0)
    effects = attributor.effects(model, IDS, SPANS, prompt_length=K, answer=answer, rows=rows)
    torch.testing.assert_close(effects.scores, scores, rtol=1e-6, atol=1e-12)
