"""Build the report as one HTML file with inline SVG plots; it has no script and loads nothing."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib.resources import files

from attributor._result import escape_invisible
from attributor.eval.report.build import Report
from attributor.eval.report.cells import Cell, Table
from attributor.eval.report.plots import INK, LINE, PAPER, SERIES, SOFT
from attributor.eval.report.tables import build_runs_table, build_tables, list_facts

__all__ = ["CAPTIONS", "build_page", "list_terms"]

CAPTIONS = {
    "average-precision": "Mean AP over rows with 95% intervals, and the paired difference on the rows that both have.",
    "precision-recall": "Interpolated precision at each recall, averaged over rows; names in the order of their ends.",
    "first-gold": "Share of rows by the rank of the first gold sentence; the percentage is that of rank 1.",
    "cost": "Both axes with 95% intervals; the dashed line is one forward pass of the same row that records nothing.",
    "runs": "Mean AP over all rows of each run, with 95% intervals; the table has the paired differences.",
}
EXPLAINED = {
    "AP": "The mean, over the gold sentences, of the precision at their rank.",
    "AUROC": "How often a gold sentence stands in front of one that is not; 0.5 is chance.",
    "First is gold": "The share of rows whose highest-ranked sentence is gold.",
    "R-precision": "The precision among as many sentences as are gold.",
    "Full support@5": "The share of rows whose gold sentences are all among the first five.",
    "MRR": "The mean of 1 / rank of the first gold sentence.",
    "Drop, LDS": "How the answer's log-probability changes without segments: faithfulness to the model. It does not "
    "measure whether a method finds the sentences that people marked.",
    "Ties, intervals": "Ties count as the mean over all their orders. Intervals are 95% percentile bootstrap intervals "
    "over rows; differences are paired.",
}
EXPLAINED_REMOVALS = {
    "Removal": "Documents are removed from the prompt, one or two at a time, and the answer's log-probability is "
    "measured again. The costliest document is the one without which the answer loses most.",
}
TONES = {INK: "--ink", SOFT: "--soft", LINE: "--line", PAPER: "--card"} | {
    colour: f"--s{i}" for i, colour in enumerate(SERIES)
}


def build_page(report: Report, drawn: Mapping[str, str]) -> str:
    """Build the page.

    Args:
        report: what `build_report` made.
        drawn: SVG files by the name of the plot.
    """
    styles: dict[str, str] = {}
    inside = {name: _inline_svg(svg, name, styles) for name, svg in drawn.items()}
    names = ", ".join(part.name for part in report.parts)
    body = [f"<h1>Attribution: {_escape(names)}</h1>"]
    body.append(f'<p class="lead">{_escape(_introduction(report))}</p>')
    body += [_format_note(note) for note in report.notes]
    across = build_runs_table(report)
    if across is not None:
        body.append(_format_plots({"runs": inside["runs"]} if "runs" in inside else {}))
        body.append(_format_table(across))
    for i, part in enumerate(report.parts, 1):
        prefix = "" if len(report.parts) == 1 else f"run-{i}-"
        body.append(f"<section><h2>{_escape(part.name)}</h2>")
        shown = "".join(f"<li>{_escape(name)} <b>{_escape(value)}</b></li>" for name, value in list_facts(part))
        body.append(f'<ul class="facts">{shown}</ul>')
        body += [_format_note(note) for note in part.run.notes]
        tables = build_tables(part)
        if not tables:
            body.append(_format_note("no case is done, so there is nothing to measure"))
        body += [_format_table(table) for table in tables[:1]]
        mine = {name.removeprefix(prefix): svg for name, svg in inside.items() if name.startswith(prefix)}
        body.append(_format_plots({name: svg for name, svg in mine.items() if name in CAPTIONS and name != "runs"}))
        body += [_format_table(table) for table in tables[1:] if table.first]
        rest = "".join(_format_table(table) for table in tables if not table.first)
        if rest:
            body.append(f"<details><summary>More tables</summary>{rest}</details>")
        body.append("</section>")
    terms = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(words)}</dd>" for name, words in list_terms(report).items())
    body.append(f"<h2>What the numbers mean</h2><dl>{terms}</dl>")
    css = _stylesheet(styles)
    digest = base64.b64encode(hashlib.sha256(css.encode("utf-8")).digest()).decode("ascii")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="generator" content="attributor">\n'
        f"<title>Attribution: {_escape(names)}</title>\n<style>{css}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def list_terms(report: Report) -> dict[str, str]:
    """Return the names in the tables and their meanings."""
    removed = any(part.summary["removals"] for part in report.parts)
    return EXPLAINED | (EXPLAINED_REMOVALS if removed else {})


def _introduction(report: Report) -> str:
    against = f"the method {report.baseline}" if report.baseline else "the best of the other methods"
    return (
        "How well each method's scores find the sentences that were marked as evidence, what it costs, and, where it "
        f"was measured, how faithful the scores are to the model. Differences are from {against}."
    )


def _escape(text: str) -> str:
    return html.escape(escape_invisible(text))


def _format_note(text: str) -> str:
    return f'<p class="note">{_escape(text)}.</p>'


def _format_plots(drawn: Mapping[str, str]) -> str:
    if not drawn:
        return ""
    made = (f"<figure>{svg}<figcaption>{CAPTIONS[name]}</figcaption></figure>" for name, svg in drawn.items())
    return f'<div class="plots">{"".join(made)}</div>'


def _format_table(table: Table) -> str:
    def head(i: int, name: str) -> str:
        return f'<th scope="col"{_class_attribute(table, i)}>{_escape(name)}</th>'

    def cell(i: int, cell: Cell) -> str:
        text = f"<b>{_escape(cell.text)}</b>" if cell.strong else _escape(cell.text)
        small = f"<small>{_escape(cell.sub)}</small>" if cell.sub else ""
        tag = 'th scope="row"' if i == 0 else "td"
        return f"<{tag}{_class_attribute(table, i)}>{text}{small}</{tag[:2]}>"

    header = "".join(head(i, name) for i, name in enumerate(table.header))
    rows = "".join(f"<tr>{''.join(cell(i, c) for i, c in enumerate(row))}</tr>" for row in table.rows)
    under = f'<p class="under">{_escape(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{_escape(table.title)}</h3><div class="scroll" tabindex="0"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{under}"
    )


def _class_attribute(table: Table, i: int) -> str:
    return ' class="name"' if i < table.names else ""


def _stylesheet(styles: Mapping[str, str]) -> str:
    text = (files("attributor.eval.report") / "report.css").read_text(encoding="utf-8")
    return text + "".join(f".{name}{{{rules}}}\n" for rules, name in styles.items())


def _inline_svg(svg: str, name: str, styles: dict[str, str]) -> str:
    """Convert an SVG file to an element of the page, in the page's colours.

    Style attributes become classes in the page's one style element, whose hash the page's security policy allows.

    Args:
        svg: as matplotlib wrote it.
        name: name of the plot, which becomes a prefix of the ids.
        styles: class names by their rules; new ones are added.
    """
    drawing = svg[svg.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", drawing, count=2)
    drawing = re.sub(r'\sid="([^"]*)"', lambda match: f' id="{name}-{match[1]}"', drawing)
    drawing = re.sub(r'href="#([^"]*)"', lambda match: f'href="#{name}-{match[1]}"', drawing)
    drawing = re.sub(r"url\(#([^)]*)\)", lambda match: f"url(#{name}-{match[1]})", drawing)
    drawing = re.sub(r'\sstyle="([^"]*)"', lambda match: f' class="{_class_name(match[1], styles)}"', drawing)
    label = html.escape(CAPTIONS.get(re.sub(r"^run-\d+-", "", name), name))
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', drawing, count=1).strip()


def _class_name(rules: str, styles: dict[str, str]) -> str:
    rules = html.unescape(rules)
    for colour, tone in TONES.items():
        rules = re.sub(re.escape(colour), f"var({tone})", rules, flags=re.IGNORECASE)
    return styles.setdefault(rules, f"g{len(styles)}")
