"""The budget of a sweep, alone: which tiles it gives up, and that no row loses more than it may."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attributor import InputError, Weights
from attributor._mask import Band
from attributor._tolerance import TILE, Budget


@given(
    seed=st.integers(0, 10**6),
    O=st.integers(1, 5),
    n=st.integers(1, 900),
    layers=st.integers(1, 6),
    tolerance=st.floats(1e-6, 0.9),
    window=st.sampled_from([None, 1, 100, 500]),
    chunk=st.sampled_from([None, 128, 300]),
    sharp=st.sampled_from([1.0, 8.0, 40.0]),
)
@settings(max_examples=150, deadline=None)
def test_no_row_loses_more_than_it_may(seed, O, n, layers, tolerance, window, chunk, sharp):
    g = torch.Generator().manual_seed(seed)
    edges = [*range(0, n, chunk or n), n]
    shape = Band(None if chunk else window, tuple(pairwise(edges)))
    budget = Budget(tolerance, Weights(torch.ones(layers, 2)))
    lost = torch.zeros(O, dtype=torch.float64)
    for layer in range(layers):
        rows = (sharp * torch.randn(O, n, generator=g)).softmax(1)  # R of another layer, as unlike as may be
        if not layer:
            budget.begin(rows)
        share = float(torch.rand(1, generator=g))
        trimmed = budget.trim(rows, share, shape, 2)
        gone = trimmed != rows
        assert not trimmed[gone].any()
        for low, high in shape.chunks:
            for begin in range(low, high, TILE):
                tile = gone[:, begin : min(begin + TILE, high)]
                assert not tile.any() or not trimmed[:, begin : min(begin + TILE, high)].any()
        lost += share * (rows - trimmed).double().sum(1)
    torch.testing.assert_close(budget.lost.double(), lost, rtol=1e-4, atol=1e-7)
    assert float(lost.max()) <= tolerance * (1 + 1e-5)
    assert 0 <= budget.skipped <= 1


def test_what_saves_more_for_the_same_cost_goes_first():
    """Two tiles of the same mass and room for one: the later one sees more keys."""
    rows = torch.zeros(1, 4 * TILE)
    rows[0, [0, 5, TILE + 5, 3 * TILE + 5]] = torch.tensor([0.6, 0.2, 0.1, 0.1])
    budget = Budget(0.06, Weights(torch.ones(1, 1)))
    budget.begin(rows)
    trimmed = budget.trim(rows, 0.5, Band(None, ((0, 4 * TILE),)), 1)
    assert trimmed.nonzero()[:, 1].tolist() == [0, 5, TILE + 5]
    assert float(budget.lost) == pytest.approx(0.05)
    assert budget.skipped == pytest.approx(4 / (1 + 2 + 4))


def test_what_a_layer_leaves_is_there_for_the_next():
    weights, shape = Weights(torch.ones(2, 1)), Band(None, ((0, 2 * TILE),))
    rows = torch.zeros(1, 2 * TILE)
    rows[0, [0, 2 * TILE - 1]] = torch.tensor([0.85, 0.15])
    budget = Budget(0.1, weights)
    budget.begin(rows)
    assert torch.equal(budget.trim(rows, 0.5, shape, 1), rows)  # 0.075 is more than the third that it may spend
    assert not budget.trim(rows, 0.5, shape, 1)[0, TILE:].any()


@pytest.mark.parametrize("wrong", [torch.tensor([[-0.5, 1.5]]), torch.tensor([[1.0, 1.0]]), torch.zeros(1, 2)])
def test_rows_that_could_lose_anything_are_refused(wrong):
    with pytest.raises(InputError, match=r"without negative entries that sum to 1"):
        Budget(0.1, Weights(torch.ones(1, 1))).begin(wrong)
