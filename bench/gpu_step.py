"""One call of flow_step on a GPU: its arguments, its baselines, and whether an answer is right."""

import math
from dataclasses import dataclass

import torch
from gpu_device import DEVICE, REHEARSAL
from gpu_shapes import Step
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attributor import _mask, flow_step
from attributor._attention import attention

__all__ = ["FLOOR", "Inputs", "Truth", "forward", "gradient_of_values", "inputs_of", "ours", "some_columns", "truth_of"]

# Tensor cores cut off the last bits of float32 sums where other units round them: what that does to a logit of 30.
FLOOR = 1e-5


@dataclass(frozen=True)
class Inputs:
    """Random arguments: rows (O, N) float32, query (H, N, D), key and value (G, N, D), row_bias (H, N) float32."""

    rows: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    row_bias: Tensor

    @property
    def scale(self) -> float:
        """Of the logits."""
        return float(self.query.shape[-1] ** -0.5)


def inputs_of(step: Step, seed: int) -> Inputs:
    """Random numbers, never zeros: those draw less power. The log-sum-exp is the one that attributor would record."""
    g = torch.Generator(DEVICE).manual_seed(seed)
    dtype = getattr(torch, step.dtype)
    query, key, value = (
        torch.randn(heads, step.N, step.D, generator=g, device=DEVICE).to(dtype) for heads in (step.H, step.G, step.G)
    )
    rows = torch.rand(step.O, step.N, generator=g, device=DEVICE)
    mask = _mask.causal(1, step.N, 0, 0, step.N, DEVICE)
    lse = attention(query[None], key[None], value[None], mask, scale=step.D**-0.5)[1][0]
    return Inputs(rows, query, key, value, (-lse - math.log(step.H)).float())


def forward(given: Inputs) -> Tensor:
    """SDPA's forward, causal, on the same query, key and value."""
    query, key, value = given.query[None], given.key[None], given.value[None]
    return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


def gradient_of_values(given: Inputs) -> Tensor:
    """Rows @ sum of attention by stock torch, (O, N): the gradient of SDPA with respect to V, D rows at a time.

    In the dtype of query and key, rows included, by the backend that torch chooses.
    """
    rows, query = given.rows, given.query[None]
    (O, N), (_, H, _, D) = rows.shape, query.shape
    G = given.key.shape[0]
    parts = []
    for low in range(0, O, D):
        width = min(D, O - low)
        upstream = torch.zeros(N, D, dtype=query.dtype, device=DEVICE)
        upstream[:, :width] = rows[low : low + width].T
        value = torch.zeros(1, G, N, D, dtype=query.dtype, device=DEVICE, requires_grad=True)
        with torch.enable_grad():
            output = scaled_dot_product_attention(query, given.key[None], value, is_causal=True, enable_gqa=True)
            (found,) = torch.autograd.grad(output, value, upstream.expand(1, H, N, D))
        parts.append(found[0].float().sum(0).T[:width])
    return torch.cat(parts)


def ours(given: Inputs, kernel: str) -> Tensor:
    """flow_step by one of its kernels."""
    return flow_step(given.rows, given.query, given.key, given.row_bias, scale=given.scale, impl=REHEARSAL or kernel)


def some_columns(given: Inputs, columns: Tensor, dtype: torch.dtype, block: int = 4096) -> Tensor:
    """Columns (C,) of the answer by the definition, (O, C) in `dtype`: all queries, a few keys."""
    (O, N), (H, _, D), G = given.rows.shape, given.query.shape, given.key.shape[0]
    key = given.key[:, columns].to(dtype)
    found = torch.zeros(O, columns.numel(), dtype=dtype, device=DEVICE)
    for low in range(0, N, block):
        high = min(low + block, N)
        query = given.query[:, low:high].to(dtype).reshape(G, -1, D)
        logit = given.scale * torch.bmm(query, key.mT).reshape(H, high - low, -1)
        weight = (logit + given.row_bias[:, low:high, None].to(dtype)).exp().sum(0)
        hidden = columns[None, :] > torch.arange(low, high, device=DEVICE)[:, None]
        found += given.rows[:, low:high].to(dtype) @ weight.masked_fill(hidden, 0.0)
    return found


@dataclass(frozen=True)
class Truth:
    """Three runs of columns of the answer in float64, (O, C), and what plain float32 errs on them."""

    columns: Tensor
    exact: Tensor
    budget: float

    def check(self, answer: Tensor) -> dict[str, float]:
        """Assert an answer: relative L1 of twice the error of plain torch and `FLOOR` are allowed. What it errs."""
        assert torch.isfinite(answer).all(), "the answer is not finite"
        error = _relative(answer[:, self.columns], self.exact)
        assert error <= 2 * self.budget + FLOOR, f"off by {error:.1e}, plain float32 by {self.budget:.1e}"
        return {"error": error, "budget": self.budget}


def truth_of(given: Inputs) -> Truth:
    """The first, the last and the middle columns, across the edge of a tile."""
    N = given.rows.shape[1]
    run = torch.arange(min(32, N), device=DEVICE)
    middle = max(0, min(N // 2 - 7, N - run.numel()))
    columns = torch.cat([run, middle + run, N - run.numel() + run]).unique()
    exact = some_columns(given, columns, torch.float64)
    return Truth(columns, exact, _relative(some_columns(given, columns, torch.float32), exact))


def _relative(got: Tensor, exact: Tensor) -> float:
    return float((got.double() - exact).abs().sum() / exact.abs().sum())
