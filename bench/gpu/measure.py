"""Measurements on a GPU: python -m gpu.measure steps | tunings | flows | sanitize KERNEL | launch.

All compared works run in turns on the same inputs, and every timed result is checked. Each measurement is recorded when
it is complete. ATTRIBUTOR_GPU_REHEARSAL=reference runs everything on the CPU at tiny sizes: this finds mistakes in the
programs and measures nothing.
"""

import contextlib
import faulthandler
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attributor import AttributorError, flow_step
from attributor._step.implementations import list_availability
from attributor.kernels.common.errors import ImplementationFailure, UnsupportedCall
from gpu.report import KERNELS, SKIPPED, kernel_of, read, record
from gpu.shapes import FLOWS, HEADLINE, REMOVALS, SMALL, SMALL_CUDA, SMALL_TRITON, STEPS, TUNED, TUNINGS, Step

REHEARSAL = os.environ.get("ATTRIBUTOR_GPU_REHEARSAL", "")
LOG = Path(os.environ.get("ATTRIBUTOR_GPU_LOG", os.devnull))
PATIENCE = float(os.environ.get("ATTRIBUTOR_GPU_PATIENCE", "60"))  # seconds per test; a call has twice as long
DEVICE = torch.device("cpu") if REHEARSAL else torch.device("cuda", 0)
IMPL = REHEARSAL or "triton"  # the default for tensors on a GPU
ROUNDS = 1 if REHEARSAL else 7
CACHE = 256 << 20  # bytes, more than any L2 cache
# Tensor cores truncate the last bits of float32 sums: the effect on a logit of 30.
FLOOR = 1e-5
Inputs = dict[str, Any]  # arguments of flow_step or removal_step
Check = Callable[[str, Any], dict[str, float]]


def find_obstacle(kernel: str, *, crashes: bool = True) -> str | None:
    """Return why a kernel cannot be measured here; None if it can. In a rehearsal the reference replaces both.

    With `crashes`, a crashed test is also a reason, because the measurement would crash in the same way.
    """
    entry = next(entry for entry in list_availability() if entry.name == kernel)
    if not REHEARSAL and not entry.usable:
        return f"impl={kernel!r} cannot run here: {entry.reason}"
    tests = [line["name"] for line in read(LOG) if line.get("outcome") == "crashed"] if crashes else []
    return next((f"impl={kernel!r} ended the process of {name}" for name in tests if kernel_of(name) == kernel), None)


@contextlib.contextmanager
def watchdog(seconds: float = PATIENCE) -> Iterator[None]:
    """End the process with a traceback if the work inside takes too long: a wait for a kernel cannot be interrupted."""
    if not REHEARSAL:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def exit_if_lost() -> None:
    """End the process if its device is unusable, as after an illegal access, because every later call would fail."""
    try:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except RuntimeError as error:
        print(error, file=sys.__stderr__, flush=True)
        os._exit(1)


def time_work(work: Callable[[], Any]) -> tuple[float, int, Any]:
    """Return seconds by CUDA events from an idle device to the end of the last kernel, peak memory, and the result."""
    if DEVICE.type != "cuda":
        began = time.perf_counter()
        answer = work()
        return time.perf_counter() - began, 0, answer
    torch.empty(CACHE, dtype=torch.uint8, device=DEVICE).zero_()  # clears the inputs from the L2 cache
    torch.cuda.synchronize(DEVICE)
    torch.cuda.reset_peak_memory_stats(DEVICE)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    answer = work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3, torch.cuda.max_memory_allocated(DEVICE), answer


def attempt(label: str, work: Callable[[], Any], check: Check) -> tuple[float | None, dict[str, Any]]:
    """Return the seconds of one call and the record of its result; None and the reason if it is wrong or cannot run."""
    try:
        with watchdog(2 * PATIENCE):
            seconds, peak, answer = time_work(work)
        return seconds, {"peak_bytes": peak, **check(label, answer)}
    except AssertionError as error:
        return None, {"wrong": repr(error)[:200]}
    except (AttributorError, UnsupportedCall, RuntimeError, MemoryError) as error:
        exit_if_lost()
        failed = ImplementationFailure in (type(error), type(error.__cause__))
        return None, {"wrong" if failed else "missing": repr(error)[:200]}


