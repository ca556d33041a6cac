"""The map of layers x heads agrees with the model's own attention matrices."""

import numpy as np
import pytest
import torch
from dense_attention import CLOSE, FAMILIES, K, recorded, weights_of

from attributor import InputError
from attributor.web.live import attention, heads
from attributor.web.live.attention import RecordingReader, choose_rows
from attributor.web.live.heads import compute_head_maps

MEAN = torch.full((4, 4), 0.25)


def expected(P, positions, selected):
    """Compute the definition on (L, H, N, N)."""
    P = P[:, :, positions]
    N = P.shape[-1]
    distance = torch.tensor(positions, dtype=torch.float64)[:, None] - torch.arange(N)
    return {
        "mass": (P * torch.from_numpy(selected)).sum(-1).mean(-1),
        "entropy": -torch.where(P > 0, P * P.clamp(min=1e-300).log(), 0.0).sum(-1).mean(-1),
        "sink": P[..., 0].mean(-1),
        "distance": ((P * distance).sum(-1) / P.sum(-1)).mean(-1),
    }


def selection(length, *spans):
    found = np.zeros(length, dtype=bool)
    for start, stop in spans:
        found[start:stop] = True
    return found


def agree(maps, wanted, length):
    for name, value in wanted.items():
        scale = {"distance": length, "entropy": 10}.get(name, 1)  # tokens and nats, not shares
        found = torch.from_numpy(getattr(maps, name)).double()
        torch.testing.assert_close(found / scale, value / scale, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("generated", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_agree_with_eager_attention(family, generated):
    case = recorded(family, generated=generated)
    for positions in ([K - 1], [K - 1, K + 3, K + 4, K + 10], list(range(K - 1, case.length)), [0, 5, 17]):
        selected = selection(case.length, (0, 3), (41, 55))
        maps = compute_head_maps(case.recording, positions, selected, MEAN)
        agree(maps, expected(case.attentions, positions, selected), case.length)
        assert np.array_equal(maps.weight, MEAN.numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_do_not_change_the_maps(family, monkeypatch):
    case = recorded(family, k=700)
    positions = list(range(699, case.length))
    selected = selection(700, (100, 612))
    monkeypatch.setattr(attention, "ELEMENTS", 1)  # the smallest block, 256 keys
    blocks = list(RecordingReader(case.recording).queries(0, positions).blocks(2, 0, case.length))
    assert blocks[0] == (0, 256)
    assert len(blocks) == 3
    maps = compute_head_maps(case.recording, positions, selected, MEAN)
    longer = np.r_[selected, np.zeros(case.length - 700, dtype=bool)]
    agree(maps, expected(case.attentions, positions, longer), case.length)


def test_heads_that_were_not_recorded_are_nan():
    weights = weights_of()
    case = recorded("llama", heads=weights)
    maps = compute_head_maps(case.recording, [K - 1], selection(K, (0, K)), weights)
    for name in ("mass", "entropy", "sink", "distance"):
        assert np.array_equal(np.isnan(getattr(maps, name)), weights.numpy() == 0), name
    torch.testing.assert_close(torch.from_numpy(maps.weight), weights, rtol=0, atol=0)


def test_the_share_of_a_sink_is_in_no_map():
    case = recorded("gpt_oss")
    whole = compute_head_maps(case.recording, [K + 5], selection(case.length, (0, case.length)), MEAN)
    assert (whole.mass < 0.999).any()  # the learned sink has the rest
    assert (whole.mass <= 1 + 1e-6).all()


def test_invalid_arguments_are_refused():
    case = recorded("llama")
    fine = selection(K, (0, 4))
    for positions in ([], [-1], [case.length], [5, 5], [7, 3]):
        with pytest.raises(InputError, match="ascend"):
            compute_head_maps(case.recording, positions, fine, MEAN)
    with pytest.raises(InputError, match="selected"):
        compute_head_maps(case.recording, [3], selection(case.length + 1, (0, 4)), MEAN)
    with pytest.raises(InputError, match="layers and heads"):
        compute_head_maps(case.recording, [3], fine, MEAN[:2])


def test_the_computation_can_be_cancelled():
    case = recorded("llama")
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compute_head_maps(case.recording, [K - 1], selection(K, (0, 4)), MEAN, check=check)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("start", "stop", "most"), [(0, 5, 64), (0, 64, 64), (3, 68, 64), (0, 512, 64), (10, 1000, 7), (4, 90, 1)]
)
def test_rows_are_chosen_evenly(start, stop, most):
    rows = choose_rows(start, stop, most)
    assert rows == sorted(set(rows))
    assert len(rows) == min(most, stop - start)
    assert rows[0] == start
    assert most == 1 or rows[-1] == stop - 1
    gaps = np.diff(rows)
    assert not gaps.size or gaps.max() - gaps.min() <= 1


def test_an_empty_range_of_rows_is_refused():
    for start, stop in ((3, 3), (4, 2), (-1, 2)):
        with pytest.raises(InputError, match="start < stop"):
            choose_rows(start, stop)


def test_a_padded_batch_gives_the_maps_of_its_sequences():
    from families import tiny

    from attributor import record

    model = tiny("gemma2")
    rows = [torch.arange(3, 53), torch.arange(60, 23, -1)]
    batch, mask = torch.zeros(2, 50, dtype=torch.int64), torch.zeros(2, 50, dtype=torch.int64)
    for i, ids in enumerate(rows):
        batch[i, 50 - len(ids) :], mask[i, 50 - len(ids) :] = ids, 1
    with record(model) as together, torch.no_grad():
        model(batch, attention_mask=mask)
    for i, ids in enumerate(rows):
        with record(model) as alone, torch.no_grad():
            model(ids[None])
        positions, selected = [5, len(ids) - 1], selection(len(ids), (2, 20))
        a = heads.compute_head_maps(together, positions, selected, MEAN, row=i)
        b = heads.compute_head_maps(alone, positions, selected, MEAN)
        for name in ("mass", "entropy", "sink"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=5e-6)
