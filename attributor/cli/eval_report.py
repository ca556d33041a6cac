"""Runs `attributor eval report`: prints the report of runs and writes its files."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from attributor.cli.run_command import standard_output
from attributor.cli.terminal_text import escape

__all__ = ["report_runs", "wide_console"]


def report_runs(runs: Sequence[Path], out: Path | None, baseline: str | None, as_json: bool) -> None:
    """Print the report of runs, and write its files."""
    from attributor.eval.report import build_report, print_report, read_run, write_report

    run_report = build_report([read_run(path) for path in runs], baseline=baseline)
    with standard_output():
        if as_json:
            print(json.dumps(run_report.to_json(), indent=2, allow_nan=False))
            return
        print_report(wide_console(), run_report)
    folder = out or runs[0] / ("report" if len(runs) == 1 else "compared")
    files, notes = write_report(run_report, folder)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in notes:
        errors.print(Text(f"Note: {escape(note)}.", "yellow"))
    names = [path.name for path in files if path.suffix in (".html", ".md", ".csv")]
    errors.print(Text(f"Wrote {', '.join(names)} and {len(files) - len(names)} plots to {escape(str(folder))}", "dim"))


def wide_console() -> Console:
    """Standard output. If it is not a terminal and COLUMNS is not set, it is 140 columns wide, so that tables fit."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 140
    return console
