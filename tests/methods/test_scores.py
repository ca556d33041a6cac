"""Scores of tokens are aggregated to segments and documents."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from families import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from method_readings import read

import attributor
from attributor import InputError, NumericsError
from attributor._effects import EffectsTask, SegmentTokens, effects_of
from attributor.methods import GradientXInput, Length, MeanAttention, parse, score
from attributor.methods._score import AGGREGATIONS, aggregate


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(-5, 5)), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_aggregations_equal_their_definitions(tokens):
    owner = np.array([o for o, _ in tokens], dtype=np.int64)
    values = np.array([v for _, v in tokens], dtype=np.float64)
    got = aggregate(values, owner, 4)
    assert tuple(got) == AGGREGATIONS
    for o in range(4):
        own = sorted((v for p, v in tokens if p == o), reverse=True)
        expected = (sum(own), sum(own) / len(own), sum(own[:5]), own[0]) if own else (0, 0, 0, 0)
        assert [float(got[name][o]) for name in AGGREGATIONS] == pytest.approx(expected, abs=1e-12)


def test_a_score_by_tokens_has_four_aggregations_of_segments_and_documents():
    model, method = tiny("llama"), MeanAttention()
    reading = read(model, [method])
    tokens = method(reading)
    got = score(method, reading)
    assert (got.name, got.reads, got.passes) == ("mean-attention", True, 0)
    assert got.seconds > 0
    segment = tokens[7:11]  # the second segment: characters 28 to 43
    expected = {"sum": segment.sum(), "mean": segment.mean(), "top5": segment.sum(), "max": segment.max()}
    for name, value in expected.items():
        assert got.segments[name].dtype == torch.float64
        assert float(got.segments[name][1]) == pytest.approx(float(value))
    document = tokens[19:35]  # the second document with its title: characters 76 to 140
    assert float(got.documents["sum"][1]) == pytest.approx(float(document.sum()))
    assert float(got.documents["top5"][1]) == pytest.approx(float(document.topk(5).values.sum()))
    assert {len(values) for values in got.segments.values()} == {6}


def test_a_score_by_segments_has_one_aggregation_which_documents_sum():
    got = score(Length(), read(tiny("llama"), []))
    assert {name: values.tolist() for name, values in got.segments.items()} == {"segment": [4.0] * 6}
    assert {name: values.tolist() for name, values in got.documents.items()} == {"segment": [12.0, 12.0]}
    assert not got.reads


def test_a_gradient_counts_as_a_pass():
    got = score(GradientXInput(), read(tiny("llama"), []))
    assert (got.passes, got.reads) == (1, False)


def log_probs_of_sets(kept):
    """Return (M,) log-probabilities: the first segment is worth 2 nats and each other one 0.5."""
    return -10 + kept.double() @ torch.tensor([2.0, *[0.5] * (kept.shape[1] - 1)]).double()


@pytest.mark.parametrize(("variant", "rows", "removals"), [("", "all", 0), (":suffix", "suffix", 0), (":4", "all", 4)])
def test_removal_gradient_equals_effects(variant, rows, removals):
    model = tiny("llama")
    reading = read(model, [], ablate=log_probs_of_sets)
    got = score(parse(f"removal-gradient{variant}")[0], reading).segments["segment"]
    places = [(reading.segment_of == s).nonzero() for s in range(6)]
    spans = [(int(place[0]), int(place[-1]) + 1) for place in places]
    k = len(reading.prompt.ids)
    task = EffectsTask(reading.ids, k, SegmentTokens.of_spans(spans, k), rows=rows)
    expected = effects_of(model, task, ablations=removals, ablate=log_probs_of_sets).scores
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    plain = attributor.effects(model, reading.ids, spans, prompt_length=k, rows=rows).scores
    assert torch.allclose(got, plain, rtol=1e-9, atol=1e-12) == (removals == 0)


def test_variants_of_a_gradient_share_one_pass():
    """One pass serves all variants, each is charged for it in any order; scores equal those of separate readings."""
    specs = [
        "gradient-x-input:signed",
        "gradient-x-input",
        "removal-gradient:2",
        "removal-gradient",
        "removal-gradient:suffix",
    ]
    model = tiny("llama")
    for order in (specs, specs[::-1]):
        reading = read(model, [], ablate=log_probs_of_sets)
        calls = Mock(return_value=None)
        hook = model.model.embed_tokens.register_forward_hook(calls)
        shared = {method.name: score(method, reading) for method in parse(order)}
        hook.remove()
        passes = {name: scores.passes for name, scores in shared.items()}
        assert passes == dict(zip(specs, (1, 1, 1 + 2, 1, 1), strict=True))  # plus two removals
        assert calls.call_count == 1 + 1 + 2, "one for each kind of gradient; the suffix reads its context first"
        assert all(scores.seconds > 0 for scores in shared.values())
        for method in parse(order):
            alone = score(method, read(model, [], ablate=log_probs_of_sets))
            for how, values in alone.segments.items():
                assert torch.equal(values, shared[method.name].segments[how])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_scores_are_refused(bad):
    reading = read(tiny("llama"), [])
    method = SimpleNamespace(name="mine", by="segment", reads=False)
    call = type("Mine", (), {"__call__": lambda self, r: torch.tensor([1.0, bad, 0, 0, 0, 0])})()
    call.name, call.by, call.reads = method.name, method.by, method.reads
    with pytest.raises(NumericsError, match="'mine': 1 of 6 scores"):
        score(call, reading)
    call.by = "token"
    with pytest.raises(InputError, match=r"\(41,\) scores by token"):
        score(call, reading)
