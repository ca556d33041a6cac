"""Tables of removed documents: what the model's answers lose, and which methods predict it."""

from typing import Any

from attributor.eval.report.build import Part
from attributor.eval.report.cells import Cell, Table, format_interval, format_number

__all__ = ["build_removal_tables", "explain_weakness"]

MODEL_COLUMNS = {
    "says": "Answer is right",
    "planted": "Planted, one",
    "pairs": "Planted, two",
    "evidence": "All evidence",
    "distractors": "Distractors, one",
    "documents": "All documents",
    "em": "Answer is exact",
}
TITLES = {
    "first": "Removal: how often the costliest document comes first",
    "rank": "Removal: rank correlation with what the answer loses",
    "error": "Removal: error in nats",
}
NOTES = {
    "first": "The share of rows whose highest score belongs to the document whose removal costs most; in brackets the "
    "rows that count.",
    "rank": "Spearman's correlation, over the removed sets of a row, of the sums of scores with the losses; mean over "
    "rows.",
    "error": "Mean distance of the scores from the losses of single documents, of methods whose scores are nats.",
}
COMMON = (
    " Bold: the best, and methods whose paired difference from it has a 95% interval with 0 in it. *: the model is too "
    "weak for this kind."
)
EVIDENCE = {  # the words for a kind's evidence
    "single": "the document with the fact",
    "duplicate": "both documents with the fact",
    "distractor": "the document with the fact",
    "conflict": "the document that states it",
}


def build_removal_tables(part: Part) -> list[Table]:
    """Build the tables of a run in which documents were removed; other runs have none."""
    removals = part.summary.get("removals")
    if not removals:
        return []
    return [_build_model_table(removals), *(_build_scores_table(part, removals, measure) for measure in TITLES)]


def explain_weakness(removals: dict[str, Any]) -> list[str]:
    """Return a sentence for each kind for which the model is too weak."""
    needed = format_number(removals["needed"], 2)
    sentences = []
    for group, entry in removals["kinds"].items():
        if not entry["weak"]:
            continue
        kind = entry["kind"]
        loss = format_number(entry["documents" if kind in ("memory", "written") else "evidence"]["value"], 2)
        if kind == "memory":
            why = f"without any document the answer loses {loss} nats, {needed} or more: the model does not know it"
        elif kind == "written":
            why = f"without any document the answer loses {loss} nats, less than {needed}: it does not come from them"
        else:
            evidence = EVIDENCE.get(kind, "the evidence")
            why = f"without {evidence} the answer loses {loss} nats, less than {needed}: it does not rest on it"
        sentences.append(f"The model is too weak for {group!r}: {why}.")
    return sentences


def _build_model_table(removals: dict[str, Any]) -> Table:
    rows = []
    for group, entry in removals["kinds"].items():
        measured = entry["counts"]
        count = "–" if measured["value"] is None else f"{round(measured['value'] * measured['n'])}"
        rows.append(
            [
                Cell(group),
                Cell(f"{entry['rows']:,}"),
                Cell(count),
                Cell("yes" if entry["weak"] else "no", strong=entry["weak"]),
                *(format_interval(entry[name], digits=2) for name in MODEL_COLUMNS),
            ]
        )
    note = (
        f"Nats that the answer loses on average without the documents. Rows count where one document costs "
        f"{format_number(removals['needed'], 2)} nats (log 2) or more."
    )
    return Table(
        "Removal: what the answer loses",
        ["Kind", "Rows", "Rows that count", "Too weak", *MODEL_COLUMNS.values()],
        rows,
        " ".join([note, *explain_weakness(removals)]),
        first=True,
    )


def _build_scores_table(part: Part, removals: dict[str, Any], measure: str) -> Table:
    groups = removals["kinds"]
    header = ["Method"]
    for group, entry in groups.items():
        n = max((removals["methods"][name][group][measure]["n"] for name in part.order), default=0)
        header.append(f"{group}{'*' if entry['weak'] else ''} ({n:,})")
    rows = []
    for name in part.order:
        scored = removals["methods"][name]
        if any(scored[group][measure]["n"] for group in groups):
            rows.append([Cell(name), *(_format_scored(scored[group][measure]) for group in groups)])
    if measure == "error" and rows:
        zeros = [format_interval(entry["zero"], digits=2) for entry in groups.values()]
        rows.append([Cell("0 for every document"), *zeros])
    return Table(TITLES[measure], header, rows, NOTES[measure] + COMMON, first=True)


def _format_scored(interval: dict[str, Any]) -> Cell:
    cell = format_interval(interval, digits=2)
    low = interval["behind"]["low"]
    near = interval["value"] is not None and (low is None or low <= 0)
    return Cell(cell.text, cell.sub, strong=near)
