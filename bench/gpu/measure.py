"""Measurements of flow_step on a GPU: python -m gpu.measure steps | tunings | flows | sanitize KERNEL | launch.

Everything that is compared runs in turns, on the same inputs, and every timed answer is asserted. Each measurement is
recorded when it is complete and not repeated, so a program that was ended can be started again for the rest.
ATTRIBUTOR_GPU_REHEARSAL=reference runs everything on the CPU at tiny sizes: this finds mistakes in the programs, and
measures nothing.
"""

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attributor import DeviceMemoryError, ImplementationError, InputError, flow_step
from attributor._step.implementations import list_availability
from attributor.kernels.flow_step.errors import ImplementationFailure, UnsupportedCall
from gpu import HUNG, LOST, SKIPPED
from gpu.report import LOG, read, reason, record
from gpu.shapes import HEADLINE, SMALL, SMALL_CUDA, SMALL_TRITON, STEPS, TUNED, TUNINGS, Step

REHEARSAL = os.environ.get("ATTRIBUTOR_GPU_REHEARSAL", "")
DEVICE = torch.device("cpu") if REHEARSAL else torch.device("cuda", 0)
IMPL = REHEARSAL or "triton"  # what a tensor on a GPU gets by default
PATIENCE = float(os.environ.get("ATTRIBUTOR_GPU_PATIENCE", "60"))  # seconds for one test or measurement
SECONDS, MOST_ROUNDS = 3.0, 15  # of one measurement
# Tensor cores cut off the last bits of float32 sums: what that makes of a logit of 30.
FLOOR = 1e-5
# a call that has no kernel here, and SDPA's backends where they take no such call
REFUSALS = (ImplementationError, InputError, UnsupportedCall, NotImplementedError, RuntimeError)
DRIVER_ERRORS = (ImplementationError, ImplementationFailure)  # where they have a cause
FULL = (torch.OutOfMemoryError, DeviceMemoryError, MemoryError)


def kernels() -> list[str]:
    """The kernels that can run here; a rehearsal has both, each replaced by the implementation that it names."""
    usable = {entry.name for entry in list_availability() if entry.usable}
    return [name for name in ("triton", "cuda") if REHEARSAL or name in usable]


def watchdog(seconds: float = PATIENCE) -> threading.Timer:
    """A timer that ends the process, unless it is cancelled."""
    timer = threading.Timer(seconds, os._exit, [HUNG])
    timer.daemon = True
    if not REHEARSAL:
        timer.start()
    return timer


def device_is_lost() -> bool:
    """After an illegal access every later call of the process fails."""
    if not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by CUDA events from an idle device to the end of the last kernel, and what `work` returns."""
    if DEVICE.type != "cuda":
        began = time.perf_counter()
        answer = work()
        return time.perf_counter() - began, answer
    torch.cuda.synchronize(DEVICE)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    answer = work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3, answer


def free() -> None:
    """Return unused memory to the device."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


Work = Callable[[int], Any]
Check = Callable[[str, Any], dict[str, float]]


