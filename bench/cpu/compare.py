"""Time a variant and its baseline in alternating rounds, and measure the peak memory of each in its own process."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from variants import VARIANTS, load_setting

import attributor

__all__ = ["ROUNDS", "compare"]

ROUNDS = {1024: 3, 2048: 3, 4096: 2, 8176: 1}


def compare(benchmark, variant, baseline, tokens, check):
    """Time `variant` with `baseline` before each of its rounds; `check` gets the timed result."""
    try:
        model, ids = load_setting(tokens)
    except attributor.ModelLoadError as error:
        pytest.skip(f"the default model cannot be loaded: {error}")
    base: list[float] = []

    def before():
        began = time.perf_counter()
        VARIANTS[baseline](model, ids)
        base.append(time.perf_counter() - began)

    answer = benchmark.pedantic(
        VARIANTS[variant], args=(model, ids), setup=before, rounds=ROUNDS[tokens], warmup_rounds=int(tokens < 4096)
    )
    check(model, ids, answer)
    times = benchmark.stats.stats.data
    base = base[-len(times) :]
    peaks = {name: peak(name, tokens) for name in (variant, baseline)}
    benchmark.extra_info |= {
        "tokens": tokens,
        "variant": variant,
        "baseline": baseline,
        "baseline_seconds": statistics.median(base),
        "ratio": statistics.median(t / b for t, b in zip(times, base, strict=True)),
        "peak_bytes": peaks[variant],
        "memory_ratio": peaks[variant] / peaks[baseline],
    }


PEAKS: dict[tuple[str, int], float] = {}


def peak(variant: str, tokens: int) -> float:
    """Return the peak resident memory of new processes that run the variant once: the median, because heaps vary."""
    if (variant, tokens) not in PEAKS:
        command = [sys.executable, str(Path(__file__).parent / "peak.py"), variant, str(tokens)]
        rounds = 3 if tokens < 8000 else 1
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(rounds)]
        PEAKS[variant, tokens] = statistics.median(json.loads(run.stdout.splitlines()[-1])["peak"] for run in runs)
    return PEAKS[variant, tokens]
