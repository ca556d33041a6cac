"""The CUDA kernel in every cut that is compiled: each asserted, timed in turns, beside what arithmetic allows it.

A build with ATTRIBUTOR_CUDA_TUNING=ON has the most. Expectations in words are in csrc/cuda/README.md; the TF that
`roofline.py` allows a cut are noted before it is timed.
"""

import statistics
from dataclasses import replace
from typing import Any

import torch
from gpu_device import DEVICE, REHEARSAL, free, kernels, timed
from gpu_log import note, reason
from gpu_shapes import HEADLINE, Step, smaller
from gpu_step import Inputs, Truth, inputs_of, truth_of
from roofline_units import compiled, seconds
from torch import Tensor

from attributor import ImplementationError, flow_step
from attributor.kernels.flow_step.errors import UnsupportedCall

__all__ = ["CUTS", "allowed", "main", "named"]

ROUNDS = 2 if REHEARSAL else 9
# Fields of Tuning, in csrc/cuda/flow_step.h. The first is what is chosen.
CUTS: tuple[dict[str, int], ...] = (
    {},
    {"held": 1},
    {"held": 0},
    {"keys_shared": True},
    {"turns": True},
    {"turns": True, "held": 1},
    {"turns": True, "queries": 192},
    {"turns": True, "emulated": 2},
    {"cluster": 1},
    {"emulated": 2},
    *({"group": group} for group in (4, 16, 32)),
    *({"parts": parts} for parts in (1, 2, 4, 8, 16)),
)
# The headline; where exponentials bound; few chosen heads, of one row and of many; more rows than registers hold
STEPS = (HEADLINE, replace(HEADLINE, D=64), *(replace(HEADLINE, H=1, G=1, O=O) for O in (1, 128)),
         replace(HEADLINE, H=4, G=4, O=16), replace(HEADLINE, O=512))  # fmt: skip


def named(cut: dict[str, int]) -> str:
    """For tables."""
    return ", ".join(name if name in ("turns", "keys_shared") else f"{name}={value}" for name, value in cut.items())


def allowed(step: Step, cut: dict[str, int]) -> float:
    """TF that the arithmetic of `roofline.py` leaves of a whole call in this cut."""
    layout = compiled(step)
    if "held" in cut:
        layout = compiled(replace(step, H=1 if cut["held"] else 8))
    if cut.get("turns"):
        queries = cut.get("queries", 128)
        layout = replace(layout, from_registers=False, queries=queries, width=queries)
        layout = replace(layout, held=16) if queries == 192 else layout
    if cut.get("keys_shared"):
        layout = replace(layout, from_registers=False)
    layout = replace(layout, **{name: cut[name] for name in ("cluster", "emulated", "group") if name in cut})
    return step.flops / seconds(step, layout, cut.get("parts", 0)) / 1e12


def call(given: Inputs, cut: dict[str, int]) -> Tensor:
    """The kernel in this cut; in a rehearsal whatever is rehearsed, in none."""
    if REHEARSAL:
        return flow_step(given.rows, given.query, given.key, given.row_bias, scale=given.scale, impl=REHEARSAL)
    from attributor import _cuda
    from attributor.kernels.flow_step import cuda

    H, G = given.query.shape[0], given.key.shape[0]
    tuning = _cuda.Tuning(**cut)
    index = torch.arange(H, device=DEVICE) // (H // G)
    return cuda.flow_step(
        given.rows, given.query, given.key, given.row_bias, None,
        scale=given.scale, kv_index=index, power=1.0, window=None, softcap=None, tuning=tuning,
    )  # fmt: skip


def first(given: Inputs, truth: Truth, cut: dict[str, int]) -> dict[str, Any]:
    """What a cut errs; or {"missing"} where it is not compiled, {"wrong"} where its answer is not right."""
    try:
        answer = call(given, cut)
    except (UnsupportedCall, AttributeError, TypeError) as error:
        return {"missing": reason(error)}
    try:
        return truth.check(answer)
    except AssertionError as error:
        return {"wrong": str(error)}


def measure(step: Step, name: str) -> int:
    """Every cut of one call, a round of all after another; how many were wrong."""
    free()
    sets = [inputs_of(step, seed) for seed in range(2)]
    truth = truth_of(sets[0])
    found: dict[str, dict[str, Any]] = {}
    for cut in CUTS:  # noted before anything is timed: a cut that hangs takes the rest with it
        found[named(cut)] = {"allowed": allowed(step, cut), **first(sets[0], truth, cut)}
        note("tuning", step=name, name=named(cut) or "as chosen", **found[named(cut)])
    alive = [cut for cut in CUTS if "missing" not in found[named(cut)]]
    times: dict[str, list[float]] = {named(cut): [] for cut in alive}
    for i in range(ROUNDS):
        for cut in alive:
            times[named(cut)].append(timed(lambda cut=cut, i=i: call(sets[i % 2], cut))[0])
    for cut in CUTS:
        line = found[named(cut)]
        if mine := times.get(named(cut)):
            ratios = [usual / t for t, usual in zip(mine, times[named({})], strict=True)]
            took = statistics.median(mine)
            line |= {"seconds": took, "tf": step.flops / took / 1e12, "ratio": statistics.median(ratios)}
        note("tuning", step=name, name=named(cut) or "as chosen", **line)
        said = f"{line['tf']:.4g} TF of {line['allowed']:.0f} allowed" if "tf" in line else line["missing"]
        print(f"    {name}, {named(cut) or 'as chosen'}: {line.get('wrong', said)}", flush=True)
    return sum("wrong" in line for line in found.values())


def main() -> None:
    """Measure them; a failure where an answer is wrong."""
    if "cuda" not in kernels():
        print("    the CUDA kernel cannot run here", flush=True)
        raise SystemExit(5)
    wrong = 0
    for step in STEPS:
        try:
            wrong += measure(smaller(step) if REHEARSAL else step, step.name)
        except ImplementationError as error:
            raise SystemExit(f"the device failed: {error}") from None
    if wrong:
        raise SystemExit(f"{wrong} answers were wrong")


if __name__ == "__main__":
    main()
