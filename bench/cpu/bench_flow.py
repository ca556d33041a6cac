"""flow() on SmolLM2-135M in float32, relative to one plain forward and to matrix products of attentions.

Every round times the baseline directly before the variant, so a drift in machine speed does not change the ratio.
Scores agree to 2e-5 relative: the float noise of 30 layers, also visible in missing_mass, is about 5e-6 of a score.
`ratio` in extra_info is the median over rounds of variant / baseline. `memory_ratio` is the same ratio for the peak
resident memory of a process that runs nothing else.
"""

import psutil
import pytest
import torch
from compare import compare
from variants import O, choose_weights, load_setting, run_materialised

import attributor

LENGTHS = [1024, 2048, 4096, 8176]  # the model has 8,192 positions, and the answer takes 16


def make_check(name: str):
    """Return a check of the timed flow: rows sum to 1 and agree with the pure-torch implementation, if fast enough."""

    def check(model, ids, flow):
        assert flow.scores.shape == (O, ids.numel() - O)
        assert flow.missing_mass.abs().max() < 1e-4
        if name == "sixteen" or ids.numel() < 2000:
            expected = attributor.flow(
                model, flow.ids, prompt_length=flow.prompt_length, weights=choose_weights(name), impl="reference"
            )
            torch.testing.assert_close(flow.scores, expected.scores, rtol=2e-5, atol=2e-6)

    return check


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("heads", ["all", "16"])
def bench_flow(benchmark, heads, tokens):
    """flow() against one plain forward over the same tokens."""
    benchmark.group = f"flow() at {tokens} tokens"
    name = "all" if heads == "all" else "sixteen"
    compare(benchmark, f"flow, {heads} heads", "plain forward", tokens, make_check(name))


@pytest.mark.parametrize("tokens", LENGTHS[:3])
def bench_materialised(benchmark, tokens):
    """output_attentions=True and matrix products, against one plain forward."""
    benchmark.group = f"flow() at {tokens} tokens"
    needed = 270 * (tokens + O) ** 2 * 4 * 1.3 + 3e9
    if psutil.virtual_memory().available < needed:
        pytest.skip(f"the attention matrices of {tokens} tokens need {needed / 1e9:.1f} GB")

    def check(model, ids, scores):
        flow = attributor.flow(model, ids, prompt_length=ids.numel() - O)
        torch.testing.assert_close(scores, flow.scores, rtol=2e-5, atol=2e-6)

    compare(benchmark, "materialised", "plain forward", tokens, check)


@pytest.mark.parametrize("tokens", LENGTHS[:3])
@pytest.mark.parametrize("heads", ["all", "16"])
def bench_record(benchmark, heads, tokens):
    """Generation inside record() and its flow, against plain generation of the same tokens."""
    benchmark.group = f"record() at {tokens} tokens"
    name = "all" if heads == "all" else "sixteen"
    compare(benchmark, f"record, {heads} heads", "generate", tokens, make_check(name))


def test_materialised_is_the_same_definition():
    """The baseline computes what the flow computes."""
    model, ids = load_setting(200)
    flow = attributor.flow(model, ids, prompt_length=200)
    torch.testing.assert_close(run_materialised(model, ids), flow.scores, rtol=2e-5, atol=2e-6)
