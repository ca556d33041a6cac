"""Reports of runs: `attributor eval report RUN...` reads, compares, shows and writes with these four."""

from attributor.eval.report.build import Report, build_report
from attributor.eval.report.console import show
from attributor.eval.report.files import write
from attributor.eval.report.runs import Run, read_run

__all__ = ["Report", "Run", "build_report", "read_run", "show", "write"]
