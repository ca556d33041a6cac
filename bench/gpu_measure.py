"""flow_step timed on a GPU by each of its kernels, beside fused attention and the stock way to the same answer."""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from gpu_device import asked, begin_peak, cache_bytes, free, peak, timed
from gpu_log import note, reason
from gpu_shapes import Step
from gpu_step import Inputs, forward, gradient_of_values, inputs_of, ours, truth_of
from torch import Tensor

from attributor import ImplementationError, InputError
from attributor._routes import REFUSALS

__all__ = ["measure"]

SECONDS = 3.0  # for the rounds of one shape
REFUSED = (ImplementationError, InputError)  # how ours say that a call is not for them
BASELINES: dict[str, Callable[[Inputs], Tensor]] = {"flash": forward, "cudnn": forward, "gradient": gradient_of_values}


def measure(step: Step, benchmark: Any, name: str) -> list[dict[str, Any]]:
    """Time flow_step, each round right after SDPA's forward (flash, cuDNN) and the gradient route on the same inputs.

    All kernels that were asked for take part in every round; one finding for each. Inputs rotate so that the
    second-level cache does not hold them. `benchmark` is pytest-benchmark's fixture; its own numbers are the host's,
    those in the findings are the device's.
    """
    free()
    count = min(8, 1 + -(-3 * cache_bytes() // step.nbytes))
    sets = [inputs_of(step, seed) for seed in range(count)]
    work = {**BASELINES, **{kernel: partial(ours, kernel=kernel) for kernel in asked()}}
    first: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    a_round = 0.0
    for which in work:
        refusals = REFUSALS if which in BASELINES else REFUSED
        try:
            first[which], seconds = _first_calls(which, work[which], sets[0])
            a_round += seconds
        except refusals as error:
            if isinstance(error, ImplementationError) and error.__cause__:  # the device failed
                raise
            missing[which] = reason(error)
            free()
    mine = [kernel for kernel in asked() if kernel in first]
    if not mine:
        raise AssertionError(f"no kernel takes {name}: {missing}")
    times: dict[str, list[float]] = {which: [] for which in first}
    turn = itertools.cycle(sets)
    current = sets[0]
    last = mine[-1]
    answers: dict[str, Tensor] = {}

    def once(which: str) -> None:
        seconds, answer = _seconds(which, work[which], current)
        times[which].append(seconds)
        if which in mine:
            answers[which] = answer

    def before() -> None:
        nonlocal current
        current = next(turn)
        for which in times:
            if which != last:
                once(which)

    def run() -> None:
        once(last)

    benchmark.pedantic(run, setup=before, rounds=max(3, min(30, int(SECONDS / a_round))))
    truth = truth_of(current)
    found = []
    for kernel in mine:
        errors = truth.check(answers[kernel])
        others = {which: _against(which, step, times[which], times[kernel]) for which in times if which != kernel}
        seconds = statistics.median(times[kernel])
        line = {
            "name": name,
            "kernel": kernel,
            **asdict(step),
            "nbytes": step.nbytes,
            "rounds": len(times[kernel]),
            "seconds": seconds,
            "tf": step.flops / seconds / 1e12,
            **first[kernel],
            **errors,
            "baselines": {**others, **{which: {"missing": why} for which, why in missing.items() if which != kernel}},
        }
        found.append(note("step", **line))
        print(f"    {name} by {kernel}: {line['tf']:.4g} TF, {seconds * 1e3:.4g} ms, {_said(line)}", flush=True)
    benchmark.extra_info["gpu"] = found
    return found


def _seconds(which: str, work: Callable[[Inputs], Tensor], given: Inputs) -> tuple[float, Tensor]:
    """Of one call; one that is named after a backend of SDPA gets that one."""
    return timed(lambda: work(given), which if which in ("flash", "cudnn") else "")


def _first_calls(which: str, work: Callable[[Inputs], Tensor], given: Inputs) -> tuple[dict[str, Any], float]:
    """What the first call takes, which compiles where nothing was compiled before, and memory; seconds of another."""
    began = time.perf_counter()
    _seconds(which, work, given)
    first = time.perf_counter() - began
    begin_peak()
    seconds = _seconds(which, work, given)[0]
    return {"first_call_seconds": first, "peak_bytes": peak()}, seconds


def _against(which: str, step: Step, others: list[float], mine: list[float]) -> dict[str, float]:
    """A baseline's seconds, and medians over the rounds of its seconds over ours."""
    seconds = statistics.median(others)
    found = {"seconds": seconds, "ratio": statistics.median(b / t for t, b in zip(mine, others, strict=True))}
    if which in ("flash", "cudnn"):  # rates: the forward computes two products, ours one
        found |= {"tf": step.forward_flops / seconds / 1e12, "rate_ratio": found["ratio"] / 2}
    return found


def _said(line: dict[str, Any]) -> str:
    return ", ".join(
        f"{which} {'not measured' if 'missing' in found else format(found['ratio'], '.3g') + 'x the time'}"
        for which, found in line["baselines"].items()
    )
