"""Write the findings of a GPU check: one JSON line each at once, and a Markdown page of all of them.

A measurement has `entries`, one for each work timed in turns: {"seconds": one number per round, "amount": number of
operations or bytes, ...}, {"missing": why it could not run} or {"wrong": why its result is wrong}. All arithmetic on
seconds is in this file.
"""

import contextlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SKIPPED = 75  # exit status of measure.py if the kernel cannot run here
KERNELS = ("triton", "cuda")
FAILURES = ("failed", "crashed")  # a crash ended the process of the test
OUTCOMES = ("passed", *FAILURES, "skipped")
# Kinds of measurements: the heading of their table, and the entries used as baselines
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ceiling": ("What the device can do, in TFLOP/s and TB/s", ()),
    "step": ("flow_step", ("flash", "cudnn", "gradient", "triton")),
    "removal": ("removal_step", ("flash", "cudnn")),
    "tuning": ("Variants of the CUDA kernel", ("as chosen",)),
    "flow": ("flow() beside a plain prefill", ("prefill",)),
    "record": ("record() around generate(), and its flow", ("generate",)),
}
NOTES = """\
Times are medians over rounds that ran everything in turns; ratios are medians of ratios within a round.
Operations are those of Q K^T below the diagonal, 2 H D N^2 / 2. SDPA's forward pass computes two such
products, and so does removal_step, whose operations are those of both; `gradient` is SDPA's gradient with
respect to V. `error` is relative L1 against float64, of removal_step as a share of the sum of its terms' sizes.
"""
Finding = dict[str, Any]


def record(log: Path, kind: str, name: str, **fields: Any) -> None:
    """Append one finding to the log."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind, "name": name, **fields}) + "\n")


def read(log: Path) -> list[Finding]:
    """Return all complete lines; a killed process may have left a partial one."""
    findings = []
    for line in log.read_text("utf-8").splitlines() if log.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            findings.append(json.loads(line))
    return findings


def kernel_of(test: str) -> str:
    """Return the kernel under test in a GPU test: flow() and record() use Triton's by default."""
    file, _, rest = test.partition("::")
    parameters = rest.partition("[")[2].rstrip("]").split("-")
    return "cuda" if file.endswith("test_gpu_cuda.py") or "cuda" in parameters else "triton"


def subject(kind: str, label: str) -> str:
    """Return the kernel that an entry times; for a baseline its own label."""
    return {"tuning": "cuda", "flow": "triton", "record": "triton"}.get(kind, label)


def find_wrong(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the kernels with a failed test, a wrong result or a sanitizer error, and the first reason of each."""
    wrong: dict[str, str] = {}
    for finding in findings:
        kind, name = finding["kind"], finding["name"]
        if finding.get("outcome") in FAILURES:
            wrong.setdefault(kernel_of(name), f"{name} {finding['outcome']}")
        if finding.get("status") == "errors":
            wrong.setdefault(finding["kernel"], f"{name}: errors")
        for label, entry in finding.get("entries", {}).items():
            if "wrong" in entry:
                wrong.setdefault(subject(kind, label), f"{kind} {name}, {label}: {entry['wrong']}")
    return wrong


def ratio(entries: dict[str, Finding], of: str, to: str) -> float | None:
    """Return the median over rounds of the seconds of `of` divided by those of `to`; None if one is missing."""
    pair = [entries.get(label, {}).get("seconds") for label in (of, to)]
    if not all(pair):
        return None
    return statistics.median(a / b for a, b in zip(*pair, strict=True))  # type: ignore[arg-type]


def markdown(run: Finding) -> str:
    """Return the page of a run, also of an incomplete one. A kernel with a wrong result gets no times."""
    findings, wrong = run["findings"], find_wrong(run["findings"])
    title = "Rehearsal on a CPU: its numbers mean nothing" if run["rehearsal"] else run["device"]["name"]
    versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items() if value)
    lines = [
        f"# {title}",
        "",
        f"`make gpu-check` at commit {run['commit']}, {run['datetime']}, {run['seconds']:.0f} s. {versions}, "
        f"driver {run['driver']}.",
        "",
        *_table(("stage", "status", "seconds", "why"), [list(map(str, stage.values())) for stage in run["stages"]]),
        *_table(("kernel", *OUTCOMES, "wrong, so no time is shown"), _parity(findings, run["passed"], wrong)),
        *(f"- `{f['name']}`: {' '.join(f['why'].split())}" for f in findings if f.get("outcome") in FAILURES),
        "",
        *_table(("sanitizer", "status"), [(f["name"], f["status"]) for f in findings if f["kind"] == "sanitizer"]),
        NOTES,
    ]
    for kind, (heading, baselines) in TABLES.items():
        head = ("call", "what", "ms", "TFLOP/s", *(f"time / {label}" for label in baselines), "peak GB", "error")
        rows = [row for finding in findings if finding["kind"] == kind for row in _measurement(finding, wrong)]
        lines += [f"## {heading}", "", *_table(head, rows)] if rows else []
    for finding in findings:
        if finding["kind"] == "ncu":
            metrics = [(name, f"{value:.4g}") for name, value in finding["metrics"].items()]
            lines += _table((f"Nsight Compute, {finding['name']}", "value"), metrics)
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table. Rows may be shorter than the head, because Markdown fills them."""
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""] if body else []


def _parity(findings: list[Finding], passed: dict[str, int], wrong: dict[str, str]) -> list[list[str]]:
    """Return one row for each kernel."""
    rows = []
    for kernel in KERNELS:
        tests = [finding for finding in findings if finding["kind"] == "test" and kernel_of(finding["name"]) == kernel]
        counts = Counter(test["outcome"] for test in tests) | Counter(passed=passed.get(kernel, 0))
        rows.append([kernel, *(str(counts[name]) for name in OUTCOMES), wrong.get(kernel, "")])
    return rows


def _measurement(finding: Finding, wrong: dict[str, str]) -> list[list[str]]:
    """Return one row for each entry."""
    rows, entries = [], finding["entries"]
    subjects = {label: subject(finding["kind"], label) for label in entries}
    right = {label: entry for label, entry in entries.items() if subjects[label] not in wrong}
    for label, entry in entries.items():
        row = [finding["name"], label]
        if "missing" in entry:
            row.append(f"not measured: {entry['missing']}")
        elif label not in right:
            row.append(f"wrong: {entry.get('wrong', wrong[subjects[label]])}")
        else:
            seconds = statistics.median(entry["seconds"])
            row += [f"{1e3 * seconds:.4g}", f"{entry['amount'] / seconds / 1e12:.4g}" if "amount" in entry else ""]
            ratios = [ratio(right, label, baseline) for baseline in TABLES[finding["kind"]][1]]
            row += ["" if times is None else f"{times:.3f}x" for times in ratios]
            row += [f"{entry.get('peak_bytes', 0) / 1e9:.1f}", f"{entry.get('error', 0):.0e}"]
        rows.append(row)
    return rows
