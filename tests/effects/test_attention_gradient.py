"""The gradient of attention from its output and log-sum-exp agrees with autograd through the dense definition."""

import itertools
from importlib import import_module

import pytest
import torch

from attributor._record import Mask, attention, attention_gradient

SHAPES = {"grouped heads": (8, 8, 4, 2), "wide values": (8, 12, 2, 1), "narrow values": (12, 8, 3, 3)}  # D, Dv, H, G
CALLS = [(1, 0), (63, 0), (1, 70), (40, 70), (63, 70)]  # queries, the position of the first
MASKS = {"causal": None, "window of one": 1, "window": 7, "wide window": 70}
TILE = 16  # queries and keys, so that short calls have many tiles


@pytest.fixture
def small_tiles(monkeypatch):
    module = import_module("attributor._record.attention_gradient")  # its package exports a function of the same name
    monkeypatch.setattr(module, "BLOCK", TILE)
    monkeypatch.setattr(module, "KEYS", TILE)
    monkeypatch.setattr(import_module("attributor._record.attention"), "BLOCK", 2 * TILE)


def dense(query, key, value, mask, scale, softcap, sink):
    """Compute softmax(softcap * tanh(scale Q K^T / softcap), sink) V over the keys that the mask shows."""
    H, G = query.shape[1], key.shape[1]
    logits = query @ key.repeat_interleave(H // G, 1).mT * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    i = torch.arange(mask.start, mask.start + query.shape[2])[:, None]
    j = torch.arange(mask.keys_from, mask.keys_from + key.shape[2])
    logits = logits.masked_fill((j > i) | (j < mask.first[0][:, None]), float("-inf"))
    if sink is not None:
        logits = torch.cat([logits, sink[:, None, None].expand(1, H, len(i), 1)], -1)
    weights = logits.softmax(-1)[..., : key.shape[2]]
    return weights @ value.repeat_interleave(H // G, 1)


@pytest.mark.parametrize("window", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_equal_those_of_the_definition(small_tiles, shape, window):
    """Keys of a cache come first, some of which may be dropped; unused keys of a static cache come last."""
    grid = itertools.product(CALLS, (None, 3.0), (False, True), (False, True), (0, 13))
    for number, ((queries, start), softcap, sink, dropped, unused) in enumerate(grid):
        if not (dropped and (start == 0 or unused)):
            compare(shape, queries, start, window, softcap, sink, start // 2 * dropped, unused, seed=number)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_gradients_of_several_tiles_of_the_real_size(softcap):
    compare(SHAPES["grouped heads"], 530, 500, None, softcap, False, 0, 0, seed=1)
    compare(SHAPES["grouped heads"], 1003, 0, 600, softcap, False, 0, 0, seed=2)


def compare(shape, queries, start, window, softcap, sunk, dropped, unused, seed):
    D, Dv, H, G = shape
    generator = torch.Generator().manual_seed(seed)
    keys = start + queries - dropped
    query, key, value, d_output = (
        torch.randn(1, heads, count, size, generator=generator, dtype=torch.float64)
        for heads, count, size in ((H, queries, D), (G, keys + unused, D), (G, keys + unused, Dv), (H, queries, Dv))
    )
    sink = torch.randn(H, generator=generator, dtype=torch.float64) if sunk else None
    first = torch.arange(start, start + queries) + 1 - (window or start + queries)
    mask = Mask(start, dropped, first.clamp(min=dropped)[None], keys)
    options = {"scale": D**-0.5, "softcap": softcap}
    output, lse = attention(query, key, value, mask, sink=sink, **options)
    got = attention_gradient(query, key, value, output, lse, d_output, mask, **options)

    leaves = [x.clone().requires_grad_() for x in (query, key[:, :, :keys], value[:, :, :keys])]
    expected = torch.autograd.grad((dense(*leaves, mask, D**-0.5, softcap, sink) * d_output).sum(), leaves)
    torch.testing.assert_close(got[0], expected[0], rtol=1e-9, atol=1e-10)
    constant = start - dropped  # keys of the cache
    for mine, truth in zip(got[1:], expected[1:], strict=True):
        assert mine.shape[2] == keys + unused
        assert not mine[:, :, :constant].any()
        assert not mine[:, :, keys:].any()
        torch.testing.assert_close(mine[:, :, constant:keys], truth[:, :, constant:], rtol=1e-9, atol=1e-10)
