"""Writes the findings of a GPU check: one JSON line each as they come, and a Markdown page of all of them.

A measurement has `entries`, one for each thing that was timed in turns: {"seconds": one number a round, "amount": of
operations or bytes, ...}, {"missing": why it could not run} or {"wrong": why its answer is wrong}. All arithmetic on
seconds is in this file.
"""

import json
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

LOG = "ATTRIBUTOR_GPU_LOG"  # names the file of the lines
KERNELS = ("triton", "cuda")
# Kinds of measurements: the heading of their table, and the entries whose times the others are compared with
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ceiling": ("What the device can do", ()),
    "step": ("flow_step", ("flash", "cudnn", "gradient", "triton")),
    "tuning": ("Variants of the CUDA kernel", ("as chosen",)),
    "flow": ("flow() beside a plain prefill", ("prefill",)),
    "record": ("record() around generate(), and its flow", ("generate",)),
    "keep": ("flow() from tensors in main memory", ("device",)),
}
Finding = dict[str, Any]


def record(kind: str, name: str, **fields: Any) -> None:
    """Append one finding to the log, in one write, so that processes do not mix their lines."""
    line = json.dumps({"kind": kind, "name": name, **fields}) + "\n"
    with Path(os.environ[LOG]).open("ab", buffering=0) as file:
        file.write(line.encode())


def read(path: Path) -> list[Finding]:
    """All complete lines; a process that was killed may have left half of one."""
    findings = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            findings.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return findings


def dump(run: Finding) -> str:
    """A run as JSON, one line a finding."""
    facts = json.dumps({name: value for name, value in run.items() if name != "findings"}, indent=1)
    lines = ",\n  ".join(map(json.dumps, run["findings"]))
    return f'{facts[:-2]},\n "findings": [\n  {lines}\n ]\n}}\n'


def reason(error: BaseException) -> str:
    """The first line of an error that is not empty, short enough for a table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:200]


def kernel_of(test: str) -> str:
    """The kernel that a GPU test is about: flow() and record() take Triton's by default."""
    file, _, rest = test.partition("::")
    parameters = rest.partition("[")[2].rstrip("]").split("-")
    return "cuda" if file.endswith("test_gpu_cuda.py") or "cuda" in parameters else "triton"


def subject(kind: str, label: str) -> str | None:
    """The kernel that an entry times; None for a baseline."""
    fixed = {"tuning": "cuda", "flow": "triton", "record": "triton", "keep": "triton"}
    return fixed.get(kind, label if label in KERNELS else None)


def wrong_kernels(findings: Iterable[Finding]) -> dict[str, str]:
    """Kernels with a failed test, a wrong answer or a complaint of the sanitizer, and the first of these."""
    wrong: dict[str, str] = {}
    for finding in findings:
        kind, name = finding["kind"], finding["name"]
        if kind == "test" and finding["outcome"] == "failed":
            wrong.setdefault(kernel_of(name), f"{name} failed")
        if kind in ("step", "tuning") and "failed" in finding:
            wrong.setdefault("cuda" if kind == "tuning" else "triton", f"{kind} {name}: {finding['failed']}")
        if kind == "sanitizer" and finding["status"] == "errors":
            wrong.setdefault(finding["kernel"], f"{finding['tool']} reports errors")
        for label, entry in finding.get("entries", {}).items():
            if "wrong" in entry and (kernel := subject(kind, label)):
                wrong.setdefault(kernel, f"{kind} {name}, {label}: {entry['wrong']}")
    return wrong


def ratio(entries: dict[str, Finding], of: str, to: str) -> float | None:
    """Median over the rounds of the seconds of `of` by those of `to` in the same round; None if one is missing."""
    pair = [entries.get(label, {}).get("seconds") for label in (of, to)]
    if not all(pair):
        return None
    return statistics.median(a / b for a, b in zip(*pair, strict=True))  # type: ignore[arg-type]


def median(entry: Finding | None) -> float | None:
    """Seconds of one entry; None if it has none."""
    return statistics.median(entry["seconds"]) if entry and entry.get("seconds") else None


def summary(finding: Finding) -> str | None:
    """One line of progress; None for what is not worth one."""
    kind, name = finding["kind"], finding["name"]
    if kind == "test":
        return f"FAILED {name}: {finding['why']}" if finding["outcome"] == "failed" else None
    if "entries" not in finding:
        return None if kind == "begun" else f"{kind} {name}: {finding.get('failed') or finding.get('status', 'done')}"
    cells = []
    for label, entry in finding["entries"].items():
        seconds = median(entry)
        text = entry.get("wrong") or entry.get("missing") if seconds is None else f"{1e3 * seconds:.4g} ms"
        cells.append(f"{label} {text}")
    return f"{kind} {name}: {', '.join(cells)}"


