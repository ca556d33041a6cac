"""What a score is made of: tokens to segments and documents."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from method_readings import read

from attributor import InputError, NumericsError
from attributor.methods import GradientXInput, Length, MeanAttention, score
from attributor.methods._score import AGGREGATIONS, aggregate


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(-5, 5)), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_aggregations_are_what_they_are_called(tokens):
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
    document = tokens[19:35]  # the second document, its title too: characters 76 to 140
    assert float(got.documents["sum"][1]) == pytest.approx(float(document.sum()))
    assert float(got.documents["top5"][1]) == pytest.approx(float(document.topk(5).values.sum()))
    assert {len(values) for values in got.segments.values()} == {6}


def test_a_score_by_segments_has_one_and_documents_sum_it():
    got = score(Length(), read(tiny("llama"), []))
    assert {name: values.tolist() for name, values in got.segments.items()} == {"segment": [4.0] * 6}
    assert {name: values.tolist() for name, values in got.documents.items()} == {"segment": [12.0, 12.0]}
    assert not got.reads


def test_a_gradient_counts_its_pass():
    got = score(GradientXInput(), read(tiny("llama"), []))
    assert (got.passes, got.reads) == (1, False)


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
