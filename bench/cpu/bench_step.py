"""flow_step on the CPU, relative to torch's fused attention and to the same result computed by stock torch.

Every round times two baselines directly before ours, so the ratios are valid if the machine's speed drifts. One is
torch's SDPA forward (flash, causal, the same query, key and value). The other is the gradient of SDPA with respect to
the values (upstream rows), the same result from stock torch. `rate_ratio` compares FLOP/s: ours counts the one product
Q K^T, 2 H D N^2 / 2, SDPA's forward its two. `gradient_ratio` compares seconds. GF/s are for all threads together.
"""

import statistics
import time

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attributor import flow_step

HEADS = 8  # per layer; with fewer heads the product with R takes a larger part


@pytest.mark.parametrize("O", [1, 16, 128])
@pytest.mark.parametrize("N", [2048, 8192])
@pytest.mark.parametrize("D", [64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def bench_flow_step(benchmark, dtype, D, N, O):
    """One layer's step, all heads with their own keys."""
    H = HEADS
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(H, N, D, generator=g).to(dtype) for _ in range(3))
    rows = torch.rand(O, N, generator=g)
    lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[None], key[None], value[None], 0.0, True, scale=D**-0.5
    )[1][0]
    row_bias = -lse.float()
    sdpa: list[float] = []
    gradient: list[float] = []

    def baselines():
        began = time.perf_counter()
        scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)
        sdpa.append(time.perf_counter() - began)
        began = time.perf_counter()
        compute_by_gradient(rows, query, key)
        gradient.append(time.perf_counter() - began)

    benchmark.group = f"flow_step {'fp32' if dtype == torch.float32 else 'bf16'} D {D} N {N}"
    answer = benchmark.pedantic(
        flow_step,
        args=(rows, query, key, row_bias),
        kwargs={"scale": D**-0.5, "impl": "cpu"},
        setup=baselines,
        rounds=5,
        warmup_rounds=1,
    )
    exact = compute_by_gradient(rows.double(), query.double(), key.double()) if N == 2048 else None
    plain = flow_step(rows, query, key, row_bias, scale=D**-0.5, impl="reference").double()
    if exact is None:
        torch.testing.assert_close(answer.double(), plain, rtol=1e-3, atol=1e-4 * float(plain.max()))
    else:  # both ways use torch's log-sum-exp in float32 and share its error
        budget = (plain - exact).abs().sum()
        assert (answer.double() - exact).abs().sum() <= 2 * budget + 3e-6 * exact.sum()
    ours = benchmark.stats.stats.data
    sdpa, gradient = sdpa[-len(ours) :], gradient[-len(ours) :]
    flops = 2 * H * D * N * N / 2
    benchmark.extra_info |= {
        "dtype": str(dtype).removeprefix("torch."),
        "D": D,
        "N": N,
        "O": O,
        "H": H,
        "threads": torch.get_num_threads(),
        "gflops": flops / statistics.median(ours) / 1e9,
        "sdpa_gflops": 2 * flops / statistics.median(sdpa) / 1e9,
        "rate_ratio": statistics.median(b / 2 / t for t, b in zip(ours, sdpa, strict=True)),
        "gradient_ratio": statistics.median(b / t for t, b in zip(ours, gradient, strict=True)),
    }


def compute_by_gradient(rows, query, key):
    """Compute rows @ sum of attention with stock torch: the gradient of SDPA with respect to V, D rows at a time."""
    H, N, D = query.shape
    out = []
    for low in range(0, rows.shape[0], D):
        part = rows[low : low + D]
        padded = torch.zeros(N, D, dtype=query.dtype)
        padded[:, : part.shape[0]] = part.T
        value = torch.zeros(1, H, N, D, dtype=query.dtype, requires_grad=True)
        output = scaled_dot_product_attention(query[None], key[None], value, is_causal=True)
        (grad,) = torch.autograd.grad(output, value, padded.expand(1, H, N, D))
        out.append(grad[0].sum(0).T[: part.shape[0]])
    return torch.cat(out)
