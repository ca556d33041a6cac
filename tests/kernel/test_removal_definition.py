"""removal_step: definition and reference equal the gradient with respect to a gate on each key, in float64."""

import pytest
import torch
from removal_step_cases import case, dense_logits

from attributor._step import removal_step
from attributor.kernels.removal_step import definition
from attributor.kernels.removal_step.reference import BLOCK

CASES = {
    "plain": {},
    "window": {"window": 9},
    "softcap": {"softcap": 3.0},
    "sink": {"sink": True},
    "everything": {"window": 20, "softcap": 5.0, "sink": True},
}


def gate_gradient(args, options, sink, mix):
    """Compute autograd through exp(g_j) on key j's unnormalised weight in the rows i >= stops[j].

    Returns the gradient of a nonlinear scalar of the output, and the arguments of the step: dO by autograd at the
    output, the log-sum-exp with the sink, and dO . o.
    """
    query, key, value, *_, stops = args
    (H, Q, _), (G, N, _) = query.shape, key.shape
    gate = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    later = torch.arange(N - Q, N)[:, None] >= stops
    logit = dense_logits(query, key, options) + gate * later
    if sink is not None:
        logit = torch.cat((logit, sink[:, None, None].expand(H, Q, 1)), -1)
    output = logit.softmax(-1)[..., :N] @ value.repeat_interleave(H // G, 0)
    scalar = torch.log_softmax(torch.tanh(output.transpose(0, 1).flatten(1)) @ mix, -1)[:, 0].sum()
    d_output, gradient = torch.autograd.grad(scalar, (output, gate))
    with torch.no_grad():
        lse, delta = logit.logsumexp(-1), (d_output * output).sum(-1)
    return gradient, (query, key, value, d_output, lse, delta, stops)


@pytest.mark.parametrize("which", CASES)
@pytest.mark.parametrize(("H", "G"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("rows", ["all", "some"])
def test_the_definition_is_the_gradient_of_a_gate(which, H, G, rows):
    """The stops include segments of one token, segments at the end of the prompt, and tokens in no segment."""
    chosen = dict(CASES[which])
    sink = torch.linspace(-1, 2, H, dtype=torch.float64) if chosen.pop("sink", False) else None
    N = BLOCK + 37
    stops = torch.arange(1, N + 1)
    stops[:30] = 30  # the first segment
    stops[30] = 31  # one token
    stops[40:200] = 200
    stops[N - 20 :] = N  # a segment that ends the prompt: no row counts
    args, options = case(N, N if rows == "all" else 41, D=8, Dv=5, H=H, G=G, stops=stops, **chosen)
    args = tuple(x.double() if x.is_floating_point() else x for x in args)
    mix = torch.randn(5 * H, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient, args = gate_gradient(args, options, sink, mix)
    assert gradient[:200].abs().min() > 0 or which in ("window", "everything")
    assert not gradient[N - 20 :].any()
    got = definition.removal_step(*args, **options)
    torch.testing.assert_close(got, gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(removal_step(*args, **options), gradient, rtol=1e-10, atol=1e-13)


def test_closing_a_gate_is_the_removal_to_first_order():
    """A finite step of one gate changes the scalar by c_j times the step, up to its square."""
    N, step = 40, 1e-5
    args, options = case(N, D=8, H=2, G=1, stops=torch.arange(1, N + 1))
    query, key, value, d_output = (x.double() for x in args[:4])
    logit = dense_logits(query, key, options)
    output = logit.softmax(-1) @ value
    delta = (d_output * output).sum(-1)
    effects = removal_step(query, key, value, d_output, logit.logsumexp(-1), delta, args[-1], **options)
    for j in (0, 7, N - 2):
        gated = logit.clone()
        gated[:, j + 1 :, j] += step
        change = (d_output * (gated.softmax(-1) @ value - output)).sum()
        assert float(change / step) == pytest.approx(float(effects[j]), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("N", [1, BLOCK, 2 * BLOCK + 3])
def test_blocks_where_d_output_is_zero_add_nothing(N):
    args, options = case(N, D=8)
    query, key, value, d_output, lse, delta, stops = (x.double() if x.is_floating_point() else x for x in args)
    d_output[:, : N - N // 3] = 0
    delta[:, : N - N // 3] = 0
    args = (query, key, value, d_output, lse, delta, stops)
    torch.testing.assert_close(removal_step(*args, **options), definition.removal_step(*args, **options))
    d_output.zero_()
    delta.zero_()
    assert not removal_step(*args, **options).any()
