"""Who is told how a run goes: the command line shows it, tests count it, nobody listens by default."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Silent", "Watcher"]


class Watcher(Protocol):
    """Who is told how a run goes."""

    def say(self, text: str) -> None:
        """A sentence for the user."""

    def stage(self, text: str) -> None:
        """Something begins that takes a while."""

    def begin(self, total: int, before: Sequence[Mapping[str, Any]]) -> None:
        """The cases begin: how many there are in all, and the records of those that were run earlier."""

    def case(self, record: Mapping[str, Any]) -> None:
        """One more case is in its file, of this process or another."""

    def end(self) -> None:
        """The cases are over, or were interrupted."""


class Silent:
    """A watcher that shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def begin(self, total: int, before: Sequence[Mapping[str, Any]]) -> None:
        """Nothing."""

    def case(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
