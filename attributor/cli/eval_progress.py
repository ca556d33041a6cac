"""Shows the progress of `attributor eval` on stderr: a bar with the metrics so far, or lines in a log."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from attributor.cli.terminal_text import escape
from attributor.eval.metrics import RunningMetrics
from attributor.eval.report import shorten_method_name

__all__ = ["Display"]

EVERY = 30.0  # seconds between two lines in a log
SHOWN = 5  # failures that are printed one by one


class Display:
    """Shows the progress of one run: lines that are redrawn if stderr is a terminal, otherwise new lines."""

    def __init__(self, console: Console | None = None, clock: Any = time.monotonic) -> None:
        """`console`: None means stderr. `clock`: returns seconds; tests replace it."""
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._clock = clock
        self._live: Live | None = None
        self._running = RunningMetrics()
        self._total = self._done = self._before = 0
        self._began = self._spoke = 0.0
        self._failed = 0

    def note(self, text: str) -> None:
        """Print a note that stays on the screen."""
        self._console.print(Text(f"Note: {escape(text)}{'' if text.endswith('.') else '.'}", "yellow"))

    def start_stage(self, text: str) -> None:
        """Show a stage before or after the cases."""
        self.end()
        if self._console.is_terminal:
            self._live = Live(
                Spinner("dots", Text(escape(text))),
                console=self._console,
                transient=True,
                refresh_per_second=8,
            )
            self._live.start()
        else:
            self._console.print(Text(escape(text)))

    def start_cases(self, total: int, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Start to show the cases: how many there are, and the records of those that were done earlier."""
        self.end()
        self._total, self._began = total, self._clock()
        self._spoke = self._began
        for record in earlier:
            self._running.add(record)
        self._done = self._before = len(earlier)
        if earlier:
            self._console.print(Text(f"Going on: {self._before:,} of {total:,} rows were done before"))
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, refresh_per_second=4, get_renderable=self._panel)
            self._live.start()

    def add_case(self, record: Mapping[str, Any]) -> None:
        """Count one more row."""
        self._running.add(record)
        self._done += 1
        if record["status"] == "failed" and record.get("question"):  # the note on the data reports the others
            self._failed += 1
            if self._failed <= SHOWN:
                more = "; further failures are only counted" if self._failed == SHOWN else ""
                self._console.print(Text(escape(f"{record['id']} failed: {_short(record.get('reason'))}{more}"), "red"))
        if self._live is None:
            now = self._clock()
            if self._done in (self._before + 1, self._total) or now - self._spoke >= EVERY:
                self._spoke = now
                self._console.print(Text("; ".join([self._count(), self._pace(), *self._metrics()])))

    def end(self) -> None:
        """Remove the lines that are redrawn."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _panel(self) -> Group:
        line = Table.grid(padding=(0, 1, 0, 0))
        bar = ProgressBar(total=max(self._total, 1), completed=self._done, width=30)
        line.add_row(Text(self._count()), bar, Text(self._pace(), "dim"))
        return Group(line, *(Text(text, "dim", overflow="ellipsis", no_wrap=False) for text in self._metrics()))

    def _count(self) -> str:
        counts = self._running.counts
        extra = [f"{counts[name]:,} {name}" for name in ("skipped", "failed") if counts[name]]
        return f"{self._done:,} of {self._total:,} rows" + (f" ({', '.join(extra)})" if extra else "")

    def _pace(self) -> str:
        """Rows per second and the time that is left, from the rows of this session."""
        spent, done = self._clock() - self._began, self._done - self._before
        if not done or spent <= 0:
            return f"{_span(spent)} so far"
        rate = done / spent
        speed = f"{rate:.2g} rows/s" if rate < 10 else f"{rate:.0f} rows/s"
        if rate < 0.095:
            speed += f" ({1 / rate:.0f} s each)"
        return f"{speed}, {_span((self._total - self._done) / rate)} left"

    def _metrics(self) -> list[str]:
        precisions = sorted(self._running.average_precision.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{escape(shorten_method_name(name))} {value:.3f}" for name, value in precisions)
        lines = [f"AP so far: {shown}"] if precisions else []
        if (match := self._running.right) is not None:
            lines.append(f"the model's own answers: {match:.0%} hold the expected one")
        return lines


def _span(seconds: float) -> str:
    """1:05, or 2:03:04."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(reason: Any) -> str:
    text = " ".join(str(reason).split())
    return text if len(text) <= 200 else text[:197] + "..."
