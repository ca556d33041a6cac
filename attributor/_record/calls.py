"""Decide which calls of a model are recorded: the outermost calls of one thread."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getfile
from typing import Any

from transformers import GenerationMixin

from attributor._errors import RecordingError

__all__ = ["Calls"]


class Calls:
    """The calls of one model while it is recorded.

    The thread that makes the first call owns the recording, whichever thread opened it. These are not recorded:

    - calls of other threads, and a generate() that began before the recording;
    - a generate() inside generate() (a model that drafts for itself);
    - a forward pass inside a forward pass of the same module;
    - a forward pass that generate() did not prepare (of a logits processor, a stopping criterion or a streamer).

    Attributes:
        ignored: whether there was a call that is not recorded.
        generator: the module whose generate() is watched.
    """

    def __init__(self, owner: threading.Thread | None = None) -> None:
        """`owner`: the thread that owns the recording from the beginning; None: the first one that calls the model."""
        self.ignored = False
        self.generator: Any = None
        self._owner = owner
        self._lock = threading.Lock()
        # the rest is written by the owner alone
        self._generating = 0
        self._preparing = 0
        self._prepared = False  # generate() has prepared a forward pass that has not yet begun
        self._nested = 0
        self._paused = 0
        self._modules: list[Any] = []  # modules whose forward pass runs, outermost first

    @property
    def recorded(self) -> bool:
        """Whether this thread is inside a call that is recorded."""
        mine = self._owner is threading.current_thread()
        return mine and not self._nested and bool(self._modules or self._preparing)

    @property
    def paused(self) -> bool:
        """Whether the recording is paused by its own thread."""
        return bool(self._paused) and self._owner is threading.current_thread()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Record no calls of this thread inside this context.

        Raises:
            RecordingError: another thread owns the recording, or a call is being recorded.
        """
        with self._lock:
            if self._owner is None:
                self._owner = threading.current_thread()
        if self._owner is not threading.current_thread() or self._modules or self._generating:
            raise RecordingError(
                "the recording cannot pause here: the model is being called, or another thread does so"
            )
        self._paused += 1
        self._nested += 1
        try:
            yield
        finally:
            self._paused -= 1
            self._nested -= 1

    @contextmanager
    def track_generate(self) -> Iterator[bool]:
        """Run generate(); yields whether it is recorded."""
        if not self._claim():
            yield False
            return
        nested = bool(self._generating or self._modules)
        self._prepared &= nested  # earlier preparation does not belong to this call
        self._generating += 1
        with self._nest(nested):
            try:
                yield not self._nested
            finally:
                self._generating -= 1

    @contextmanager
    def track_preparation(self) -> Iterator[None]:
        """Prepare the inputs of a forward pass, masks among them."""
        if not self._claim() or self._nested:
            yield
            return
        self._preparing += 1
        try:
            yield
            self._prepared = True
        finally:
            self._preparing -= 1

    @contextmanager
    def track_read(self, module: Any) -> Iterator[tuple[bool, bool]]:
        """Run the forward pass of a module; yields whether it is recorded, and whether it is the outermost one."""
        if not self._claim():
            yield False, False
            return
        outermost = not self._modules
        apart = outermost and self._generating == 1 and not self._nested and not self._prepared
        nested = apart or any(module is other for other in self._modules)
        if not (self._nested or nested):
            self._prepared = False
        self._modules.append(module)
        with self._nest(nested):
            try:
                yield not self._nested, outermost
            finally:
                self._modules.pop()

    @contextmanager
    def _nest(self, nested: bool) -> Iterator[None]:
        self._nested += nested
        self.ignored |= nested
        try:
            yield
        finally:
            self._nested -= nested

    def _claim(self) -> bool:
        """Whether this thread owns the recording; the first thread that calls this becomes the owner."""
        with self._lock:
            if self._owner is None and (self._generating or not _is_generating(self.generator)):
                self._owner = threading.current_thread()
            mine = self._owner is threading.current_thread()
            self.ignored |= not mine
            return mine


def _is_generating(model: Any) -> bool:
    """Whether this thread is inside the model's generate(). If none was recorded, it began before the recording."""
    frame, file = sys._getframe(1), getfile(GenerationMixin)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "generate" and code.co_filename == file and frame.f_locals.get("self") is model:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
