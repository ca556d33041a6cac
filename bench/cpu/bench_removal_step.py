"""removal_step on the CPU, relative to torch's fused attention.

Every round times torch's SDPA forward (flash, causal, the same query, key and value) directly before ours, so the ratio
is valid if the machine's speed drifts. `rate_ratio` compares FLOP/s: both compute two products,
2 (D + Dv) H N^2 / 2. GF/s are for all threads together.
"""

import statistics
import time

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attributor._step import removal_step
from attributor.kernels.removal_step import definition

HEADS = 8
SEGMENT = 32  # tokens


@pytest.mark.parametrize("N", [2048, 8192])
@pytest.mark.parametrize("D", [64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def bench_removal_step(benchmark, dtype, D, N):
    """One layer's step over all rows, all heads with their own keys and values."""
    H = HEADS
    g = torch.Generator().manual_seed(0)
    query, key, value, d_output = (torch.randn(H, N, D, generator=g).to(dtype) for _ in range(4))
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[None], key[None], value[None], 0.0, True, scale=D**-0.5
    )
    args = (query, key, value, d_output, lse[0].float(), (output[0].float() * d_output.float()).sum(-1))
    stops = (torch.arange(N) // SEGMENT + 1) * SEGMENT
    sdpa: list[float] = []

    def baseline():
        began = time.perf_counter()
        scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)
        sdpa.append(time.perf_counter() - began)

    benchmark.group = f"removal_step {'fp32' if dtype == torch.float32 else 'bf16'} D {D} N {N}"
    answer = benchmark.pedantic(
        removal_step,
        args=(*args, stops),
        kwargs={"scale": D**-0.5, "impl": "cpu"},
        setup=baseline,
        rounds=5,
        warmup_rounds=1,
    )
    plain = removal_step(*args, stops, scale=D**-0.5, impl="reference")
    if N == 2048:
        doubles = (tensor.double() for tensor in args)
        exact = definition.removal_step(*doubles, stops, scale=D**-0.5, window=None, softcap=None)
        assert (answer - exact).abs().sum() <= 2 * (plain - exact).abs().sum() + 3e-6 * exact.abs().sum()
    else:
        torch.testing.assert_close(answer, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))
    ours = benchmark.stats.stats.data
    sdpa = sdpa[-len(ours) :]
    flops = 2 * (D + D) * H * N * N / 2
    benchmark.extra_info |= {
        "step": "removal_step",
        "dtype": str(dtype).removeprefix("torch."),
        "D": D,
        "N": N,
        "H": H,
        "threads": torch.get_num_threads(),
        "gflops": flops / statistics.median(ours) / 1e9,
        "sdpa_gflops": flops / statistics.median(sdpa) / 1e9,
        "rate_ratio": statistics.median(b / t for t, b in zip(ours, sdpa, strict=True)),
    }