def race(works: dict[str, Work], check: Check, *, period: int = 1, rounds: int | None = None) -> dict[str, Any]:
    """Run all works in turn, round after round, and return the entries of a finding (report.py).

    Args:
        works: called with the number of the round, of which those that are multiples of `period` use the same inputs.
        check: called with the label and the answer of such a round, of the first and of the last; raises
            AssertionError for a wrong one, and returns what is to be recorded of a right one.
        period: inputs that rotate, so that the second-level cache does not hold them.
        rounds: the default fills SECONDS. 1 times the first call, for work of minutes.
    """
    entries: dict[str, Any] = {}
    duration = 0.0
    for label, work in works.items():
        free()
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats(DEVICE)
        try:
            first, answer = timed(partial(work, 0))  # compiles
            seconds, answer = timed(partial(work, 0)) if rounds is None else (first, answer)
            peak = torch.cuda.max_memory_allocated(DEVICE) if DEVICE.type == "cuda" else 0
            entries[label] = {"seconds": [first], "first_seconds": first, "peak_bytes": peak, **check(label, answer)}
        except FULL as error:
            entries[label] = {"missing": reason(error)}
        except REFUSALS as error:
            if device_is_lost() or (isinstance(error, DRIVER_ERRORS) and error.__cause__):
                raise
            entries[label] = {"missing": reason(error)}
        except AssertionError as error:
            entries[label] = {"wrong": reason(error)}
        else:
            duration += seconds
    racing = [label for label, entry in entries.items() if "seconds" in entry]
    if rounds == 1:
        return entries
    if rounds is None:
        rounds = max(3, min(MOST_ROUNDS, int(SECONDS / max(duration, 1e-9)))) if not REHEARSAL else 2
    last = -(-(rounds - 1) // period) * period
    times: dict[str, list[float]] = {label: [] for label in racing}
    for i in range(last + 1):
        for label in racing:
            seconds, answer = timed(partial(works[label], i))
            times[label].append(float(f"{seconds:.6g}"))
            if i == last:
                try:
                    entries[label] |= {**check(label, answer), "seconds": times[label]}
                except AssertionError as error:
                    entries[label] = {"wrong": reason(error)}
            del answer
    return entries


def each(
    kind: str,
    items: Iterable[tuple[str, Any]],
    measure: Callable[[Any, bool], dict[str, Any]],
    patience: float = PATIENCE,
) -> bool:
    """Record `measure(item, again)` of every (name, item) that has no record yet; False if an answer was wrong.

    `again` is True if a process began this item before and did not finish it. An item that ends a second process is
    recorded as failed.
    """
    lines = read(Path(os.environ[LOG]))
    done = {line["name"] for line in lines if line["kind"] == kind}
    right = True
    for name, item in items:
        begins = sum(line["kind"] == "begun" and line["name"] == f"{kind} {name}" for line in lines)
        if name in done:
            continue
        if begins > 1:
            record(kind, name, failed="it ended two processes, or took too long in both")
            continue
        record("begun", f"{kind} {name}")
        timer = watchdog(patience)
        free()
        try:
            fields = measure(item, begins > 0)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(LOST)
        timer.cancel()
        right = right and not any("wrong" in entry for entry in fields.get("entries", {}).values())
        record(kind, name, **fields)
    return right


@dataclass(frozen=True)
class Inputs:
    """Random arguments: rows (O, N) float32, query (H, N, D), key (G, N, D), row_bias (H, N) float32."""

    rows: Tensor
    query: Tensor
    key: Tensor
    row_bias: Tensor

    @property
    def scale(self) -> float:
        """Of the logits."""
        return float(self.query.shape[-1] ** -0.5)


def make_inputs(step: Step, seed: int) -> Inputs:
    """Random numbers: zeros take less power. The bias is about the log-sum-exp of each row, so rows sum to about 1."""
    g = torch.Generator(DEVICE).manual_seed(seed)
    dtype = getattr(torch, step.dtype)
    query, key = (torch.randn(n, step.N, step.D, generator=g, device=DEVICE).to(dtype) for n in (step.H, step.G))
    rows = torch.rand(step.O, step.N, generator=g, device=DEVICE)
    lse = torch.arange(1, step.N + 1, device=DEVICE).log() + 0.5  # of that many normal logits
    return Inputs(rows, query, key, (-lse - torch.tensor(step.H).log()).expand(step.H, -1).contiguous())


def run_forward(inputs: Inputs, backend: SDPBackend) -> Tensor:
    """SDPA's causal forward pass on the same query and key, by one of its backends; the key is the value too."""
    query, key = inputs.query[None], inputs.key[None]
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)


def run_gradient(inputs: Inputs) -> Tensor:
    """Rows @ sum of attention by stock torch, (O, N): the gradient of SDPA with respect to V, D rows at a time."""
    rows, query, key = inputs.rows, inputs.query[None], inputs.key[None]
    (O, N), (_, H, _, D) = rows.shape, query.shape
    parts = []
    for low in range(0, O, D):
        width = min(D, O - low)
        upstream = torch.zeros(N, D, dtype=query.dtype, device=DEVICE)
        upstream[:, :width] = rows[low : low + width].T
        value = torch.zeros(key.shape, dtype=query.dtype, device=DEVICE, requires_grad=True)
        with torch.enable_grad():
            output = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
            (gradient,) = torch.autograd.grad(output, value, upstream.expand(1, H, N, D))
        parts.append(gradient[0].float().sum(0).T[:width])
    return torch.cat(parts)


def run_kernel(inputs: Inputs, kernel: str) -> Tensor:
    """flow_step by one of its kernels."""
    tensors = (inputs.rows, inputs.query, inputs.key, inputs.row_bias)
    return flow_step(*tensors, scale=inputs.scale, impl=REHEARSAL or kernel)


