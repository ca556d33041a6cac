"""Decide which calls of a model a recording holds: the outermost calls of one thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Calls"]


class Calls:
    """The calls of one model while it is recorded.

    The thread that makes the first call owns the recording, whichever thread opened it. Not recorded are the calls of
    other threads, a generate() inside generate() (a model that drafts for itself), and a forward pass inside a forward
    pass of the same module.

    Attributes:
        ignored: whether there was a call that is not recorded.
    """

    def __init__(self) -> None:
        self.ignored = False
        self._owner: threading.Thread | None = None
        self._lock = threading.Lock()
        # the rest is written by the owner alone
        self._generating = 0
        self._preparing = 0
        self._nested = 0
        self._modules: list[Any] = []  # whose forward pass runs, outermost first

    @property
    def recorded(self) -> bool:
        """Whether this thread is inside a call that is recorded."""
        mine = self._owner is threading.current_thread()
        return mine and not self._nested and bool(self._modules or self._preparing)

    @contextmanager
    def generating(self) -> Iterator[bool]:
        """Run generate(); yields whether it is recorded."""
        if not self._claim():
            yield False
            return
        nested = bool(self._generating or self._modules)
        self._generating += 1
        self._nested += nested
        self.ignored |= nested
        try:
            yield not self._nested
        finally:
            self._generating -= 1
            self._nested -= nested

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Prepare the inputs of a forward pass, masks among them."""
        if not self._claim():
            yield
            return
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    @contextmanager
    def reading(self, module: Any) -> Iterator[tuple[bool, bool]]:
        """Run the forward pass of a module; yields whether it is recorded, and whether it is the outermost one."""
        if not self._claim():
            yield False, False
            return
        outermost = not self._modules
        nested = module in self._modules
        self._modules.append(module)
        self._nested += nested
        self.ignored |= nested
        try:
            yield not self._nested, outermost
        finally:
            self._modules.pop()
            self._nested -= nested

    def _claim(self) -> bool:
        """Whether this thread owns the recording; the first one to ask does from then on."""
        with self._lock:
            if self._owner is None:
                self._owner = threading.current_thread()
            mine = self._owner is threading.current_thread()
            self.ignored |= not mine
            return mine
