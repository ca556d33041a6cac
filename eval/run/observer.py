"""The interface through which a run reports its progress; the command line implements it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["RunObserver", "SilentObserver"]


class RunObserver(Protocol):
    """Receives the progress of a run."""

    def note(self, text: str) -> None:
        """Show the user a sentence."""

    def start_stage(self, text: str) -> None:
        """Start a stage that takes a while, such as loading the model."""

    def start_cases(self, total: int, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Start the cases: `total` in all; `earlier` holds the records that earlier sessions wrote."""

    def add_case(self, record: Mapping[str, Any]) -> None:
        """Add a case that this process, or another one, has written to its file."""

    def end(self) -> None:
        """All cases are done, or the run was interrupted."""


class SilentObserver:
    """An observer that shows nothing; the default."""

    def note(self, text: str) -> None:
        """Nothing."""

    def start_stage(self, text: str) -> None:
        """Nothing."""

    def start_cases(self, total: int, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Nothing."""

    def add_case(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
