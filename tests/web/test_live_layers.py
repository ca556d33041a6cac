"""The edges of one layer agree with the model's own attention matrices."""

import numpy as np
import pytest
import torch
from dense_attention import FAMILIES, K, recorded, weights_of

from attributor import InputError, RecordingError
from attributor.web.live import attention
from attributor.web.live.layers import find_layer_edges

MEAN = torch.full((4, 4), 0.25)
UNITS = np.sort(np.r_[np.arange(50), [3, 3, 9, 20, 20, 41, 41, 41, 49, 49]])  # (60,) tokens of 50 units


def by_unit(P, positions, heads, units=50):
    """Sum (H, N, N) to (heads, R, units)."""
    rows = P[heads][:, positions][..., :K]
    return torch.zeros(len(heads), len(positions), units, dtype=rows.dtype).index_add_(2, torch.from_numpy(UNITS), rows)


def as_table(edges):
    return {
        (int(h), int(q), int(u)): float(m)
        for h, q, u, m in zip(edges.head, edges.query, edges.key, edges.mass, strict=True)
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_all_edges_agree_with_eager_attention(family, layer):
    case = recorded(family)
    positions, heads = [K - 1, K + 2, K + 3, K + 10], [3, 0, 2]
    wanted = by_unit(case.attentions[layer], positions, heads)
    edges = find_layer_edges(case.recording, layer, heads, positions, UNITS, MEAN, limit=3 * 4 * 50)
    found = torch.zeros_like(wanted)
    for (head, query, unit), mass in as_table(edges).items():
        found[heads.index(head), query, unit] = mass
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
    torch.testing.assert_close(torch.from_numpy(edges.totals).double(), wanted.sum((1, 2)), rtol=0, atol=1e-5)
    assert (edges.mass > 0).all()
    assert (np.diff(edges.mass) <= 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_edges_of_each_head_are_kept(family):
    case = recorded(family)
    positions, heads = list(range(K - 1, case.length)), [1, 2]
    wanted = by_unit(case.attentions[1], positions, heads)
    edges = find_layer_edges(case.recording, 1, heads, positions, UNITS, MEAN, limit=21)
    assert len(edges.mass) == 20  # ten a head
    for index, head in enumerate(heads):
        best = wanted[index].flatten().topk(10).values
        np.testing.assert_allclose(edges.mass[edges.head == head], best, rtol=0, atol=2e-6)
        assert edges.totals[index] >= edges.mass[edges.head == head].sum()


def test_only_edges_to_the_selected_units_are_returned():
    case = recorded("llama")
    positions = [K - 1, K + 4]
    wanted = by_unit(case.attentions[2], positions, [0, 3])
    edges = find_layer_edges(case.recording, 2, [0, 3], positions, UNITS, MEAN, limit=1000, units=(18, 42))
    assert set(edges.key.tolist()) == set(range(18, 42))
    np.testing.assert_allclose(edges.totals, wanted[:, :, 18:42].sum((1, 2)), rtol=0, atol=5e-6)
    for (head, query, unit), mass in as_table(edges).items():
        assert mass == pytest.approx(float(wanted[[0, 3].index(head), query, unit]), abs=2e-6)


def test_blocks_do_not_change_the_edges(monkeypatch):
    case = recorded("gemma2", k=700)
    units = np.arange(700) // 3
    positions = [699, 705, 710]
    monkeypatch.setattr(attention, "ELEMENTS", 1)
    edges = find_layer_edges(case.recording, 1, [0, 1], positions, units, MEAN, limit=10_000, units=(20, 230))
    rows = case.attentions[1][[0, 1]][:, positions][..., :700]
    wanted = torch.zeros(2, 3, 234, dtype=torch.float64).index_add_(2, torch.from_numpy(units), rows)
    np.testing.assert_allclose(edges.totals, wanted[..., 20:230].sum((1, 2)), rtol=0, atol=5e-6)
    for (head, query, unit), mass in as_table(edges).items():
        assert mass == pytest.approx(float(wanted[head, query, unit]), abs=2e-6)


def test_relative_weights_are_fractions_of_the_largest():
    weights = weights_of()
    case = recorded("llama", heads=weights)
    edges = find_layer_edges(case.recording, 3, [2, 0], [K], UNITS, weights, limit=8)
    np.testing.assert_allclose(edges.relative, weights[3, [2, 0]] / weights.max())


def test_no_attention_gives_no_edges():
    """The window begins after the selected units."""
    case = recorded("gemma2")
    edges = find_layer_edges(case.recording, 0, [0, 1], [K + 10], UNITS, MEAN, limit=40, units=(0, 5))
    assert not len(edges.mass)
    assert edges.totals.tolist() == [0, 0]


def test_invalid_arguments_are_refused():
    case = recorded("llama", heads=weights_of())

    def ask(layer=0, heads=(0,), limit=5, units=None):
        return find_layer_edges(case.recording, layer, heads, [K], UNITS, weights_of(), limit=limit, units=units)

    assert len(ask().mass) == 5
    for wrong, message in (
        ({"heads": ()}, "at least one head"),
        ({"heads": (1, 1)}, "each once"),
        ({"heads": (0, 1), "limit": 1}, "limit must be at least 2"),
        ({"units": (4, 4)}, "units need"),
        ({"units": (0, 51)}, "<= 50"),
    ):
        with pytest.raises(InputError, match=message):
            ask(**wrong)
    with pytest.raises(RecordingError, match=r"layer 2 was not recorded; there are \[0, 1, 3\]"):
        ask(layer=2)
    with pytest.raises(RecordingError, match=r"heads \[2\] of layer 1 were not recorded"):
        ask(layer=1, heads=(0, 2))
