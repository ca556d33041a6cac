"""Builds the tables of a report as plain cells, for the terminal, Markdown and HTML alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from attributor.eval.metrics import DROPS, MAIN
from attributor.eval.report.build import Part, Report
from attributor.eval.report.cells import Cell, Table, format_interval, format_number
from attributor.eval.report.removal_tables import build_removal_tables

__all__ = ["NAMES", "build_runs_table", "build_tables", "list_facts"]

NAMES = {
    "ap": "AP",
    "auroc": "AUROC",
    "first_is_gold": "First is gold",
    "r_precision": "R-precision",
    "full_support@5": "Full support@5",
    "mrr": "MRR",
    **{f"drop@{k}": f"Drop, top {k}" for k in DROPS},
    "lds": "LDS",
}
SETTINGS = ("model", "dtype", "device", "dataset", "source", "config", "split", "limit", "rows", "seed", "kinds")
SETTINGS_MORE = ("tokens", "answer", "ablation", "masks", "mask_seed", "max_tokens", "processes")
COMPARED = ("ap", "auroc", "first_is_gold", "full_support@5")  # no more fit side by side


def list_facts(part: Part) -> list[tuple[str, str]]:
    """Return the settings and counts of a run, as names and values."""
    counts, summary = part.summary["counts"], part.summary
    settings = part.run.settings
    pairs = [
        (name, _format_setting(settings[name])) for name in SETTINGS + SETTINGS_MORE if settings.get(name) is not None
    ]
    cases = f"{counts['done']:,} done, {counts['skipped']:,} skipped, {counts['failed']:,} failed"
    pairs.append(("cases", cases))
    left_out = [
        f"{counts[key]:,} {words}"
        for key, words in (
            ("no_gold", "without gold evidence"),
            ("all_gold", "with nothing but gold"),
            ("unusable", "with scores that cannot be ranked"),
        )
        if counts[key]
    ]
    if left_out:
        pairs.append(("left out of the metrics", ", ".join(left_out)))
    for name, words in (
        ("em", "own answers, exact match"),
        ("says", "own answers that hold the expected one"),
        ("f1", "own answers, F1"),
        ("verified", "verified"),
    ):
        if summary["answers"][name]["n"]:
            cell = format_interval(summary["answers"][name])
            pairs.append((words, f"{cell.text} ({cell.sub}), n = {summary['answers'][name]['n']:,}"))
    if summary["peak_bytes"]:
        pairs.append(("peak memory of the whole run", f"{summary['peak_bytes'] / 1e9:.2f} GB"))
    return pairs


def build_tables(part: Part) -> list[Table]:
    """Build the tables of one run that have rows; the tables of removed documents come first."""
    removals = build_removal_tables(part)
    evidence = [_build_evidence_table(part, "sentence"), _build_differences_table(part, COMPARED)]
    tables = [
        *removals,
        *([replace(table, first=False) for table in evidence] if removals else evidence),
        _build_faithfulness_table(part),
        _build_differences_table(part, (*(f"drop@{k}" for k in DROPS), "lds")),
        _build_costs_table(part),
        _build_evidence_table(part, "document"),
        _build_aggregations_table(part),
        _build_strata_table(part),
    ]
    return [table for table in tables if table.rows]


def build_runs_table(report: Report) -> Table | None:
    """Build the table of the same methods in all runs; None for one run."""
    if len(report.parts) < 2:
        return None
    changes = {(c["run"], c["method"]): c for c in report.across if c["metric"] == "ap"}
    header = ["Method", report.parts[0].name]
    for part in report.parts[1:]:
        header += [part.name, f"{part.name} minus the first"]
    rows = []
    for method in report.methods:
        row = [Cell(method)]
        for i, part in enumerate(report.parts):
            here = method in part.arrays.methods
            row.append(format_interval(_main_interval(part, method, "ap")) if here else Cell("–"))
            if i:
                row.append(_format_difference(changes.get((part.name, method)), n=True))
        rows.append(row)
    note = (
        "Mean AP by sentence, main aggregation, over all rows of each run; differences over the n rows that both runs "
        "have, with paired 95% intervals; bold where the interval leaves out 0."
    )
    return Table("The same methods in every run: AP", header, rows, note, first=True)


def _build_evidence_table(part: Part, unit: str) -> Table:
    methods = part.summary["methods"]
    rows = []
    for name in part.order:
        method = methods[name]
        by = method[unit].get(method["main"], {}).get("all")
        if by is None:
            continue
        row = [Cell(name), *(format_interval(by[metric]) for metric in MAIN)]
        if unit == "sentence":
            best = method["best"]
            row.append(
                Cell("–")
                if len(method[unit]) < 2
                else Cell(best, format_interval(method[unit][best]["all"]["ap"]).text)
            )
        rows.append([*row, Cell(f"{by['ap']['n']:,}")])
    for column in range(1, len(MAIN) + 1):
        _embolden(rows, column)
    header = ["Method", *(NAMES[metric] for metric in MAIN), *(["Best by AP"] if unit == "sentence" else []), "n"]
    main = part.summary["settings"]["main"]
    note = f"Token methods with the aggregation {main!r}; 95% bootstrap intervals over rows; bold is the highest."
    if unit == "sentence":
        note += " The best aggregation was chosen on these rows, so its AP is too high."
    return Table(f"Finding the evidence, by {unit}", header, rows, note, first=unit == "sentence")


def _build_differences_table(part: Part, metrics: Sequence[str]) -> Table:
    rows = []
    for name in part.order:
        other = part.against.get(name)
        changes = [None if other is None else part.difference(name, other, metric) for metric in metrics]
        if other is None or not any(changes):
            continue
        count = max(change["n"] for change in changes if change is not None)
        rows.append([Cell(name), Cell(other), *(_format_difference(change) for change in changes), Cell(f"{count:,}")])
    ablation = metrics[0].startswith("drop")
    title = "Paired differences, faithfulness" if ablation else "Paired differences, finding the evidence"
    note = "Method minus other on the n rows that both have; bold where the 95% interval leaves out 0."
    return Table(title, ["Method", "Minus", *(NAMES[m] for m in metrics), "n"], rows, note, not ablation, names=2)


def _build_faithfulness_table(part: Part) -> Table:
    keys = [*(f"drop@{k}" for k in DROPS), "lds"]
    rows = []
    for name in part.order:
        intervals = part.summary["methods"][name]["faithfulness"]
        if intervals:
            rows.append(
                [Cell(name), *(format_interval(intervals[key]) for key in keys), Cell(f"{intervals['lds']['n']:,}")]
            )
    for column in range(1, len(keys) + 1):
        _embolden(rows, column)
    how = "; ".join(f"{a['convention']}, {a['masks']} masks, seed {a['seed']}" for a in part.summary["ablations"])
    note = (
        f"Segments left out by: {how}. Drop: log-probability that the answer loses without the method's top segments. "
        "LDS: rank correlation of predicted and measured effects. Neither measures whether a method "
        "finds the evidence."
    )
    return Table("Faithfulness to the model", ["Method", *(NAMES[key] for key in keys), "n"], rows, note, first=True)


def _build_costs_table(part: Part) -> Table:
    rows = []
    for name in part.order:
        costs = part.summary["methods"][name]["costs"]
        rows.append(
            [
                Cell(name),
                Cell(_format_seconds(costs["seconds"]["value"])),
                Cell(_format_seconds(costs["seconds_with_read"]["value"])),
                _format_forwards(costs["forwards"]),
                Cell("–" if costs["passes"]["value"] is None else f"{costs['passes']['value']:.4g}"),
            ]
        )
    header = ["Method", "Own time a row", "With the shared read", "Plain forwards", "Extra passes"]
    note = (
        "Plain forwards: the time with the shared read over one unrecorded pass of the same row, median over the rows "
        "where that was timed. The shared read records what all methods of the run need together."
    )
    return Table("Costs", header, rows, note, first=True)


def _build_aggregations_table(part: Part) -> Table:
    methods = part.summary["methods"]
    names = [name for name in part.order if len(methods[name]["sentence"]) > 1]
    hows = list(dict.fromkeys(how for name in names for how in methods[name]["sentence"]))
    rows = []
    for name in names:
        by = methods[name]["sentence"]
        row = [Cell(name), *(format_interval(by[how]["all"]["ap"]) if how in by else Cell("–") for how in hows)]
        best = max(range(1, len(row)), key=lambda i: row[i].text)
        row[best] = Cell(row[best].text, row[best].sub, strong=True)
        rows.append(row)
    return Table("Aggregation of tokens: AP by sentence", ["Method", *hows], rows, "Bold is the method's highest.")


def _build_strata_table(part: Part) -> Table:
    every = part.summary["strata"]["all"]
    strata = {name: n for name, n in part.summary["strata"].items() if 0 < n < every}
    rows = []
    for name in part.order if strata else []:
        method = part.summary["methods"][name]
        by = method["sentence"].get(method["main"], {})
        rows.append([Cell(name), *(format_interval(by[s]["ap"]) if s in by else Cell("–") for s in ("all", *strata))])
    header = ["Method", f"all ({every:,})", *(f"{name} ({n:,})" for name, n in strata.items())]
    for column in range(1, len(header)):
        _embolden(rows, column)
    note = (
        "Brackets hold the number of rows. In answer:right the model's own answer holds the expected one. A stratum "
        "of all rows is left out."
    )
    return Table("By question and by own answer: AP by sentence", header, rows, note)


def _main_interval(part: Part, method: str, metric: str) -> Mapping[str, Any]:
    method_summary = part.summary["methods"][method]
    by = method_summary["sentence"].get(method_summary["main"], {}).get("all", {})
    return dict(by.get(metric, {"value": None, "low": None, "high": None, "n": 0}))


def _format_difference(change: Mapping[str, Any] | None, n: bool = False) -> Cell:
    if change is None or change["value"] is None:
        return Cell("–")
    sub = (
        ""
        if change["low"] is None
        else f"{format_number(change['low'], 2, '+')} to {format_number(change['high'], 2, '+')}"
    )
    apart = change["low"] is not None and (change["low"] > 0 or change["high"] < 0)
    if n:
        sub = f"{sub}, n = {change['n']:,}" if sub else f"n = {change['n']:,}"
    return Cell(format_number(change["value"], 3, "+"), sub, strong=apart)


def _format_forwards(interval: Mapping[str, Any]) -> Cell:
    if interval["value"] is None:
        return Cell("–")
    if interval["value"] < 0.005:
        return Cell("< 0.01×")
    digits = 2 if interval["value"] < 10 else 1
    known = interval["low"] is not None
    return Cell(
        f"{interval['value']:.{digits}f}×",
        f"{interval['low']:.{digits}f}–{interval['high']:.{digits}f}" if known else "",
    )


def _format_seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms" if value >= 1e-4 else "< 0.1 ms"


def _embolden(rows: list[list[Cell]], column: int) -> None:
    """Make the highest number of a column bold."""
    values = [_parse_number(row[column].text) for row in rows]
    if len(rows) > 1 and (most := max(values)) > float("-inf"):
        for row, value in zip(rows, values, strict=True):
            if value == most:
                row[column] = Cell(row[column].text, row[column].sub, strong=True)


def _parse_number(text: str) -> float:
    try:
        return float(text.replace("−", "-"))
    except ValueError:
        return float("-inf")


def _format_setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
