"""Whole flow() on a GPU: Llamas of 1B, 3B and 8B with random weights, 8k to 131k tokens, beside a plain prefill.

Every round runs the prefill right before the flows; `extra_info["gpu"]` holds medians and their ratios. `share` of a
recording is what record() and its flow add to plain generation, as a part of one prefill.
"""

import statistics

import pytest
from gpu_device import DEVICE, REHEARSAL, begin_peak, free, peak, timed, why_not
from gpu_log import note, reason
from gpu_models import ANSWER, VARIANTS, Held, agree, ids_of, longest_with_matrices, matrices, stock_sweep
from gpu_shapes import FLOWS, MODELS, rehearsed

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

HELD = Held()
CHECKED: dict[str, float] = {}
ROUNDS = {8192: (1, 5), 32_768: (1, 3), 65_536: (0, 2), 131_072: (0, 1)}  # warm-ups and rounds
MASS = 1e-3  # that rows of a 16-bit model's flow may lack or have too much
SETTINGS = [pytest.param(name, tokens, id=f"{name}-{tokens}") for name, tokens in FLOWS]
AT_32K = [pytest.param(name, 32_768, id=f"{name}-32768") for name in ("8B", "1B")]


def model_of(name):
    """The model, once its flow by the kernel is known to be that of plain torch."""
    model = HELD.get(name)
    if name not in CHECKED:
        CHECKED[name] = agree(model, 24 if REHEARSAL else 1003)
        assert CHECKED[name] < 1e-4, f"the kernel's flow is off by {CHECKED[name]:.1e} from plain torch"
    return model


def right(flow, ids):
    """Assert a timed flow: its shape, and that nothing is missing."""
    assert flow.scores.shape == (ANSWER, ids.numel() - ANSWER)
    assert flow.scores.isfinite().all()
    assert flow.missing_mass.abs().max() < MASS


def compare(benchmark, name, tokens, baseline, others, last):
    """Time `baseline`, `others` and `last` after one another in every round; {variant: numbers}, and the last answer.

    A variant that the device refuses, or has no memory for, is reported with the reason.
    """
    model = model_of(name)
    ids = ids_of(model, rehearsed(tokens) if REHEARSAL else tokens)
    names = [baseline, *others, last]
    warm, rounds = ROUNDS[tokens]
    found = {variant: {"all": [], "peak_bytes": 0} for variant in names}

    def once(variant, *, count=True):
        mine = found[variant]
        if "missing" in mine:
            return None
        begin_peak()
        try:
            seconds, answer = timed(lambda: VARIANTS[variant](model, ids), "cudnn" if "cudnn" in variant else "")
        except (RuntimeError, MemoryError) as error:
            mine["missing"] = reason(error)
            if variant in (baseline, last):
                note("flow", model=name, tokens=tokens, variants={variant: mine})
                raise
            free()
            return None
        if count:
            mine["all"].append(seconds)
            mine["peak_bytes"] = max(mine["peak_bytes"], peak())
        if hasattr(answer, "missing_mass"):
            right(answer, ids)
            mine["missing_mass"] = float(answer.missing_mass.abs().max())
            mine["sweep_seconds"] = float(answer.meta["seconds_sweep"])
        return answer

    free()
    for variant in names if warm else []:
        once(variant, count=False)

    def before():
        for variant in names[:-1]:
            once(variant)

    answer = benchmark.pedantic(lambda: once(last), setup=before, rounds=rounds)
    base = found[baseline]["all"]
    for mine in found.values():
        times = mine.pop("all")
        if "missing" not in mine:
            mine["seconds"] = statistics.median(times)
            mine["ratio"] = statistics.median(t / b for t, b in zip(times, base, strict=True))
    return model, ids, found, answer