def run_variant(inputs: Inputs, tuning: dict[str, int]) -> Tensor:
    """The CUDA kernel in a variant; in a rehearsal always the implementation that it names."""
    if REHEARSAL:
        return run_kernel(inputs, "cuda")
    from attributor import _cuda
    from attributor.kernels.flow_step import cuda

    H, G = inputs.query.shape[0], inputs.key.shape[0]
    index = torch.arange(H, device=DEVICE) // (H // G)
    options = {"scale": inputs.scale, "kv_index": index, "power": 1.0, "window": None, "softcap": None}
    tensors = (inputs.rows, inputs.query, inputs.key, inputs.row_bias, None)
    return cuda.flow_step(*tensors, **options, tuning=_cuda.Tuning(**tuning))


def compute_columns(inputs: Inputs, columns: Tensor, dtype: torch.dtype, block: int = 4096) -> Tensor:
    """Columns (C,) of the answer by the definition, (O, C) in `dtype`."""
    (O, N), (H, _, D), G = inputs.rows.shape, inputs.query.shape, inputs.key.shape[0]
    key = inputs.key[:, columns].to(dtype)
    answer = torch.zeros(O, columns.numel(), dtype=dtype, device=DEVICE)
    for low in range(0, N, block):
        high = min(low + block, N)
        query = inputs.query[:, low:high].to(dtype).reshape(G, -1, D)
        logit = inputs.scale * torch.bmm(query, key.mT).reshape(H, high - low, -1)
        weight = (logit + inputs.row_bias[:, low:high, None].to(dtype)).exp().sum(0)
        hidden = columns[None, :] > torch.arange(low, high, device=DEVICE)[:, None]
        answer += inputs.rows[:, low:high].to(dtype) @ weight.masked_fill(hidden, 0.0)
    return answer


