"""The ablation methods leave-one-out and ContextCite, and the masks that they draw."""

import math
from types import SimpleNamespace

import pytest
import torch
from ablation_prompts import ANSWER, TOKENIZER, answer_log_prob, make_model, make_prompt, sentences_of
from hypothesis import given, settings
from hypothesis import strategies as st
from method_readings import reading_of

from attributor import InputError, NumericsError
from attributor._ask import AnswerPass
from attributor._text.segments import Segment
from attributor.methods import Ablator, ContextCite, LeaveOneOut, Reading, case_seed, draw_shared_masks, score
from attributor.methods.contextcite import fit_lasso, logit


@pytest.fixture(scope="module")
def model():
    return make_model("llama")


# the methods


def fake(ablate, S=6, log_probs=(-0.5, -0.25), k=20, ids=None):
    """Return a reading without a model, whose ablation results are a function of the masks."""
    ids = torch.arange(k) if ids is None else ids
    prompt = SimpleNamespace(ids=ids, text="x" * 10, documents=())
    segments = [Segment(i, i + 1, "x") for i in range(S)]
    answer = torch.zeros(len(log_probs), dtype=torch.int64)
    answer_pass = AnswerPass(answer, torch.tensor(log_probs, dtype=torch.float64))
    return Reading(None, None, prompt, answer_pass, segments, ablate=ablate)


def test_leave_one_out_is_the_drop_of_the_log_probability():
    weights = torch.tensor([0.0, 1.5, 0.25, 0.0, -0.5, 3.0], dtype=torch.float64)
    reading = fake(lambda kept: -0.75 - (~kept).double() @ weights)
    torch.testing.assert_close(LeaveOneOut()(reading), weights)
    assert reading.passes == 6
    assert LeaveOneOut()(fake(lambda kept: torch.zeros(len(kept)), S=0)).shape == (0,)
    with pytest.raises(InputError, match="give it ablate="):
        LeaveOneOut()(fake(None))


def test_leave_one_out_equals_prompts_without_a_sentence(model):
    prompt = make_prompt()
    segments = sentences_of(prompt)
    ablate = Ablator(model, TOKENIZER, prompt, ANSWER, segments)
    reading = reading_of(model, TOKENIZER, prompt, ANSWER, segments, None, ablate=ablate)
    got = score(LeaveOneOut(), reading)
    full = answer_log_prob(model, prompt.ids)
    expected = [full - answer_log_prob(model, make_prompt(kept=[j != i for j in range(6)]).ids) for i in range(5)]
    assert got.segments["segment"][:5].tolist() == pytest.approx(expected, abs=1e-3)
    assert (got.passes, got.reads) == (6, True)
    assert score(LeaveOneOut(), reading).passes == 0, "known already"


def test_contextcite_finds_planted_effects():
    S = 30
    planted = torch.zeros(S, dtype=torch.float64)
    planted[4], planted[11], planted[25] = 6.0, 3.0, -4.0

    def ablate(kept):  # the logit of p is linear in the kept segments
        return torch.nn.functional.logsigmoid(kept.double() @ planted - 3.0)

    reading = fake(ablate, S)
    got = ContextCite(64)(reading)
    assert reading.passes == 64
    assert got.abs().topk(3).indices.sort().values.tolist() == [4, 11, 25]
    assert got[[4, 11, 25]].tolist() == pytest.approx([6, 3, -4], abs=0.5)
    others = torch.ones(S, dtype=torch.bool)
    others[[4, 11, 25]] = False
    assert got[others].abs().max() < 0.3
    assert int((got[others] == 0).sum()) > 15, "the lasso is sparse"
    assert torch.equal(ContextCite(64)(reading), got)
    assert not torch.equal(ContextCite(64, seed=1)(reading), got)


