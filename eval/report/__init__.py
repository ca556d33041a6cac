"""The report of runs: numbers only, no text of any data set, so that it may be shared and committed."""

from attributor.eval.report.build import build_report
from attributor.eval.report.console import show
from attributor.eval.report.files import write
from attributor.eval.report.runs import method_name, read_run

__all__ = [
    "build_report",
    "method_name",
    "read_run",
    "show",
    "write",
]
