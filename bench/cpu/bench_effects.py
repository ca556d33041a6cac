"""effects() on SmolLM2-135M in float32: time relative to one plain forward, memory relative to a plain backward.

Targets in plain forwards: at most 4 at 2,048 tokens, 5 with checkpointed layers. rows="suffix" on the cache of the
prompt takes at most 0.2 at 2,048 tokens and 0.05 at 8,176. The peak memory of the checkpointed pass at 4,096 tokens is
at most 1.5 times that of a plain checkpointed backward.
"""

import pytest
import torch
from compare import compare
from variants import VARIANTS, O, load_setting, split

import attributor


def check(model, ids, effects):
    """Check that the timed effects agree with the pure-torch kernel, where it is fast enough."""
    k = ids.numel() - O
    assert effects.scores.shape == (len(split(k)),)
    assert bool(effects.scores.isfinite().all())
    if k <= 2048:
        expected = attributor.effects(model, ids, split(k), prompt_length=k, rows=effects.rows, impl="reference")
        distance = (effects.scores - expected.scores).abs().sum() / expected.scores.abs().sum()
        assert distance < 1e-3, f"{float(distance):.2g} off the reference"


@pytest.mark.parametrize("tokens", [1024, 2048])
def bench_effects(benchmark, tokens):
    """All rows, every activation kept."""
    benchmark.group = f"effects() at {tokens} tokens"
    compare(benchmark, "effects", "plain forward", tokens, check)


@pytest.mark.parametrize("tokens", [1024, 2048, 4096, 8176])
def bench_checkpointed_effects(benchmark, tokens):
    """All rows, the layers checkpointed."""
    benchmark.group = f"effects() at {tokens} tokens"
    compare(benchmark, "effects, checkpointed", "plain forward", tokens, check)


@pytest.mark.parametrize("tokens", [1024, 2048, 4096, 8176])
def bench_suffix_effects(benchmark, tokens):
    """The rows after the last segment, on the prompt's cache."""
    benchmark.group = f"effects() at {tokens} tokens"
    compare(benchmark, "effects, suffix", "plain forward", tokens, check)


@pytest.mark.parametrize("tokens", [1024, 2048, 4096, 8176])
def bench_memory(benchmark, tokens):
    """Time and peak memory of the checkpointed pass against a plain checkpointed backward."""
    benchmark.group = f"effects() at {tokens} tokens"
    compare(benchmark, "effects, checkpointed", "checkpointed backward", tokens, check)


def test_the_baseline_is_a_backward_pass():
    """It gives a gradient for every token and does not change the model."""
    model, ids = load_setting(100)
    gradient = VARIANTS["checkpointed backward"](model, ids)
    assert gradient.shape[1] == ids.numel() - 1
    assert bool(torch.isfinite(gradient).all() & gradient.any())
    assert not any("forward" in vars(layer) for layer in model.model.layers)
