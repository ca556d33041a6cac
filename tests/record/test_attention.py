"""The recorder's attention and masks agree with their definition, also beyond one block."""

import pytest
import torch

from attributor import UnsupportedModelError
from attributor._record import mask as mask_module
from attributor._record.attention import attention

N = 1300  # more than two blocks of queries
INTERVALS = {
    "causal": lambda i: torch.zeros_like(i),
    "window": lambda i: (i - 99).clamp(min=0),
    "window of one": lambda i: i,
    "chunks": lambda i: i // 300 * 300,
}


def tensors(B=1, H=4, G=2, n=N, D=16, Dv=16, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(B, h, n, d, generator=g) for h, d in ((H, D), (G, D), (G, Dv)))
    return (3 * q).to(dtype), k.to(dtype), v.to(dtype)


def defined(q, k, v, seen, scale, softcap=None, sink=None):
    """Return (output, lse) in float64; seen is (B, Q, K) bool."""
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    logit = scale * q @ k.mT
    if softcap is not None:
        logit = softcap * torch.tanh(logit / softcap)
    logit = logit.masked_fill(~seen[:, None], float("-inf"))
    if sink is not None:
        logit = torch.cat([logit, sink.double()[None, :, None, None].expand(*logit.shape[:3], 1)], -1)
    lse = logit.logsumexp(-1)
    weight = (logit - lse[..., None]).exp()[..., : k.shape[2]]
    return weight @ v, lse


def check(q, k, v, first, start=0, **options):
    mask = mask_module.Mask(start, 0, first)
    key, query = torch.arange(k.shape[2]), torch.arange(start, start + q.shape[2])
    seen = (key >= first[..., None]) & (key <= query[:, None]) & (first[..., None] >= 0)
    output, lse = attention(q, k, v, mask, scale=0.2, **options)
    expected, sums = defined(q, k, v, seen, 0.2, **options)
    alive = first >= 0
    for b in range(q.shape[0]):
        torch.testing.assert_close(output[b][:, alive[b]].double(), expected[b][:, alive[b]], rtol=0, atol=1e-5)
        torch.testing.assert_close(lse[b][:, alive[b]].double(), sums[b][:, alive[b]], rtol=0, atol=1e-5)
        assert not output[b][:, ~alive[b]].any()


@pytest.mark.parametrize("kind", INTERVALS)
@pytest.mark.parametrize("options", [{}, {"softcap": 4.0}, {"sink": torch.tensor([0.5, 3.0, -1.0, 8.0])}], ids=str)
def test_prompt_attention_agrees_with_the_definition(kind, options):
    first = INTERVALS[kind](torch.arange(N))[None]
    check(*tensors(), first, **options)


@pytest.mark.parametrize("kind", INTERVALS)
@pytest.mark.parametrize("Q", [1, 2, 700])
def test_queries_after_a_cache_agree_with_the_definition(kind, Q):
    q, k, v = tensors()
    first = INTERVALS[kind](torch.arange(N - Q, N))[None]
    check(q[:, :, N - Q :], k, v, first, start=N - Q)


@pytest.mark.parametrize("kind", ["causal", "window"])
def test_left_and_right_padding_agree_with_the_definition(kind):
    q, k, v = tensors(B=3, n=90)
    i = torch.arange(90)
    left = torch.where(i < 20, -1, torch.maximum(INTERVALS[kind](i), torch.tensor(20)))
    right = torch.where(i >= 70, -1, INTERVALS[kind](i))
    check(q, k, v, torch.stack([left, right, torch.full((90,), -1)]))
    check(q[:, :, 89:], k, v, torch.stack([left, right, left])[:, 89:], start=89)


@pytest.mark.parametrize(("D", "Dv"), [(24, 16), (16, 24)])
def test_values_may_have_another_head_size(D, Dv):
    check(*tensors(n=100, D=D, Dv=Dv), torch.zeros(1, 100, dtype=torch.int64))


def test_float64_stays_float64():
    q, k, v = tensors(n=100, dtype=torch.float64)
    output, lse = attention(q, k, v, mask_module.causal(1, 100, 0, 0, 100, "cpu"), scale=0.2)
    expected, sums = defined(q, k, v, torch.ones(1, 100, 100, dtype=torch.bool).tril(), 0.2)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(lse, sums, rtol=0, atol=1e-12)


def test_keys_dropped_by_a_cache_do_not_change_the_result():
    q, k, v = tensors(n=50)
    first = (torch.arange(49, 50) - 9)[None]
    whole = attention(q[:, :, 49:], k, v, mask_module.Mask(49, 0, first), scale=0.2)
    cut = attention(q[:, :, 49:], k[:, :, 40:], v[:, :, 40:], mask_module.Mask(49, 40, first), scale=0.2)
    for a, b in zip(whole, cut, strict=True):
        torch.testing.assert_close(a, b)


def read(function, padding=None, n=60, batch=1, start=0):
    mask = mask_module.from_function(
        function, padding, batch=batch, length=n, start=start, keys_from=0, keys=n + start, device="cpu"
    )
    mask.check("layer 0")  # as each layer does before it attends
    return mask.first


@pytest.mark.parametrize("block", [1 << 22, 100], ids=["whole", "in blocks"])
def test_intervals_are_read_from_every_form_of_mask(monkeypatch, block):
    monkeypatch.setattr(mask_module, "BLOCK", block)
    i = torch.arange(60)
    assert torch.equal(read(lambda b, h, q, k: k <= q)[0], torch.zeros(60, dtype=torch.int64))
    assert torch.equal(read(lambda b, h, q, k: (k <= q) & (q - k < 7))[0], (i - 6).clamp(min=0))
    padding = torch.ones(2, 60, dtype=torch.bool)
    padding[1, :9] = False
    first = read(lambda b, h, q, k: k <= q, padding, batch=2)
    assert torch.equal(first[0], torch.zeros(60, dtype=torch.int64))
    assert torch.equal(first[1], torch.where(i < 9, -1, 9))


CANNOT = {
    "bidirectional": lambda b, h, q, k: (k >= 0) & (q >= 0),
    "a hole": lambda b, h, q, k: (k <= q) & (k != 30),
    "not itself": lambda b, h, q, k: k < q,
    "sink and window": lambda b, h, q, k: (k <= q) & ((q - k < 7) | (k < 2)),
    "prefix": lambda b, h, q, k: (k <= q) | (k < 10),
}


@pytest.mark.parametrize("name", CANNOT)
@pytest.mark.parametrize("block", [1 << 22, 100], ids=["whole", "in blocks"])
def test_masks_other_than_causal_intervals_are_refused(monkeypatch, name, block):
    monkeypatch.setattr(mask_module, "BLOCK", block)
    with pytest.raises(UnsupportedModelError, match=r"layer 0: .* unbroken"):
        read(CANNOT[name])


def test_masks_are_classified_as_windows_or_chunks():
    i = torch.arange(50)
    assert mask_module.classify_mask(torch.zeros(50, dtype=torch.int64)) == mask_module.MaskPattern(None, ((0, 50),))
    assert mask_module.classify_mask((i - 6).clamp(min=0)) == mask_module.MaskPattern(7, ((0, 50),))
    assert mask_module.classify_mask(i) == mask_module.MaskPattern(1, ((0, 50),))
    assert mask_module.classify_mask(i // 20 * 20) == mask_module.MaskPattern(None, ((0, 20), (20, 40), (40, 50)))
    with pytest.raises(UnsupportedModelError, match="neither"):
        mask_module.classify_mask(torch.maximum((i - 6).clamp(min=0), i // 20 * 20))
