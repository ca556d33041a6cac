"""Shows one transient progress bar on stderr, for stages that follow each other."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["StageProgress"]

NAMES = {
    "calibrate": ("Finding the heads that retrieve", "layers"),
    "prompt": ("Reading the prompt", "layers"),
    "answer": ("Writing the answer", "tokens"),
    "sweep": ("Following the attention", "layers"),
}


class StageProgress:
    """Shows what is going on, and for how long, where stderr is a terminal; silent elsewhere.

    Also the clock: `seconds` holds the time spent in every stage.
    """

    def __init__(self, shown: bool | None = None) -> None:
        """`shown`: None asks whether stderr is a terminal."""
        self.shown = sys.stderr.isatty() if shown is None else shown
        self.seconds: dict[str, float] = {}
        self._name: str | None = None
        self._began = 0.0
        self._progress: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "StageProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def begin(self, name: str, what: str | None = None, total: int | None = None) -> None:
        """Start the stage `name`, which ends the one before; `what` None shows no bar (somebody else shows one)."""
        self.finish()
        self._name, self._began = name, time.perf_counter()
        if self.shown and what is not None:
            unit = NAMES.get(name, ("", ""))[1]
            counter: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TextColumn(unit)) if total else ()
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *counter, TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task = self._progress.add_task(what, total=total)

    def __call__(self, name: str, done: int, total: int) -> None:
        """The callback of flow() and record(): stage, done, total."""
        if name != self._name:
            if self._name == "answer" and name == "prompt":  # the layers of one more token
                return
            self.begin(name, NAMES.get(name, (name, ""))[0], total)
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total)

    def finish(self) -> None:
        """End the current stage and take its bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._name is not None:
            spent = time.perf_counter() - self._began
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + spent
            self._name = None
