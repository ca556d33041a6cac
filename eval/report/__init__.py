"""Report runs as tables, plots and files: numbers only, no text of any data set, so that a report can be shared."""

from attributor.eval.report.build import build_report
from attributor.eval.report.console import print_report
from attributor.eval.report.files import write_report
from attributor.eval.report.runs import read_run, shorten_method_name

__all__ = [
    "build_report",
    "print_report",
    "read_run",
    "shorten_method_name",
    "write_report",
]
