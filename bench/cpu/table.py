"""Store a benchmark run: python bench/cpu/table.py RUN.json writes a file of bench/results and the tables.

`pytest bench/cpu --benchmark-json=RUN.json` writes RUN.json. Without an argument the tables are rebuilt from the newest
file of bench/results: all of them in bench/results/README.md, the table of complete flows in README.md.
"""

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
BEGIN, END = re.compile(r"<!-- table:[^>]*-->\n"), "<!-- end of table -->"


def keep(run: Path) -> Path:
    """Store one run as results/DATE-DEVICE-COMMIT.json, without fields that identify the host."""
    data = json.loads(run.read_text())
    machine = data["machine_info"]["attributor"]
    commit = data["commit_info"]
    stored = {
        "datetime": data["datetime"],
        "commit": commit.get("id"),
        "dirty": commit.get("dirty"),
        "machine": machine,
        "benchmarks": [
            {"name": b["name"], "group": b["group"], "seconds": _seconds(b["stats"]), **b["extra_info"]}
            for b in data["benchmarks"]
        ],
    }
    device = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    date = datetime.fromisoformat(data["datetime"]).date().isoformat()
    path = RESULTS / f"{date}-{device}-{str(commit.get('id'))[:9]}.json"
    path.write_text(json.dumps(stored, indent=1) + "\n")
    return path


def _seconds(stats: dict[str, float]) -> dict[str, float]:
    return {name: stats[name] for name in ("median", "min", "max", "rounds")}


def short_table(path: Path) -> str:
    """Return the table of complete flows of one results file, for the README."""
    run = json.loads(path.read_text())
    machine = run["machine"]
    lines = _flows([b for b in run["benchmarks"] if b.get("baseline") == "plain forward" and "variant" in b])
    return "\n".join([f"{machine['cpu']}, {machine['threads']} threads. {lines[0]}", *lines[1:]])


def full_tables(path: Path) -> str:
    """Return all tables of one results file."""
    run = json.loads(path.read_text())
    machine, rows = run["machine"], run["benchmarks"]
    cpu = machine["implementations"]["cpu"]
    lines = [
        f"{machine['cpu']}, {machine['threads']} threads, {cpu}; torch {machine['torch']}, transformers "
        f"{machine['transformers']}; [{path.name}]({path.name}). Ratios are medians over rounds that time the baseline "
        "right before.",
        "",
    ]
    if earlier := {b["measured_at"]: None for b in rows if "measured_at" in b}:
        names = {b["name"].partition("[")[0].removeprefix("bench_") for b in rows if "measured_at" in b}
        lines += [
            f"Measured earlier, at {', '.join(earlier)}, while the machine was not idle: {', '.join(sorted(names))}.",
            "",
        ]
    variants = [b for b in rows if "variant" in b]
    lines += _flows([b for b in variants if b["baseline"] == "plain forward"])
    if records := [b for b in variants if b["baseline"] == "generate"]:
        lines += _records(records)
    lines += _steps([b for b in rows if "gradient_ratio" in b])
    if removals := [b for b in rows if b.get("step") == "removal_step"]:
        lines += _removals(removals)
    return "\n".join(lines)


def _flows(rows: list[dict[str, Any]]) -> list[str]:
    out = [
        "Whole `flow()` on SmolLM2-135M, float32, 16 answer tokens, as multiples of one plain forward pass (prefill):",
        "",
        "| prompt tokens | plain forward | all 270 heads: time, memory | 16 heads: time, memory "
        "| with attention matrices: time, memory |",
        "|---|---|---|---|---|",
    ]
    for tokens, mine in _by_length(rows):
        cells = [
            f"{mine[name]['ratio']:.2f}x, {mine[name]['memory_ratio']:.2f}x" if name in mine else "not measured"
            for name in ("flow, all heads", "flow, 16 heads", "materialised")
        ]
        out.append(f"| {tokens:,} | {mine['flow, all heads']['baseline_seconds']:.2f} s | {' | '.join(cells)} |")
    return [*out, ""]


def _records(rows: list[dict[str, Any]]) -> list[str]:
    out = [
        "`record()` around `generate()` of 16 tokens, and the flow, as multiples of plain generation:",
        "",
        "| prompt tokens | generation | all heads | 16 heads |",
        "|---|---|---|---|",
    ]
    for tokens, mine in _by_length(rows):
        cells = [f"{mine[name]['ratio']:.2f}x" for name in ("record, all heads", "record, 16 heads")]
        out.append(f"| {tokens:,} | {mine['record, all heads']['baseline_seconds']:.2f} s | {' | '.join(cells)} |")
    return [*out, ""]


def _by_length(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, dict[str, Any]]]]:
    """Return (tokens, {variant: row}), shortest first."""
    lengths = sorted({b["tokens"] for b in rows})
    return [(tokens, {b["variant"]: b for b in rows if b["tokens"] == tokens}) for tokens in lengths]


def _steps(rows: list[dict[str, Any]]) -> list[str]:
    out = [
        "The kernel, `flow_step` of 8 heads: GF/s of Q K^T on all threads; its rate as a multiple of that of SDPA's",
        "forward (which computes two such products); seconds of the gradient of SDPA with respect to V over ours:",
        "",
        "| dtype | D | N | O = 1 | O = 16 | O = 128 |",
        "|---|---|---|---|---|---|",
    ]
    for key in sorted({(b["dtype"], b["D"], b["N"]) for b in rows}, reverse=True):
        mine = {b["O"]: b for b in rows if (b["dtype"], b["D"], b["N"]) == key}
        cells = [
            f"{mine[o]['gflops']:.0f} GF/s, {mine[o]['rate_ratio']:.2f}x, {mine[o]['gradient_ratio']:.1f}x"
            if o in mine
            else ""
            for o in (1, 16, 128)
        ]
        out.append(f"| {key[0]} | {key[1]} | {key[2]:,} | {' | '.join(cells)} |")
    return [*out, ""]


def _removals(rows: list[dict[str, Any]]) -> list[str]:
    out = [
        "The kernel, `removal_step` of 8 heads: GF/s of its products on all threads; its rate as a multiple of that",
        "of SDPA's forward:",
        "",
        "| dtype | D | N | `removal_step` | SDPA's forward | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for b in sorted(rows, key=lambda b: (b["dtype"], b["D"], b["N"]), reverse=True):
        rates = f"{b['gflops']:.0f} GF/s | {b['sdpa_gflops']:.0f} GF/s | {b['rate_ratio']:.2f}x"
        out.append(f"| {b['dtype']} | {b['D']} | {b['N']:,} | {rates} |")
    return [*out, ""]


def replace_table(page: Path, text: str) -> None:
    """Put `text` between the two comments that mark the table of a page."""
    old = page.read_text()
    begin, end = BEGIN.search(old), old.find(END)
    if begin is None or end < begin.end():
        sys.exit(f"{page} has lost the comments that mark its table")
    page.write_text(old[: begin.end()] + "\n" + text + old[end:])


def main() -> None:
    """Store the given run, if any, then write the tables."""
    runs = [path for path in RESULTS.glob("*.json") if not path.stem.endswith("-gpu")]  # those have own tables
    newest = keep(Path(sys.argv[1])) if len(sys.argv) > 1 else max(runs)
    replace_table(ROOT / "README.md", short_table(newest))
    replace_table(RESULTS / "README.md", full_tables(newest))
    print(f"{newest.relative_to(ROOT)} -> README.md, {(RESULTS / 'README.md').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
