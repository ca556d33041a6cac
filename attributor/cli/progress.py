"""Shows one transient progress bar on stderr, for stages that follow each other."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from attributor._ask import StageClock

__all__ = ["StageProgress"]

NAMES = {
    "calibrate": ("Finding the heads that retrieve", "layers"),
    "prompt": ("Reading the prompt", "layers"),
    "answer": ("Writing the answer", "tokens"),
    "sweep": ("Following the attention", "layers"),
    "effects": ("Following the log-probability back", "layers"),
    "removals": ("Reading without each cited sentence", "sentences"),
}


class StageProgress(StageClock):
    """The clock of a command, which also shows a progress bar if stderr is a terminal."""

    def __init__(self, shown: bool | None = None) -> None:
        """`shown`: whether bars are shown; None: if stderr is a terminal."""
        super().__init__(self._update)
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "StageProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def begin(self, stage: str, what: str | None = None) -> None:
        """Start a stage and end the previous one. With `what` None the bar appears when progress is reported."""
        super().begin(stage)
        if what is not None:
            self._show(what)

    def announce(self, line: str) -> None:
        """Print the line on stderr, also if stderr is not a terminal and shows no bar."""
        Console(stderr=True, soft_wrap=True, highlight=False).print(line, markup=False)

    def finish(self) -> None:
        """End the current stage and remove its bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        super().finish()

    def _update(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            self._show(*NAMES.get(stage, (stage, "")), total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def _show(self, what: str, unit: str = "", total: int | None = None) -> None:
        if self.shown:
            counter: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TextColumn(unit)) if total else ()
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *counter, TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(what, total=total)
