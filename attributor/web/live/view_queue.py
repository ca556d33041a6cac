"""Runs view computations one at a time in a thread, and cancels them when the client disconnects."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from attributor._errors import InputError
from attributor._flow import is_out_of_memory
from attributor.web.http import ApiError
from attributor.web.live.attention import Check

__all__ = ["run_in_turn"]

POLL = 0.01  # seconds between two attempts to get the lock
T = TypeVar("T")


class _ClientLeftError(Exception):
    """The browser closed the connection."""


async def run_in_turn(lock: threading.Lock, request: Request, work: Callable[[Check], T]) -> T:
    """Run `work` in a thread, one at a time, and end it when the client disconnects.

    Requests wait for the lock on the event loop. If they waited in threads, no thread would be left for other requests.

    Raises:
        ApiError: the computation refuses its arguments (422), memory ran out (507), or the client disconnected (499,
            which is not delivered).
    """
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise _ClientLeftError

    def run_alone() -> T:
        try:
            return work(check)
        finally:
            lock.release()

    try:
        while not lock.acquire(blocking=False):
            if await request.is_disconnected():
                raise _ClientLeftError
            await asyncio.sleep(POLL)
        task = asyncio.ensure_future(run_in_threadpool(run_alone))
        try:
            while not (await asyncio.wait({task}, timeout=0.1))[0]:
                if await request.is_disconnected():
                    cancelled.set()
            return task.result()
        finally:
            cancelled.set()
    except _ClientLeftError:
        raise ApiError(499, "cancelled", "the page went on to something else") from None
    except InputError as error:
        raise ApiError(422, "invalid_request", str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ApiError(
            507, "out_of_memory", "memory ran out while this picture was computed: choose fewer rows, or a shorter run"
        ) from error