def race(works: dict[str, Callable[[], Any]], check: Check, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run all works in turn, round after round, and return the entries of a finding (report.py).

    Args:
        works: the timed functions by label.
        check: called with the label and every result; raises AssertionError for a wrong one and returns the record of
            a right one.
        rounds: number of rounds after the first call, which compiles; with 0 (for work of minutes) the first is timed.
    """
    entries: dict[str, Any] = {label: {"seconds": []} for label in works}
    gc.collect()
    gc.freeze()  # excludes all current objects from the collections below, which saves 0.1 s each
    try:
        for i in range(rounds + 1):
            for label, entry in entries.items():
                if "seconds" not in entry:
                    continue
                if i == 0:
                    gc.collect()
                    torch.cuda.empty_cache()
                seconds, fields = attempt(label, works[label], check)
                if seconds is None:
                    entries[label] = fields
                    continue
                entry |= fields
                if i or not rounds:
                    entry["seconds"].append(seconds)
    finally:
        gc.unfreeze()
    return entries


def make_inputs(step: Step) -> Inputs:
    """Return random inputs: zeros take less power. The bias is about each row's log-sum-exp, so rows sum to about 1."""
    g = torch.Generator(DEVICE).manual_seed(0)
    dtype = getattr(torch, step.dtype)
    query, key = (torch.randn(n, step.N, step.D, generator=g, device=DEVICE).to(dtype) for n in (step.H, step.G))
    rows = torch.rand(step.O, step.N, generator=g, device=DEVICE)
    lse = torch.arange(1, step.N + 1, device=DEVICE).log() + 0.5  # for that many normal logits
    row_bias = (-lse - torch.tensor(step.H).log()).expand(step.H, -1).contiguous()
    return {"rows": rows, "query": query, "key": key, "row_bias": row_bias, "scale": step.D**-0.5}


def run_forward(inputs: Inputs, backend: SDPBackend) -> Tensor:
    """Run SDPA's forward pass on the same query and key with one backend; the key also serves as a missing value.

    Causal, but without a mask if the queries are the last of a longer input, which is nearly the same work.
    """
    query, key, value = (inputs[name][None] for name in ("query", "key", "value" if "value" in inputs else "key"))
    with sdpa_kernel(backend):
        causal = query.shape[2] == key.shape[2]
        return scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=True)


def run_gradient(inputs: Inputs) -> Tensor:
    """Compute rows @ sum of attention, (O, N), by stock torch: the gradient of SDPA for V, D rows at a time."""
    rows, query, key = inputs["rows"], inputs["query"][None], inputs["key"][None]
    _, H, N, D = query.shape
    parts = []
    for part in rows.split(D):
        upstream = torch.zeros(N, D, dtype=query.dtype, device=DEVICE)
        upstream[:, : len(part)] = part.T
        value = torch.zeros_like(key, requires_grad=True)
        output = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        (gradient,) = torch.autograd.grad(output, value, upstream.expand(1, H, N, D))
        parts.append(gradient[0].float().sum(0).T[: len(part)])
    return torch.cat(parts)


def run_kernel(inputs: Inputs, kernel: str) -> Tensor:
    """Run flow_step with one of its kernels."""
    return flow_step(**inputs, impl=REHEARSAL or kernel)


def run_variant(inputs: Inputs, tuning: dict[str, int]) -> Tensor:
    """Run the CUDA kernel in a variant; in a rehearsal always the rehearsal's implementation."""
    if REHEARSAL:
        return run_kernel(inputs, "cuda")
    from attributor import _cuda
    from attributor.kernels.flow_step import cuda

    H, G = len(inputs["query"]), len(inputs["key"])
    index = torch.arange(H, device=DEVICE) // (H // G)
    options = {"key_bias": None, "kv_index": index, "power": 1.0, "window": None, "softcap": None}
    return cuda.flow_step(**inputs, **options, tuning=_cuda.Tuning(**tuning))


def compute_columns(inputs: Inputs, columns: Tensor, dtype: torch.dtype, block: int = 4096) -> Tensor:
    """Compute columns (C,) of the result by the definition, (O, C) in `dtype`."""
    rows, query, key = inputs["rows"], inputs["query"], inputs["key"][:, columns].to(dtype)
    (O, N), (H, _, D), G = rows.shape, query.shape, len(key)
    answer = torch.zeros(O, columns.numel(), dtype=dtype, device=DEVICE)
    for low in range(0, N, block):
        high = min(low + block, N)
        product = torch.bmm(query[:, low:high].to(dtype).reshape(G, -1, D), key.mT)
        logit = inputs["scale"] * product.reshape(H, high - low, -1)
        weight = (logit + inputs["row_bias"][:, low:high, None].to(dtype)).exp().sum(0)
        hidden = columns[None, :] > torch.arange(low, high, device=DEVICE)[:, None]
        answer += rows[:, low:high].to(dtype) @ weight.masked_fill(hidden, 0.0)
    return answer


def make_check(inputs: Inputs) -> Check:
    """Return a check against the definition in float64 on 96 columns, including the first and the last.

    The budget is twice the relative L1 error of the definition in float32, plus FLOOR.
    """
    columns = torch.linspace(0, inputs["rows"].shape[1] - 1, 96, device=DEVICE).long().unique()
    exact = compute_columns(inputs, columns, torch.float64)
    budget = relative_error(compute_columns(inputs, columns, torch.float32), exact)

    def check(label: str, answer: Tensor) -> dict[str, float]:
        if label in BASELINES:  # rows of the gradient are rounded to 16 bits; SDPA computes another result
            return {}
        assert torch.isfinite(answer).all(), "the answer is not finite"
        error = relative_error(answer[:, columns], exact)
        assert error <= 2 * budget + FLOOR, f"off by {error:.1e}, the definition in float32 by {budget:.1e}"
        return {"error": error, "budget": budget}

    return check


