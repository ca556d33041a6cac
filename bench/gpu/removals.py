"""removal_step on a GPU, compared with SDPA's forward pass."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attributor._step import removal_step
from gpu.measure import BASELINES, DEVICE, FLOOR, IMPL, REHEARSAL, Check, Inputs, race
from gpu.shapes import SMALL_REMOVALS, Removal


def make_inputs(removal: Removal) -> Inputs:
    """Return random inputs with about the log-sum-exp of each row and segments of 32 tokens."""
    g = torch.Generator(DEVICE).manual_seed(0)
    dtype, N, Q = getattr(torch, removal.dtype), removal.N, removal.Q
    sizes = {
        "query": (removal.H, Q, removal.D),
        "key": (removal.G, N, removal.D),
        "value": (removal.G, N, removal.Dv),
        "d_output": (removal.H, Q, removal.Dv),
    }
    tensors = {name: torch.randn(size, generator=g, device=DEVICE).to(dtype) for name, size in sizes.items()}
    lse = torch.arange(N - Q + 1, N + 1, device=DEVICE).log() + 0.5  # for that many normal logits
    delta = torch.randn(removal.H, Q, generator=g, device=DEVICE)
    stops = torch.arange(N, device=DEVICE) // 32 * 32 + 32
    rows = {"lse": lse.expand(removal.H, -1).contiguous(), "delta": delta, "stops": stops}
    return {**tensors, **rows, "scale": removal.D**-0.5}


def run_kernel(inputs: Inputs) -> Tensor:
    """Run removal_step with its kernel."""
    return removal_step(**inputs, impl=IMPL)


def compute_effects(inputs: Inputs, keys: Tensor, dtype: torch.dtype, block: int = 4096) -> tuple[Tensor, Tensor]:
    """Compute the result at some keys (C,) by the definition in `dtype`, and the sum of its terms' sizes, (C,) each."""
    query, d_output = inputs["query"], inputs["d_output"]
    key, value = (inputs[name][:, keys].to(dtype).mT for name in ("key", "value"))
    (H, Q, _), G, N = query.shape, len(key), len(inputs["stops"])
    answer, size = (torch.zeros(keys.numel(), dtype=torch.float64, device=DEVICE) for _ in range(2))
    for low in range(0, Q, block):
        rows = slice(low, min(low + block, Q))
        product = torch.bmm(query[:, rows].to(dtype).reshape(G, -1, query.shape[2]), key).reshape(H, -1, len(keys))
        change = torch.bmm(d_output[:, rows].to(dtype).reshape(G, -1, d_output.shape[2]), value).reshape(product.shape)
        weight = (inputs["scale"] * product - inputs["lse"][:, rows, None].to(dtype)).exp()
        terms = weight * (change - inputs["delta"][:, rows, None].to(dtype))
        early = torch.arange(N - Q, N, device=DEVICE)[rows, None] < inputs["stops"][keys]
        terms = terms.masked_fill(early, 0.0)
        answer += terms.sum((0, 1), dtype=torch.float64)
        size += terms.abs().sum((0, 1), dtype=torch.float64)
    return answer, size


def make_check(inputs: Inputs) -> Check:
    """Return a check against the definition in float64 on 96 keys, including the first and the last.

    The budget is twice the error of the definition in float32, plus FLOOR; errors are relative to the terms' sizes.
    """
    keys = torch.linspace(0, len(inputs["stops"]) - 1, 96, device=DEVICE).long().unique()
    exact, size = compute_effects(inputs, keys, torch.float64)

    def measure_error(effects: Tensor) -> float:
        return float((effects - exact).abs().sum() / size.sum())

    budget = measure_error(compute_effects(inputs, keys, torch.float32)[0])

    def check(label: str, answer: Tensor) -> dict[str, float]:
        if label in BASELINES:  # SDPA computes another result
            return {}
        assert torch.isfinite(answer).all(), "the answer is not finite"
        error = measure_error(answer[keys])
        assert error <= 2 * budget + FLOOR, f"off by {error:.1e}, the definition in float32 by {budget:.1e}"
        return {"error": error, "budget": budget}

    return check


def measure(removal: Removal) -> dict[str, Any]:
    """Measure removal_step and SDPA's forward pass, which computes two products of the same sizes."""
    size = removal.rehearsal() if REHEARSAL else removal
    inputs = make_inputs(size)
    runs = {label: BASELINES[label] for label in ("flash", "cudnn")} | {"triton": run_kernel}
    entries = race({label: partial(run, inputs) for label, run in runs.items()}, make_check(inputs))
    for entry in entries.values():
        entry["amount"] = size.flops
    return entries


def sanitize() -> None:
    """Run small calls that reach every kind of tile, once each."""
    for removal, options in SMALL_REMOVALS:
        assert torch.isfinite(removal_step(**make_inputs(removal), **options, impl=IMPL)).all()