def markdown(run: Finding) -> str:
    """The page of a run, also of one that has only begun. A kernel with a wrong answer gets no times."""
    findings, device = run["findings"], run["device"]
    wrong = wrong_kernels(findings)
    by_kind = {kind: [f for f in findings if f["kind"] == kind] for kind in {f["kind"] for f in findings}}
    title = "Rehearsal on a CPU: its numbers mean nothing" if run["rehearsal"] else str(device.get("name"))
    versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items() if value)
    lines = [
        f"# {title}",
        "",
        f"`make gpu-check` at commit {run['commit'] or 'unknown'}{' with changes' if run['dirty'] else ''}, "
        f"{run['datetime']}, {run['seconds']:.0f} s. {versions}, driver {device.get('driver_version', 'unknown')}.",
        "",
        *_table(
            ("stage", "status", "seconds", "why"),
            ([s["name"], s["status"], f"{s['seconds']:.0f}", s["why"]] for s in run["stages"]),
        ),
        *_parity(by_kind, run["passed"], wrong),
        "Times are medians over rounds that ran everything in turns; ratios are medians of ratios within a round.",
        "Operations are those of Q K^T below the diagonal, 2 H D N^2 / 2. SDPA's forward pass computes two such",
        "products; `gradient` is its gradient with respect to V. `error` is relative L1 against float64.",
        "",
    ]
    for kind in TABLES:
        lines += _measurements(kind, by_kind, wrong)
    for finding in by_kind.get("ncu", []):
        metrics = ([name, f"{value:.4g}"] for name, value in finding["metrics"].items())
        lines += [f"## Nsight Compute, {finding['name']}", "", *_table(("metric", "value"), metrics)]
    lines += _missing(findings)
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""] if body else []


def _parity(by_kind: dict[str, list[Finding]], passed: dict[str, int], wrong: dict[str, str]) -> list[str]:
    tests = by_kind.get("test", [])
    lines = ["## Parity", ""]
    for kernel in KERNELS:
        counts = Counter(test["outcome"] for test in tests if kernel_of(test["name"]) == kernel)
        counts["passed"] = passed.get(kernel, 0)
        text = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
        verdict = f" **Wrong**, so no time is shown: {wrong[kernel]}" if kernel in wrong else ""
        lines.append(f"- {kernel}: {text if any(counts.values()) else 'no test was run'}.{verdict}")
    sanitizer = [f"{s['tool']} of {s['kernel']}: {s['status']}" for s in by_kind.get("sanitizer", [])]
    lines += [f"- compute-sanitizer: {', '.join(sanitizer)}."] if sanitizer else []
    lines += [f"- failed: `{t['name']}`: {' '.join(t['why'].split())}" for t in tests if t["outcome"] == "failed"]
    reasons = Counter(" ".join(t["why"].split()) for t in tests if t["outcome"] == "skipped")
    return [*lines, *(f"- skipped, {count}: {why}" for why, count in reasons.items()), ""]


def _measurements(kind: str, by_kind: dict[str, list[Finding]], wrong: dict[str, str]) -> list[str]:
    """One row for each entry."""
    heading, baselines = TABLES[kind]
    rows = []
    for finding in by_kind.get(kind, []):
        entries = finding.get("entries", {})
        for label, entry in entries.items():
            seconds, kernel, row = median(entry), subject(kind, label), [finding["name"], label]
            if kernel in wrong or seconds is None:
                text = "wrong" if kernel in wrong or "wrong" in entry else "not measured"
                rows.append([*row, text, *[""] * (3 + len(baselines))])
                continue
            row += [f"{1e3 * seconds:.4g}", f"{entry['amount'] / seconds / 1e12:.4g}" if "amount" in entry else ""]
            for baseline in baselines:
                times = None if baseline == label or baseline in wrong else ratio(entries, label, baseline)
                row.append(f"{times:.3f}x" if times else "")
            rows.append([*row, f"{entry.get('peak_bytes', 0) / 1e9:.1f}", f"{entry.get('error', 0):.0e}"])
    against = [f"time / {baseline}" for baseline in baselines]
    head = ("call", "what", "ms", "TB/s or TFLOP/s" if kind == "ceiling" else "TFLOP/s", *against, "peak GB", "error")
    return [f"## {heading}", "", *_table(head, rows)] if rows else []


def _missing(findings: list[Finding]) -> list[str]:
    reasons = [f"{f['kind']} {f['name']}: {f['failed']}" for f in findings if "failed" in f]
    for finding in findings:
        entries = finding.get("entries", {})
        reasons += [f"{finding['name']}, {label}: {e['missing']}" for label, e in entries.items() if "missing" in e]
    return ["## Not measured", "", *(f"- {text}" for text in dict.fromkeys(reasons)), ""] if reasons else []