def make_check(inputs: Inputs) -> Check:
    """Compares answers with the definition in float64, on the first, the last and some columns in the middle.

    The budget is twice the relative L1 error of the definition in float32, and FLOOR.
    """
    N = inputs.rows.shape[1]
    run = torch.arange(min(32, N), device=DEVICE)
    middle = max(0, min(N // 2 - 7, N - run.numel()))  # across the edge of a tile
    columns = torch.cat([run, middle + run, N - run.numel() + run]).unique()
    exact = compute_columns(inputs, columns, torch.float64)
    budget = relative_error(compute_columns(inputs, columns, torch.float32), exact)

    def check(label: str, answer: Tensor) -> dict[str, float]:
        if label in BASELINES:  # rows of the gradient are rounded to 16 bits; SDPA computes something else
            return {}
        assert torch.isfinite(answer).all(), "the answer is not finite"
        error = relative_error(answer[:, columns], exact)
        assert error <= 2 * budget + FLOOR, f"off by {error:.1e}, the definition in float32 by {budget:.1e}"
        return {"error": error, "budget": budget}

    return check


def relative_error(answer: Tensor, exact: Tensor) -> float:
    """L1 distance by the L1 norm of what is exact."""
    return float((answer.double() - exact.double()).abs().sum() / exact.double().abs().sum())


BASELINES: dict[str, Callable[[Inputs], Tensor]] = {
    "flash": partial(run_forward, backend=SDPBackend.FLASH_ATTENTION),
    "cudnn": partial(run_forward, backend=SDPBackend.CUDNN_ATTENTION),
    "gradient": run_gradient,
}


def rotate(step: Step) -> list[Inputs]:
    """As many sets of inputs as the second-level cache cannot hold."""
    cache = 1 << 16
    if DEVICE.type == "cuda":
        cache = int(getattr(torch.cuda.get_device_properties(DEVICE), "L2_cache_size", 0)) or 50 << 20
    return [make_inputs(step, seed) for seed in range(min(8, 1 + -(-3 * cache // step.nbytes)))]


def measure_step(step: Step, again: bool) -> dict[str, Any]:
    """flow_step by each kernel beside SDPA and the gradient route; by Triton alone after a process was ended."""
    size = step.rehearsal() if REHEARSAL else step
    inputs = rotate(size)
    names = [name for name in kernels() if not again or name == "triton"]
    runs = {**BASELINES, **{name: partial(run_kernel, kernel=name) for name in names}}
    works = {label: lambda i, run=run: run(inputs[i % len(inputs)]) for label, run in runs.items()}
    entries = race(works, make_check(inputs[0]), period=len(inputs))
    if again and "cuda" in kernels():
        entries["cuda"] = {"wrong": "it ended its process, or took too long"}
    for label, entry in entries.items():
        entry["amount"] = size.flops * (2 if label in ("flash", "cudnn") else 1)
    return {"entries": entries}


def measure_tuning(step: Step, again: bool) -> dict[str, Any]:
    """All compiled variants of the CUDA kernel."""
    size = step.rehearsal() if REHEARSAL else step
    inputs = rotate(size)
    variants = TUNINGS[:1] if again else TUNINGS
    labels = [", ".join(f"{name}={value:d}" for name, value in tuning.items()) or "as chosen" for tuning in variants]
    works = {
        label: lambda i, tuning=tuning: run_variant(inputs[i % len(inputs)], tuning)
        for label, tuning in zip(labels, variants, strict=True)
    }
    entries = race(works, make_check(inputs[0]), period=len(inputs))
    if again:
        entries["other variants"] = {"missing": "a process that measured them was ended, or took too long"}
    for entry in entries.values():
        entry["amount"] = size.flops
    return {"entries": entries}


def measure_ceiling(n: int, again: bool) -> dict[str, Any]:
    """What the device can do: multiply two matrices in bfloat16, and copy (bytes read and written)."""
    n = 64 if REHEARSAL else n
    pairs = [[torch.randn(n, n, device=DEVICE).bfloat16() for _ in range(2)] for _ in range(3)]
    source = torch.randint(0, 127, (16 * n * n,), dtype=torch.uint8, device=DEVICE)

    def check(label: str, answer: Tensor) -> dict[str, float]:
        exact = source if label == "copy" else pairs[0][0][:4].double() @ pairs[0][1].double()
        error = relative_error(answer[: len(exact)], exact)
        assert error < (1e-2 if label == "gemm" else 1e-9), f"off by {error:.1e}"
        return {"error": error}

    works = {"gemm": lambda i: pairs[i % 3][0] @ pairs[i % 3][1], "copy": lambda _: source.clone()}
    entries = race(works, check, period=3)
    for label, amount in (("gemm", 2 * n**3), ("copy", 2 * source.numel())):
        entries[label]["amount"] = amount
    return {"entries": entries}


def sanitize(kernel: str) -> None:
    """Small calls that reach every kind of tile, once each."""
    if kernel not in kernels():
        skip(f"impl={kernel!r} cannot run here")
    g = torch.Generator(DEVICE).manual_seed(0)
    for N, O, D, H, G, dtype, options in SMALL + (SMALL_CUDA if kernel == "cuda" else SMALL_TRITON):
        query, key = (torch.randn(n, N, D, generator=g, device=DEVICE).to(getattr(torch, dtype)) for n in (H, G))
        rows, bias = torch.rand(O, N, generator=g, device=DEVICE), torch.full((H, N), -6.0, device=DEVICE)
        key_bias = torch.zeros(H, N, device=DEVICE) if "softcap" in options else None
        index = torch.arange(H, device=DEVICE) % G if H % G else None
        options = {"scale": D**-0.5, "kv_index": index, "impl": REHEARSAL or kernel, **options}
        assert torch.isfinite(flow_step(rows, query, key, bias, key_bias, **options)).all()


def launch() -> None:
    """Two calls of the CUDA kernel, for Nsight Compute to look into the second."""
    if "cuda" not in kernels():
        skip("impl='cuda' cannot run here")
    inputs = make_inputs(HEADLINE.rehearsal() if REHEARSAL else HEADLINE, 0)
    for _ in range(2):
        run_kernel(inputs, "cuda")


def skip(why: str) -> None:
    """End with the status and the reason that run.py shows."""
    print(why, flush=True)
    raise SystemExit(SKIPPED)


def main(what: str, *arguments: str) -> None:
    """Measure; the exit status is 1 if an answer was wrong."""
    right = True
    if what == "steps":
        right = each("ceiling", [("8192 x 8192, bfloat16; 1 GiB", 8192)], measure_ceiling)
        right = each("step", [(step.name, step) for step in STEPS], measure_step) and right
    elif what == "tunings":
        if "cuda" not in kernels():
            skip("impl='cuda' cannot run here")
        right = each("tuning", [(step.name, step) for step in TUNED], measure_tuning)
    elif what == "flows":
        from gpu import flows

        right = flows.measure_all()
    else:
        {"sanitize": sanitize, "launch": launch}[what](*arguments)
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
