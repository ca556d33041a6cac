"""The table and the roofline plot of one run of gpu_check.py: python bench/gpu_report.py RUN.json.

Writes RUN.md and RUN.svg beside it. Needs no GPU and no torch; the plot needs matplotlib.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_report_kernels import cell, kernels, table

__all__ = ["main", "markdown", "plot"]

GB = 1e9
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b5ea7", "#444444")  # by head size


def markdown(run: dict[str, Any]) -> str:
    """The whole run for people; what is not there yet is left out, or named under "Not measured"."""
    device, versions = run["device"], run["versions"]
    title = "Rehearsal on a CPU: these numbers mean nothing" if run["rehearsal"] else str(device["name"])
    dirty = {True: " with changes", False: "", None: ""}[run.get("dirty")]
    lines = [
        f"# {title}",
        "",
        f"`make gpu-check` at {run['commit'] or 'an unknown commit'}{dirty}, {run['datetime']}, "
        f"{run['seconds']:.0f} s. "
        + ", ".join(f"{name} {value}" for name, value in versions.items() if value)
        + f", driver {device.get('driver_version', 'unknown')}.",
        "",
        "Medians of CUDA events; ratios are medians over rounds that ran the baseline right before. TF counts the one",
        "product Q K^T below the diagonal, 2 H D N^2 / 2; the rates of SDPA's forward count its two products.",
        "",
        *table(
            ("stage", "status", "seconds", "said"),
            ([s["name"], s["status"], f"{s['seconds']:.1f}", s["why"]] for s in run["stages"]),
        ),
    ]
    lines += _ceilings(run.get("ceilings", []))
    lines += _tests(run.get("tests"), run.get("sanitizer", []))
    lines += kernels(run)
    lines += _flows(run)
    if wrong := run.get("benchmarks that failed"):
        lines += ["## Benchmarks that failed", ""]
        lines += [f"- `{bench['test']}`: {' '.join(bench['said'].split())[:300]}" for bench in wrong] + [""]
    if missing := _missing(run):
        lines += ["## Not measured", "", *(f"- {line}" for line in missing), ""]
    return "\n".join(lines)


def _ceilings(found: list[dict[str, Any]]) -> list[str]:
    rows = [
        [c["name"], f"{c['value']:.4g} {c['unit']}", f"{1e3 * c['seconds']:.3g} ms", c["what"]]
        for c in found
        if "value" in c
    ]
    return ["## Ceilings", "", *table(("of this device, in this run", "", "", "of"), rows)] if rows else []


def _tests(tests: dict[str, Any] | None, sanitizer: list[dict[str, Any]]) -> list[str]:
    if not tests or not any(tests[name] for name in ("passed", "failed", "skipped")):
        return []
    said = f"{tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
    if sanitizer:
        each = (f"{s['tool']} of {s['kernel']} {s['status']}" for s in sanitizer)
        said += f"; compute-sanitizer: {', '.join(each)}"
    lines = ["## Tests", "", f"{said}. {tests['seconds']:.0f} s, added up over processes.", ""]
    skipped: dict[str, list[str]] = {}
    for test in tests["not passed"]:
        said = " ".join(test["said"].split())[:300]
        if test["outcome"] == "skipped":
            skipped.setdefault(said, []).append(test["test"])
        else:
            lines.append(f"- {test['outcome']}: `{test['test']}`: {said}")
    for said, names in skipped.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"- skipped: `{names[0]}`{others}: {said}")
    return [*lines, ""] if tests["not passed"] else lines


def _flows(run: dict[str, Any]) -> list[str]:
    lines = []
    rows = []
    for f in sorted(run.get("flows", []), key=lambda f: (f["model"], f["tokens"])):
        v = f["variants"]
        cells = [f["model"], f"{f['tokens']:,}", cell(v.get("prefill"), "seconds", "{:.3f} s")]
        cells += [cell(v.get(name), "ratio", "{:.3f}x") for name in ("flow", "flow, 32 heads")]
        cells += [cell(v.get("flow"), "sweep_seconds", "{:.3f} s"), cell(v.get("prefill, cudnn"), "ratio", "{:.3f}x")]
        cells += [_gb(v.get(name)) for name in ("prefill", "flow", "flow, 32 heads")]
        rows.append(cells)
    if rows:
        head = ("model", "tokens", "prefill", "flow, all heads", "32 heads", "sweep, all heads", "prefill by cuDNN")
        peaks = ("peak GB: prefill", "all heads", "32 heads")
        lines += ["## flow(), as multiples of one plain prefill", "", *table((*head, *peaks), rows)]
    rows = []
    for f in run.get("records", []):
        v = f["variants"]
        cells = [f["model"], f"{f['tokens']:,}", cell(v.get("generate"), "seconds", "{:.3f} s")]
        for name in ("record", "record, 32 heads"):
            cells += [cell(v.get(name), "ratio", "{:.3f}x"), cell(v.get(name), "share", "{:.3f}")]
        rows.append(cells)
    if rows:
        head = ("model", "tokens", "generation", "record, all heads", "share of a prefill", "32 heads", "share")
        lines += ["## record() around generate(), and the flow", "", *table(head, rows)]
    said = []
    for f in run.get("keeps", []):
        host = cell(f["variants"].get("flow, host"), "ratio", "{:.3f}x")
        said.append(f"- {f['model']} at {f['tokens']:,}: keep='host' takes {host} of keep='device'.")
    for f in run.get("stocks", []):
        said.append(
            f"- {f['model']} at {f['tokens']:,}: the sweep by the gradient of SDPA takes {f['stock_seconds']:.2f} s, "
            f"ours {f['sweep_seconds']:.2f} s ({f['ratio']:.1f}x); its rows are 16-bit, {f['error']:.0e} from ours."
        )
    for f in run.get("matrices", []):
        died = f"ran out of memory at {f['died_at']:,}" if f["died_at"] else "did not run out of memory"
        said.append(f"- {f['model']} with output_attentions=True: {f['fits'] or 0:,} tokens fit; {died}.")
    return [*lines, *said, ""] if said else lines


def _gb(found: dict[str, Any] | None) -> str:
    return f"{found['peak_bytes'] / GB:.1f}" if found and "seconds" in found else ""


def _missing(run: dict[str, Any]) -> list[str]:
    """What could not be measured, and why."""
    found = [f"{c['name']}: {c['missing']}" for c in run.get("ceilings", []) if "missing" in c]
    for s in run.get("steps", []):
        found += [f"{name} at {s['name']}: {b['missing']}" for name, b in s["baselines"].items() if "missing" in b]
    found += [f"{t['name']} at {t['step']}: {t['missing']}" for t in run.get("tunings", []) if "missing" in t]
    for kind in ("flows", "records", "keeps"):
        for f in run.get(kind, []):
            at = f"{f['model']} at {f['tokens']:,}"
            found += [f"{name}, {at}: {v['missing']}" for name, v in f["variants"].items() if "missing" in v]
    found += [
        f"stage {s['name']} ({s['status']}): {s['why']}" for s in run["stages"] if s["status"] not in ("done", "failed")
    ]
    return list(dict.fromkeys(found))


def plot(run: dict[str, Any], path: Path) -> None:
    """The roofline: TF over FLOP a byte of every call of flow_step, under what the device can do.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the run has no call of flow_step.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    steps = run.get("steps", [])
    if not steps:
        raise ValueError("the run has no call of flow_step to plot")
    ceilings = {c["name"]: c["value"] for c in run.get("ceilings", []) if "value" in c}
    matplotlib.rcParams["svg.hashsalt"] = "attributor"  # the same file from the same run
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    xs = [s["flops"] if "flops" in s else 2 * s["H"] * s["D"] * s["N"] ** 2 / 2 for s in steps]
    intensity = [x / s["nbytes"] for x, s in zip(xs, steps, strict=True)]
    span = [min(intensity) / 2, max(intensity) * 2]
    if "copy" in ceilings:
        slope = ceilings["copy"] * GB / 1e12
        top = ceilings.get("gemm", max(s["tf"] for s in steps) * 2)
        axes.plot([span[0], max(span[0], top / slope)], [slope * span[0], max(slope * span[0], top)], color="0.5", lw=1)
        axes.annotate("copy", (span[0], slope * span[0]), color="0.4", fontsize=8)
    for name, label in (("gemm", "8192³ GEMM"), ("sdpa cudnn", "cuDNN forward"), ("sdpa flash", "flash forward")):
        if name in ceilings:
            axes.axhline(ceilings[name], color="0.5", lw=1, ls="-" if name == "gemm" else "--")
            axes.annotate(label, (span[1], ceilings[name]), ha="right", va="bottom", color="0.4", fontsize=8)
    kernels_seen = sorted({s["kernel"] for s in steps}, reverse=True)  # triton, cuda
    colours = dict(zip(sorted({s["D"] for s in steps}), COLOURS, strict=False))
    for kernel, markers in zip(kernels_seen, ("ox", "s+"), strict=False):
        for (D, colour), many in itertools.product(colours.items(), (True, False)):
            chosen = [
                (x, s)
                for x, s in zip(intensity, steps, strict=True)
                if (s["kernel"], s["D"], s["H"] > 4) == (kernel, D, many)
            ]
            if chosen:
                label = f"{kernel}, D {D}, {'many heads' if many else '1 or 4 chosen heads'}"
                axes.scatter(
                    [x for x, _ in chosen],
                    [s["tf"] for _, s in chosen],
                    marker=markers[not many],
                    color=colour,
                    label=label,
                    s=28,
                )
    for x, s in zip(intensity, steps, strict=True):
        axes.annotate(
            f"{s['N'] // 1024}k, O {s['O']}", (x, s["tf"]), fontsize=6, xytext=(3, 3), textcoords="offset points"
        )
    axes.set(
        xscale="log", yscale="log", xlim=span, xlabel="FLOP a byte that has to be read or written", ylabel="TF of Q Kᵀ"
    )
    axes.set_title(
        "rehearsal: no numbers" if run["rehearsal"] else f"flow_step on {run['device']['name']}", fontsize=10
    )
    axes.legend(fontsize=8)
    axes.grid(visible=True, which="major", color="0.92")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(given: Sequence[str] | None = None) -> int:
    """Write table and plot of the run that is named."""
    names = list(sys.argv[1:] if given is None else given)
    if len(names) != 1:
        print("usage: python bench/gpu_report.py RUN.json", file=sys.stderr)
        return 2
    path = Path(names[0])
    try:
        run = json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        print(f"{path} cannot be read: {error}", file=sys.stderr)
        return 1
    if not isinstance(run, dict) or run.get("kind") != "gpu-check":
        print(f"{path} is not a run of gpu_check.py", file=sys.stderr)
        return 1
    path.with_suffix(".md").write_text(markdown(run), "utf-8")
    print(path.with_suffix(".md"))
    try:
        plot(run, path.with_suffix(".svg"))
    except (ImportError, ValueError) as error:
        print(f"no plot: {error}")
        return 0
    print(path.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
