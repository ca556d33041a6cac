"""Definition and reference: recurrence, adjoint and step agree in float64, also with torch's gradient."""

import pytest
import torch

from attributor import flow_step
from attributor.kernels.flow_step import definition
from attributor.kernels.flow_step.definition import adjoint, recurrence
from attributor.kernels.flow_step.reference import BLOCK


def attentions(L=5, H=3, N=37, seed=0):
    """Return random causal attention matrices (L, H, N, N) in float64 with the parts of their logits."""
    g = torch.Generator().manual_seed(seed)
    query = 2 * torch.randn(L, H, N, 16, generator=g, dtype=torch.float64)
    key = torch.randn(L, H, N, 16, generator=g, dtype=torch.float64)
    logit = (query @ key.mT / 4).masked_fill(torch.ones(N, N, dtype=torch.bool).triu(1), float("-inf"))
    return logit.softmax(-1), query, key, logit.logsumexp(-1)


@pytest.mark.parametrize(
    "weights",
    [torch.full((5, 3), 1 / 3), torch.rand(5, 3, generator=torch.Generator().manual_seed(1))],
    ids=["mean", "any"],
)
def test_recurrence_adjoint_and_steps_agree(weights):
    A, query, key, lse = attentions()
    N = A.shape[-1]
    rows = torch.eye(N, dtype=torch.float64)[-7:]
    X = recurrence(A, weights)
    torch.testing.assert_close(X.sum(1), torch.ones(N, dtype=torch.float64), rtol=0, atol=1e-12)
    assert not X.triu(1).any()
    torch.testing.assert_close(adjoint(A, weights, rows), X[-7:], rtol=0, atol=1e-12)
    R = rows
    for layer in reversed(range(5)):
        w = weights[layer].double()
        step = flow_step(R, query[layer], key[layer], w.log()[:, None] - lse[layer], scale=0.25)
        R = (R + step) / (1 + w.sum())
    torch.testing.assert_close(R, X[-7:], rtol=0, atol=1e-12)


def test_the_recurrence_of_the_mean_is_rollout():
    """X_l = (A_l X_(l-1) + X_(l-1)) / 2 with A_l the mean over heads: Abnar and Zuidema 2020."""
    A, *_ = attentions()
    X = torch.eye(A.shape[-1], dtype=torch.float64)
    for layer in A:
        X = (layer.mean(0) @ X + X) / 2
    torch.testing.assert_close(recurrence(A, torch.full((5, 3), 1 / 3)), X, rtol=0, atol=1e-7)
    exact = torch.full((5, 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(recurrence(A, exact), X, rtol=0, atol=1e-12)


@pytest.mark.parametrize("N", [1, 50, BLOCK, 2 * BLOCK + 3])
def test_one_step_is_the_gradient_of_attention_with_respect_to_its_values(N):
    _, query, key, lse = attentions(1, 4, N, seed=3)
    rows = torch.rand(6, N, dtype=torch.float64)
    value = torch.zeros(1, 4, N, 6, dtype=torch.float64, requires_grad=True)
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.25)
    (gradient,) = torch.autograd.grad(output, value, rows.T.expand(1, 4, N, 6))
    step = flow_step(rows, query[0], key[0], -lse[0], scale=0.25)
    torch.testing.assert_close(step, gradient[0].sum(0).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("window", [None, 9, BLOCK + 5])
def test_the_step_equals_its_formula(softcap, window):
    H, G, N, D = 6, 2, BLOCK + 40, 8
    g = torch.Generator().manual_seed(5)
    query, key = (torch.randn(h, N, D, generator=g, dtype=torch.float64) for h in (H, G))
    row_bias, key_bias = (torch.randn(H, N, generator=g, dtype=torch.float64) for _ in range(2))
    rows, kv_index = torch.rand(3, N, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0, 0])
    logit = 0.3 * query @ key[kv_index].mT
    if softcap is not None:
        logit = softcap * torch.tanh(logit / softcap)
    weight = (2 * logit + row_bias[:, :, None] + key_bias[:, None, :]).exp()
    gap = torch.arange(N)[:, None] - torch.arange(N)[None, :]
    expected = rows @ (weight * ((gap >= 0) & (gap < (window or N)))).sum(0)
    options = {"scale": 0.3, "kv_index": kv_index, "power": 2.0, "window": window, "softcap": softcap}
    for implementation in (flow_step, definition.flow_step):
        got = implementation(rows, query, key, row_bias, key_bias, **options)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