def test_the_lasso_satisfies_its_optimality_conditions():
    """At the minimum the correlation with the residual is alpha for nonzero coefficients, at most alpha elsewhere."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(40, 12, generator=generator) < 0.5
    masks[:, 5] = True  # a constant column has no information
    targets = torch.rand(40, generator=generator, dtype=torch.float64) + 2.0 * masks[:, 3]
    alpha = 0.05
    w = fit_lasso(masks, targets, alpha)
    X = masks.double()
    deviation = X.std(0, correction=0)
    Z = (X - X.mean(0)) / deviation.where(deviation > 0, 1.0)
    beta = w * deviation
    slope = Z.T @ (targets - targets.mean() - Z @ beta) / 40
    assert w[5] == 0
    assert 0 < int((w != 0).sum()) < 11
    assert bool((slope.abs() <= alpha + 1e-3).all())
    torch.testing.assert_close(slope[w != 0], alpha * w[w != 0].sign(), rtol=0, atol=1e-3)


def test_the_penalty_is_scaled_by_the_number_of_tokens():
    def ablate(kept):
        return torch.nn.functional.logsigmoid(kept.double() @ torch.linspace(-2, 2, 6, dtype=torch.float64))

    one, four = (ContextCite(32)(fake(ablate, log_probs=(-0.1,) * a)) for a in (1, 4))
    design = ContextCite(32).design(fake(ablate))
    targets = logit(ablate(design))
    torch.testing.assert_close(one, fit_lasso(design, targets, 0.01))
    torch.testing.assert_close(four, 4 * fit_lasso(design, targets / 4, 0.01))


def test_contextcite_handles_few_segments_and_a_certain_answer():
    assert ContextCite()(fake(None, S=0)).shape == (0,)
    reading = fake(lambda kept: -kept.double().sum(1), S=2)
    assert ContextCite()(reading).shape == (2,)
    assert reading.passes == 4, "there are four sets of two segments"
    assert ContextCite()(fake(lambda kept: torch.zeros(len(kept), dtype=torch.float64))).tolist() == [0.0] * 6
    with pytest.raises(NumericsError, match="not finite"):
        ContextCite()(fake(lambda kept: torch.full((len(kept),), -math.inf, dtype=torch.float64)))
    with pytest.raises(InputError, match="masks >= 2"):
        ContextCite(1)
    with pytest.raises(InputError, match="alpha"):
        ContextCite(alpha=0.0)


@given(st.floats(-700, -1e-11))
@settings(max_examples=80, deadline=None)
def test_the_logit_is_precise_near_certainty(log_p):
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        p = Decimal(log_p).exp()
        expected = float(Decimal(log_p) - (1 - p).ln())
    assert float(logit(torch.tensor([log_p], dtype=torch.float64))) == pytest.approx(expected, rel=1e-9, abs=1e-12)


# masks


def test_masks_are_shared_distinct_and_even():
    masks = draw_shared_masks(7, 200, 40)
    assert masks.shape == (200, 40)
    assert masks.dtype == torch.bool
    assert torch.equal(masks, draw_shared_masks(7, 200, 40))
    assert len(masks.unique(dim=0)) == 200
    assert abs(float(masks.double().mean()) - 0.5) < 0.03
    assert not torch.equal(masks, draw_shared_masks(8, 200, 40))
    assert draw_shared_masks(7, 3, 4).tolist() == [list(map(bool, row)) for row in FIXED], "the same on every machine"


FIXED = [[0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]


def test_evaluation_masks_differ_from_fitted_ones():
    fitted = draw_shared_masks(0, 9, 4)
    others = draw_shared_masks(1, 32, 4, apart_from=fitted)
    assert len(others) == 7, "of 16 sets, 9 are taken"
    assert len(torch.cat([fitted, others]).unique(dim=0)) == 16
    assert len(draw_shared_masks(1, 5, 4, apart_from=draw_shared_masks(0, 16, 4))) == 0
    assert draw_shared_masks(0, 3, 0).shape == (1, 0)
    with pytest.raises(InputError, match=">= 0"):
        draw_shared_masks(0, -1, 4)
    with pytest.raises(InputError, match=r"apart_from must be \(M, 5\)"):
        draw_shared_masks(0, 3, 5, apart_from=fitted)


def test_each_prompt_has_its_own_masks_in_any_order_of_calls():
    one, two = torch.arange(9), torch.arange(1, 10)
    assert case_seed(0, one) == case_seed(0, one.clone())
    assert len({case_seed(0, one), case_seed(1, one), case_seed(0, two)}) == 3
    designs = [ContextCite().design(fake(None, ids=ids)) for ids in (one, two, one)]
    assert torch.equal(designs[0], designs[2])
    assert not torch.equal(designs[0], designs[1])