def keep(benchmark, kind, name, tokens, **found):
    """Store what was found and print a line of it."""
    model = {"model": name, "tokens": tokens, "parameters": MODELS[name].parameters, "agreement": CHECKED.get(name)}
    benchmark.extra_info["gpu"] = note(kind, **model, **found)
    for variant, mine in found.get("variants", {}).items():
        said = f"{mine['seconds']:.3f} s, {mine['ratio']:.3f}x" if "seconds" in mine else mine["missing"]
        print(f"    {name} at {tokens:,}: {variant}: {said}, peak {mine['peak_bytes'] / 1e9:.1f} GB", flush=True)


@pytest.mark.parametrize(("name", "tokens"), SETTINGS)
def bench_gpu_flow(benchmark, name, tokens):
    """flow() with all heads and with 32 chosen heads, against one plain prefill."""
    benchmark.group = f"flow() on a GPU at {tokens} tokens"
    others = ["flow, 32 heads"]
    if tokens == 32_768:  # both of what torch may choose for the baseline
        others.insert(0, "prefill, cudnn")
    _, _, found, _ = compare(benchmark, name, tokens, "prefill", others, "flow")
    keep(benchmark, "flow", name, tokens, variants=found, flops=MODELS[name].flops(tokens))


@pytest.mark.parametrize(("name", "tokens"), AT_32K)
def bench_gpu_record(benchmark, name, tokens):
    """record() around generate() and the flow, against plain generation; the share is of one prefill."""
    benchmark.group = f"record() on a GPU at {tokens} tokens"
    _, _, found, _ = compare(benchmark, name, tokens, "generate", ["prefill", "record, 32 heads"], "record")
    plain, prefill = found["generate"]["seconds"], found["prefill"].get("seconds")
    for variant in ("record", "record, 32 heads"):
        if prefill and "seconds" in found[variant]:
            found[variant]["share"] = (found[variant]["seconds"] - plain) / prefill
    keep(benchmark, "record", name, tokens, variants=found)


@pytest.mark.parametrize(("name", "tokens"), AT_32K[:1])
def bench_gpu_keep(benchmark, name, tokens):
    """Recorded tensors that wait in main memory, against those that stay on the device."""
    benchmark.group = f"flow() on a GPU at {tokens} tokens"
    _, _, found, _ = compare(benchmark, name, tokens, "flow, device", [], "flow, host")
    keep(benchmark, "keep", name, tokens, variants=found)


@pytest.mark.parametrize(("name", "tokens"), AT_32K[:1])
def bench_gpu_stock(benchmark, name, tokens):
    """The sweep by stock torch, the gradient of SDPA with respect to V, against ours over the same recording."""
    benchmark.group = f"sweep on a GPU at {tokens} tokens"
    model = model_of(name)
    ids = ids_of(model, rehearsed(tokens) if REHEARSAL else tokens)
    seconds, ours, error = benchmark.pedantic(stock_sweep, args=(model, ids), rounds=1)
    assert error < 0.1  # rows of 16 bits, halved and rounded at every layer
    found = {"stock_seconds": seconds, "sweep_seconds": ours, "ratio": seconds / ours, "error": error}
    keep(benchmark, "stock", name, tokens, **found)
    print(f"    {name} at {tokens:,}: stock sweep {seconds:.3f} s, ours {ours:.3f} s", flush=True)


def bench_gpu_matrices(benchmark):
    """output_attentions=True until it dies."""
    benchmark.group = "attention matrices on a GPU"
    name = "8B"
    model = model_of(name)
    sizes = {"first": 16, "most": 64} if REHEARSAL else {}
    ids = ids_of(model, 24 if REHEARSAL else 1003)
    expected = VARIANTS["flow"](model, ids).scores.double()
    assert (matrices(model, ids).double() - expected).abs().sum() < 0.1 * expected.sum()  # eager weights are 16-bit
    found = benchmark.pedantic(
        longest_with_matrices, args=(lambda tokens: matrices(model, ids_of(model, tokens)),), kwargs=sizes, rounds=1
    )
    free()
    keep(benchmark, "matrices", name, found["fits"], **found)
    print(f"    {name} on {DEVICE}: matrices of {found['fits']} tokens fit, died at {found['died_at']}", flush=True)
    assert found["fits"]
