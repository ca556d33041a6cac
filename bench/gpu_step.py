"""One call of flow_step on a GPU, timed beside fused attention and the stock way to the same answer."""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from gpu_device import DEVICE, IMPL, begin_peak, cache_bytes, free, peak, timed
from gpu_log import note, reason
from gpu_shapes import Step
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attributor import _mask, flow_step
from attributor._attention import attention

__all__ = ["FLOOR", "Inputs", "gradient_of_values", "inputs_of", "measure", "some_columns"]

# Tensor cores cut off the last bits of float32 sums where other units round them: what that does to a logit of 30.
FLOOR = 1e-5
SECONDS = 3.0  # for the rounds of one shape
REFUSALS = (RuntimeError, NotImplementedError, TypeError)  # how a backend says that a call is not for it


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


def ours(given: Inputs) -> Tensor:
    """flow_step."""
    return flow_step(given.rows, given.query, given.key, given.row_bias, scale=given.scale, impl=IMPL)


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


def check(given: Inputs, answer: Tensor) -> dict[str, float]:
    """Assert the timed answer on three runs of columns; what it errs, and what plain float32 does.

    Relative L1, against float64 on the same inputs. Twice the error of plain torch and `FLOOR` are allowed.
    """
    N = given.rows.shape[1]
    run = torch.arange(min(32, N), device=DEVICE)
    middle = max(0, min(N // 2 - 7, N - run.numel()))  # across the edge of a tile
    columns = torch.cat([run, middle + run, N - run.numel() + run]).unique()
    exact = some_columns(given, columns, torch.float64)
    size = exact.abs().sum()
    budget = float((some_columns(given, columns, torch.float32).double() - exact).abs().sum() / size)
    error = float((answer[:, columns].double() - exact).abs().sum() / size)
    assert torch.isfinite(answer).all(), "the timed answer is not finite"
    assert error <= 2 * budget + FLOOR, f"the timed answer is off by {error:.1e}, plain float32 by {budget:.1e}"
    return {"error": error, "budget": budget}


def measure(step: Step, benchmark: Any, name: str) -> dict[str, Any]:
    """Time flow_step, each round right after SDPA's forward (flash, cuDNN) and the gradient route on the same inputs.

    Inputs rotate so that the second-level cache does not hold them. `benchmark` is pytest-benchmark's fixture; its own
    numbers are the host's, those in the findings are the device's.
    """
    free()
    count = min(8, 1 + -(-3 * cache_bytes() // step.nbytes))
    sets = [inputs_of(step, seed) for seed in range(count)]
    alive = {"flash": forward, "cudnn": forward, "gradient": gradient_of_values}
    began = time.perf_counter()
    timed(lambda: ours(sets[0]))
    first_call = time.perf_counter() - began  # compiles, where nothing was compiled before
    begin_peak()
    a_round = timed(lambda: ours(sets[0]))[0]
    most = peak()
    missing = {}
    for other, work in list(alive.items()):
        try:
            baseline_seconds(other, work, sets[0])
            a_round += baseline_seconds(other, work, sets[0])
        except REFUSALS as error:
            missing[other] = reason(error)
            del alive[other]
            free()
    times: dict[str, list[float]] = {other: [] for other in (*alive, "ours")}
    turn = itertools.cycle(sets)
    current = sets[0]

    def before() -> None:
        nonlocal current
        current = next(turn)
        for other, work in alive.items():
            times[other].append(baseline_seconds(other, work, current))

    def run() -> Tensor:
        seconds, result = timed(lambda: ours(current))
        times["ours"].append(seconds)
        return result

    rounds = max(3, min(30, int(SECONDS / a_round)))
    answer = benchmark.pedantic(run, setup=before, rounds=rounds)
    errors = check(current, answer)
    mine = times.pop("ours")
    found = {
        "name": name,
        **asdict(step),
        "nbytes": step.nbytes,
        "rounds": len(mine),
        "seconds": statistics.median(mine),
        "tf": step.flops / statistics.median(mine) / 1e12,
        "first_call_seconds": first_call,
        "peak_bytes": most,
        **errors,
        "baselines": {other: {"missing": why} for other, why in missing.items()},
    }
    for other, others in times.items():
        baseline = {"seconds": statistics.median(others), "ratio": _median_ratio(others, mine)}
        if other != "gradient":  # rates: the forward computes two products, ours one
            baseline["tf"] = step.forward_flops / baseline["seconds"] / 1e12
            baseline["rate_ratio"] = baseline["ratio"] / 2
        found["baselines"][other] = baseline
    benchmark.extra_info["gpu"] = note("step", **found)
    print(
        f"    {name}: {found['tf']:.4g} TF, {found['seconds'] * 1e3:.4g} ms {_said(found['baselines'])}",
        flush=True,
    )
    return found


def baseline_seconds(name: str, work: Callable[[Inputs], Tensor], given: Inputs) -> float:
    """Of one call of a baseline; one that is named after a backend gets that one."""
    return timed(lambda: work(given), "" if name == "gradient" else name)[0]


def _median_ratio(others: list[float], mine: list[float]) -> float:
    return statistics.median(b / t for t, b in zip(mine, others, strict=True))


def _said(baselines: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {'not measured' if 'missing' in found else format(found['ratio'], '.3g') + 'x the time'}"
        for name, found in baselines.items()
    )
