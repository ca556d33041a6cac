"""Seconds by stage, taken from the calls of a progress callback. Imports no torch."""

import logging
import time
from collections.abc import Callable

__all__ = ["StageClock"]

log = logging.getLogger("attributor")
Progress = Callable[[str, int, int], None]


class StageClock:
    """A progress callback that times the stages and passes each call on.

    Attributes:
        seconds: by stage, in the order in which they began.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        """`progress`: called with (stage, done, total)."""
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._stage: str | None = None
        self._began = 0.0

    @classmethod
    def of(cls, progress: Progress | None) -> "StageClock":
        """The callback itself if it is a clock, else a clock around it."""
        return progress if isinstance(progress, StageClock) else StageClock(progress)

    def begin(self, stage: str) -> None:
        """Start a stage, which ends the one before."""
        self.finish()
        self._stage, self._began = stage, time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """The callback of flow() and record()."""
        if (self._stage, stage) == ("answer", "prompt"):  # the layers of a token that was just written
            return
        if stage != self._stage:
            self.begin(stage)
        if self._progress is not None:
            self._progress(stage, done, total)

    def announce(self, line: str) -> None:
        """Log one line on the cost of the next stage, unless a callback shows the progress."""
        if self._progress is None:
            log.warning("%s", line)

    def finish(self) -> None:
        """End the current stage."""
        if self._stage is not None:
            spent = time.perf_counter() - self._began
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + spent
            self._stage = None
