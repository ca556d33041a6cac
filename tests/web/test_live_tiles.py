"""Tiles of the attention matrix agree with pooling the model's own dense matrix."""

import numpy as np
import pytest
import torch
from dense_attention import FAMILIES, recorded

from attributor import InputError, RecordingError
from attributor.web.live import tiles
from attributor.web.live.tiles import SIZE, TileCache, compute_tile, count_levels


def pooled(P, level, row, col, every=1):
    """Pool (N, N) by the definition: the largest value of each cell, and the mean over key <= query."""
    N, cell = P.shape[0], 1 << level
    largest, mean = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for r in range(SIZE):
        begin = (row * SIZE + r) * cell
        queries = sorted({min(q, N - 1) for q in range(begin + every - 1, min(begin + cell, N) + every - 1, every)})
        for c in range(SIZE):
            keys = range((col * SIZE + c) * cell, min((col * SIZE + c + 1) * cell, N))
            values = [P[q, j] for q in queries for j in keys if j <= q] if queries and keys else []
            if values:
                largest[r, c], mean[r, c] = max(values), sum(values) / len(values)
    return largest, mean


def values(steps, scale):
    return scale * (steps / 255.0) ** 2


def agree(got, wanted, scale):
    """Compare up to half a step of the square root plus the rounding of float32."""
    np.testing.assert_allclose(np.sqrt(got / scale), np.sqrt(wanted / scale), rtol=0, atol=0.5 / 255 + 2e-3)


def check_tile(case, layer, head, level, row, col, **options):
    got = compute_tile(case.recording, layer, head, level, row, col, **options)
    largest, mean = pooled(case.attentions[layer, head].numpy(), level, row, col, got.every)
    np.testing.assert_allclose(got.scale, (largest.max(), mean.max()), rtol=1e-4, atol=2e-6)
    if got.scale[0]:
        agree(values(got.max.astype(float), got.scale[0]), largest, got.scale[0])
        agree(values(got.mean.astype(float), got.scale[1]), mean, got.scale[1])
    return got


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    """A recording of 571 positions: three tiles at level 0, two at level 1, one at level 2, none of them full."""
    return recorded(request.param, k=560)


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize(
    ("level", "row", "col"), [(0, 0, 0), (0, 2, 0), (0, 2, 2), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 0, 0)]
)
def test_tiles_agree_with_eager_attention(case, layer, level, row, col):
    assert case.length == 571
    assert count_levels(571) == 3
    got = check_tile(case, layer, 1, level, row, col)
    assert got.every == 1
    assert (got.max[np.triu_indices(SIZE, 1)] == 0).all() or row != col


def test_blocks_do_not_change_a_tile(case, monkeypatch):
    whole = [compute_tile(case.recording, 1, 2, 2, 0, 0), compute_tile(case.recording, 1, 2, 1, 1, 0)]
    for rows, keys in ((2, 4), (64, 128), (256, 1)):
        monkeypatch.setattr(tiles, "ROWS", rows)
        monkeypatch.setattr(tiles, "KEYS", keys)
        parts = [compute_tile(case.recording, 1, 2, 2, 0, 0), compute_tile(case.recording, 1, 2, 1, 1, 0)]
        for a, b in zip(whole, parts, strict=True):
            assert np.abs(a.max.astype(int) - b.max).max() <= 1
            assert np.abs(a.mean.astype(int) - b.mean).max() <= 1
            np.testing.assert_allclose(a.scale, b.scale, rtol=1e-5)


@pytest.mark.parametrize("level", [1, 2])
def test_large_tiles_skip_queries(case, level):
    got = check_tile(case, 0, 3, level, 0, 0, work=1.0)
    assert got.every == 1 << level  # one query per cell is the minimum
    exact = compute_tile(case.recording, 0, 3, level, 0, 0)
    assert got.scale[0] <= exact.scale[0] * (1 + 1e-6)


def test_half_of_the_queries_is_used_if_that_is_fast_enough(case):
    D = 16
    pairs = int((case.attentions[0, 0] > 0).sum())
    check_tile(case, 0, 0, 2, 0, 0, work=0.6 * pairs * (D + tiles.EXPONENTIAL))
    assert compute_tile(case.recording, 0, 0, 2, 0, 0, work=0.6 * pairs * (D + tiles.EXPONENTIAL)).every == 2


def test_a_tile_ends_at_the_given_length(case):
    got = compute_tile(case.recording, 1, 0, 0, 0, 0, length=100)
    assert (got.max[100:] == 0).all()
    assert got.max[99].any()
    with pytest.raises(InputError, match="levels 0 to 0"):
        compute_tile(case.recording, 1, 0, 1, 0, 0, length=100)


@pytest.mark.parametrize(
    ("tokens", "count"), [(1, 1), (256, 1), (257, 2), (512, 2), (513, 3), (8192, 6), (100_000, 10)]
)
def test_levels_cover_the_sequence(tokens, count):
    assert count_levels(tokens) == count
    assert SIZE << (count - 1) >= tokens


def test_tiles_out_of_range_are_refused(case):
    for level, row, col, message in (
        (3, 0, 0, "levels 0 to 2"),
        (-1, 0, 0, "levels 0 to 2"),
        (0, 3, 0, "tiles 0 to 2"),
        (1, 0, -1, "tiles 0 to 1"),
    ):
        with pytest.raises(InputError, match=message):
            compute_tile(case.recording, 0, 0, level, row, col)
    with pytest.raises(RecordingError, match="not recorded"):
        compute_tile(case.recording, 4, 0, 0, 0, 0)
    with pytest.raises(RecordingError, match="not recorded"):
        compute_tile(case.recording, 0, 4, 0, 0, 0)


def test_the_computation_can_be_cancelled(case):
    def check():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compute_tile(case.recording, 0, 0, 0, 0, 0, check=check)


def test_the_whole_matrix_is_never_allocated(monkeypatch):
    """The largest tensor for a tile of a long sequence is one block, not a row of blocks."""
    long = recorded("llama", k=3000, answer=2)
    seen = []
    logs = tiles.Queries.log_attention
    monkeypatch.setattr(
        tiles.Queries,
        "log_attention",
        lambda self, *where: seen.append(logs(self, *where).numel()) or logs(self, *where),
    )
    got = compute_tile(long.recording, 0, 0, count_levels(3001) - 1, 0, 0)
    assert got.every == 1
    assert max(seen) == tiles.ROWS * tiles.KEYS
    torch.testing.assert_close(torch.tensor(got.scale[0]).double(), long.attentions[0, 0].max(), rtol=1e-4, atol=0)


def test_the_cache_keeps_the_most_recently_used_tiles():
    cache = TileCache(limit=100)
    for name in "abc":
        cache.put(name, bytes(30))
    assert cache.get("a") == bytes(30)
    assert cache.used == 90
    cache.put("d", bytes(35))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.used == 95
    cache.put("a", bytes(10))
    assert cache.used == 75
    cache.put("huge", bytes(101))
    assert cache.get("huge") is None
    assert cache.used == 75