def relative_error(answer: Tensor, exact: Tensor) -> float:
    """Return the L1 distance divided by the L1 norm of the exact values."""
    return float((answer.double() - exact.double()).abs().sum() / exact.double().abs().sum())


BASELINES: dict[str, Callable[[Inputs], Tensor]] = {
    "flash": partial(run_forward, backend=SDPBackend.FLASH_ATTENTION),
    "cudnn": partial(run_forward, backend=SDPBackend.CUDNN_ATTENTION),
    "gradient": run_gradient,
}


def measure_step(step: Step, runs: Mapping[str, Callable[[Inputs], Tensor]]) -> dict[str, Any]:
    """Measure several ways to compute one call of flow_step, and its baselines."""
    size = step.rehearsal() if REHEARSAL else step
    inputs = make_inputs(size)
    entries = race({label: partial(run, inputs) for label, run in runs.items()}, make_check(inputs))
    for label, entry in entries.items():
        entry["amount"] = size.flops * (2 if label in ("flash", "cudnn") else 1)
    return entries


def measure_ceiling(n: int) -> dict[str, Any]:
    """Measure the limits of the device: multiplying two bfloat16 matrices, and copying (bytes read and written)."""
    n = 64 if REHEARSAL else n
    left, right = (torch.randn(n, n, device=DEVICE).bfloat16() for _ in range(2))
    source = torch.randint(0, 127, (16 * n * n,), dtype=torch.uint8, device=DEVICE)
    exact = left[:4].double() @ right.double()

    def check(label: str, answer: Tensor) -> dict[str, float]:
        error = relative_error(answer[:4], exact) if label == "gemm" else float(not torch.equal(answer, source))
        assert error < 1e-2, f"off by {error:.1e}"
        return {"error": error}

    entries = race({"gemm": lambda: left @ right, "copy": source.clone}, check)
    entries["gemm"]["amount"], entries["copy"]["amount"] = 2 * n**3, 2 * source.numel()
    return entries


def sanitize(kernel: str) -> None:
    """Run small calls that reach every kind of tile, once each."""
    for step, options in SMALL + (SMALL_CUDA if kernel == "cuda" else SMALL_TRITON):
        inputs = make_inputs(step)
        key_bias = torch.zeros_like(inputs["row_bias"]) if "softcap" in options else None
        assert torch.isfinite(flow_step(**inputs, **options, key_bias=key_bias, impl=REHEARSAL or kernel)).all()
    if kernel == "triton":
        from gpu import removals

        removals.sanitize()


def launch() -> None:
    """Run two calls of the CUDA kernel; Nsight Compute profiles the second."""
    inputs = make_inputs(HEADLINE.rehearsal() if REHEARSAL else HEADLINE)
    for _ in range(2):
        run_kernel(inputs, "cuda")


def main(what: str, kernel: str = "cuda") -> None:
    """Measure. If the kernel cannot run here, print the reason and return the exit status SKIPPED."""
    needed = {"flows": "triton", "steps": None}.get(what, kernel)
    if needed and (obstacle := find_obstacle(needed, crashes=what != "sanitize")):
        print(obstacle)
        sys.exit(SKIPPED)
    if what == "steps":
        record(LOG, "ceiling", "8192 x 8192, bfloat16; 1 GiB", entries=measure_ceiling(8192))
        kernels = {name: partial(run_kernel, kernel=name) for name in KERNELS if not find_obstacle(name)}
        for step in STEPS:
            record(LOG, "step", step.name, entries=measure_step(step, BASELINES | kernels))
        if "triton" in kernels:
            from gpu import removals

            for removal in REMOVALS:
                record(LOG, "removal", removal.name, entries=removals.measure(removal))
    elif what == "tunings":
        variants = {}
        for tuning in TUNINGS:
            label = ", ".join(f"{name}={value:d}" for name, value in tuning.items())
            variants[label or "as chosen"] = partial(run_variant, tuning=tuning)
        for step in TUNED:
            record(LOG, "tuning", step.name, entries=measure_step(step, variants))
    elif what == "flows":
        from gpu import flows

        for kind, model, tokens in FLOWS:
            record(LOG, kind, f"{model}, {tokens:,}", entries=flows.measure(kind, model, tokens))
    elif what == "sanitize":
        sanitize(kernel)
    else:
        launch()


if __name__ == "__main__":
    main(*sys.argv[1:])
