"""A progress bar for work that may take minutes; it appears after a delay."""

import sys
import time
from typing import Any

__all__ = ["ProgressBar"]


class ProgressBar:
    """A callback for `score_heads` that shows a bar with the remaining time, if stderr is a terminal."""

    def __init__(self, what: str, *, delay: float = 0.0, shown: bool | None = None) -> None:
        """`delay`: seconds before it appears. `shown`: None: only if stderr is a terminal."""
        self.shown = sys.stderr is not None and sys.stderr.isatty() if shown is None else shown
        self._what = what
        self._from = time.monotonic() + delay
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, _: str, done: int, total: int) -> None:
        """Stage, done, total."""
        if not self.shown or (self._progress is None and time.monotonic() < self._from):
            return
        if self._progress is None:
            self._start(total)
        self._progress.update(self._task, completed=done)

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        left = (TimeRemainingColumn(), TextColumn("left"))
        self._progress = Progress(*columns, *left, console=Console(stderr=True), transient=True)
        self._progress.start()
        self._task = self._progress.add_task(self._what, total=total)
