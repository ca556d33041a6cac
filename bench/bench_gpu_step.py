"""flow_step on a GPU over N, O, D, key heads and chosen heads, by each of its kernels, beside SDPA and its gradient.

`extra_info["gpu"]` holds what CUDA events said: TF of Q K^T (2 H D N^2 / 2), and medians over rounds of ratios to
baselines of the same round: `rate_ratio` compares FLOP/s with SDPA's forward (two products), `ratio` compares seconds.
The answer that was timed is asserted on some of its columns, against float64. ATTRIBUTOR_GPU_KERNELS=cuda asks one.
"""

import pytest
from gpu_device import REHEARSAL, why_not
from gpu_measure import measure
from gpu_shapes import STEPS, smaller

if why_not():
    pytest.skip(why_not(), allow_module_level=True)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def bench_gpu_step(benchmark, step):
    """One layer's step."""
    benchmark.group = f"flow_step on a GPU, N {step.N}"
    found = measure(smaller(step) if REHEARSAL else step, benchmark, step.name)
    assert all(line["seconds"] > 0 for line in found)
