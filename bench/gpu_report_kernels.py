"""What a run's table says of flow_step: calls by each kernel, goals, cuts of the CUDA kernel, its units' load."""

from collections.abc import Iterable, Sequence
from typing import Any

from gpu_shapes import GOALS, HEADLINE, NEAR, NEAR_HEADLINE, Step

__all__ = ["cell", "kernels", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Markdown; nothing without rows."""
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""] if body else []


def cell(found: dict[str, Any] | None, key: str, form: str) -> str:
    """A number, or that there is none."""
    return form.format(found[key]) if found and key in found else "not measured"


def kernels(run: dict[str, Any]) -> list[str]:
    """All of it."""
    return [*_steps(run), *_goals(run), *_tunings(run.get("tunings", [])), *_units(run.get("ncu", []))]


def _steps(run: dict[str, Any]) -> list[str]:
    gemm = next((c["value"] for c in run.get("ceilings", []) if c["name"] == "gemm" and "value" in c), None)
    rows = []
    for s in run.get("steps", []):
        base = s["baselines"]
        rates = [cell(base.get(name), "rate_ratio", "{:.2f}x") for name in ("flash", "cudnn")]
        shape = [f"{s['N']:,}", f"{s['H']}, {s['G']}", str(s["D"]), str(s["O"]), s["dtype"]]
        share = f"{s['tf'] / gemm:.0%}" if gemm else ""
        others = [cell(base.get("gradient"), "ratio", "{:.1f}x")]
        others += [cell(base.get("triton"), "ratio", "{:.2f}x") if s["kernel"] != "triton" else ""]
        others += [f"{s['error']:.0e}"]
        rows.append([*shape, s["kernel"], f"{1e3 * s['seconds']:.3f}", f"{s['tf']:.4g}", *rates, share, *others])
    head = ("N", "H, G", "D", "O", "dtype", "kernel", "ms", "TF", "of flash's rate", "of cuDNN's rate", "of the GEMM's")
    said = (
        "The last columns: seconds of the stock gradient route over ours, Triton's seconds over the CUDA kernel's, and "
        "the relative L1 error of what was timed."
    )
    return ["## flow_step", "", said, "", *table((*head, "gradient route", "Triton", "error"), rows)] if rows else []


def _goals(run: dict[str, Any]) -> list[str]:
    """What was wanted of the CUDA kernel on an H100 beside what this run measured, also by Triton."""
    measured = {(s["name"], s["kernel"]): s["tf"] for s in run.get("steps", [])}
    if not any(name == HEADLINE.name for name, _ in measured):
        return []

    def tf(step: Step, kernel: str) -> str:
        return f"{measured[step.name, kernel]:.4g}" if (step.name, kernel) in measured else "not measured"

    def share(step: Step, kernel: str) -> str:
        both = [measured.get((which.name, kernel)) for which in (step, HEADLINE)]
        return f"{both[0] / both[1]:.2f}" if both[0] and both[1] else "not measured"

    rows = [[f"TF at {step.name}", f">= {goal:.0f}", tf(step, "cuda"), tf(step, "triton")] for step, goal in GOALS]
    rows += [
        [
            f"rate at O = {step.O}, of that at O = {HEADLINE.O}",
            f">= {NEAR:.2f}",
            share(step, "cuda"),
            share(step, "triton"),
        ]
        for step in NEAR_HEADLINE
    ]
    said = "What was wanted of the CUDA kernel on an H100."
    return ["## Goals", "", said, "", *table(("of", "goal", "cuda", "triton"), rows)]


def _tunings(found: list[dict[str, Any]]) -> list[str]:
    """Allowed: by the arithmetic of roofline.py, known before anything was timed."""
    rows = []
    for t in found:
        if "missing" in t:
            continue
        error = "wrong" if "wrong" in t else f"{t['error']:.0e}"
        measured = [cell(t, "seconds", "{:.3f}"), cell(t, "tf", "{:.4g}"), cell(t, "ratio", "{:.3f}x")]
        if "seconds" in t:
            measured[0] = f"{1e3 * t['seconds']:.3f}"
        rows.append([t["step"], t["name"], f"{t['allowed']:.0f}", *measured, error])
    head = ("call", "cut", "TF allowed", "ms", "TF", "of the chosen cut's speed", "error")
    said = "What arithmetic allows each cut (`docs/gpu-roofline.md`) was noted before it was timed."
    return ["## Cuts of the CUDA kernel", "", said, "", *table(head, rows)] if rows else []


def _units(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for f in found:
        units = [[name, f"{value:.1f}%"] for name, value in f["units"].items()]
        stalls = [[name.replace("_", " "), f"{value:.2f}"] for name, value in f["stalls"].items()]
        took = f"{f['milliseconds']:.3f} ms" if f["milliseconds"] is not None else "unknown time"
        lines += ["## Units of one launch, by ncu", "", f"{f['name']}, {took}.", ""]
        lines += table(("unit", "busy"), units)
        lines += table(("warps wait for", "warps, for each instruction issued"), stalls)
    return lines
