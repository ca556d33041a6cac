"""What this device can do at most, measured in the run that reports ratios to it; prints and notes each.

Copy: bytes read and written. GEMM: 8192^3 in bfloat16 on random numbers. SDPA: causal forward, both products counted.
The gradient of SDPA with respect to V: seconds of the stock way to what one flow_step computes.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from gpu_device import DEVICE, REHEARSAL, free, timed
from gpu_log import attempt, note
from gpu_shapes import HEADLINE, smaller
from gpu_step import forward, gradient_of_values, inputs_of

__all__ = ["CEILINGS", "main"]

ROUNDS = 2 if REHEARSAL else 12
STEP = smaller(HEADLINE) if REHEARSAL else HEADLINE


def median(work: Callable[[int], Any], rounds: int = ROUNDS, sdpa: str = "") -> float:
    """Seconds of `work(round)` after two warm-ups."""
    for i in range(2):
        timed(lambda i=i: work(i), sdpa)
    return statistics.median(timed(lambda i=i: work(i), sdpa)[0] for i in range(rounds))


def copy() -> dict[str, Any]:
    """Device memory, 1 GiB to 1 GiB."""
    size = 1 << (14 if REHEARSAL else 30)
    source = torch.randint(0, 127, (size,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    seconds = median(lambda _: target.copy_(source))
    assert torch.equal(source, target)
    return {"value": 2 * size / seconds / 1e9, "unit": "GB/s", "seconds": seconds, "what": "read and written"}


def gemm() -> dict[str, Any]:
    """Three pairs of matrices in turn."""
    n = 64 if REHEARSAL else 8192
    pairs = [[torch.randn(n, n, device=DEVICE).bfloat16() for _ in range(2)] for _ in range(3)]
    seconds = median(lambda i: pairs[i % 3][0] @ pairs[i % 3][1])
    return {"value": 2 * n**3 / seconds / 1e12, "unit": "TF", "seconds": seconds, "what": f"{n}^3 bfloat16, random"}


def fused(name: str) -> dict[str, Any]:
    """SDPA's forward at the headline's shape."""
    given = inputs_of(STEP, 0)
    seconds = median(lambda _: forward(given), sdpa=name)
    return {"value": STEP.forward_flops / seconds / 1e12, "unit": "TF", "seconds": seconds, "what": STEP.name}


def gradient() -> dict[str, Any]:
    """Forward and backward for O rows, as torch chooses the backend; TF of the one product that is needed."""
    given = inputs_of(STEP, 0)
    seconds = median(lambda _: gradient_of_values(given), 2 if REHEARSAL else 5)
    return {"value": STEP.flops / seconds / 1e12, "unit": "TF", "seconds": seconds, "what": STEP.name}


CEILINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "copy": copy,
    "gemm": gemm,
    "sdpa flash": lambda: fused("flash"),
    "sdpa cudnn": lambda: fused("cudnn"),
    "gradient of V": gradient,
}


def main() -> None:
    """Measure all of them; one that cannot be measured is noted with the reason."""
    for name, work in CEILINGS.items():
        free()
        found = note("ceiling", name=name, **attempt(name, work))
        if "value" in found:
            print(f"    {name}: {found['value']:.4g} {found['unit']} ({found['what']})", flush=True)


if __name__ == "__main__":
    main()
