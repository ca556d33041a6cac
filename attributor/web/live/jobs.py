"""Runs long jobs one at a time behind a short queue, and sends every listener all events of a job."""

import asyncio
import gc
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from attributor import _flow
from attributor.web.http import ApiError, classify_error, log_failure

__all__ = ["Cancelled", "Event", "Job", "Jobs", "Work", "describe_failure"]

MAX_WAITING = 4  # jobs in the queue beside the one that runs
MAX_ENDED = 64  # finished jobs whose events are kept
ENDED_SECONDS = 600.0
STAGE_SECONDS = 0.05  # between two reports of the same stage
LABELS = {
    "calibrate": "Finding the heads that retrieve",
    "prompt": "Reading the prompt",
    "answer": "Writing the answer",
    "sweep": "Following the attention",
}


class Cancelled(BaseException):
    """The job that this thread works on was cancelled.

    It is not an Exception, because libraries catch those and continue, or raise their own errors instead.
    """


@dataclass(frozen=True)
class Event:
    """An event for listeners: queued, stage, token, done, failed or cancelled."""

    name: str
    data: dict[str, Any]


class Job:
    """One job with its state and all of its events.

    Attributes:
        id: opaque.
        kind: "load", "run" or "weigh".
        state: "queued", "running", "done", "failed" or "cancelled".
    """

    def __init__(self, kind: str, work: "Work") -> None:
        self.id = secrets.token_urlsafe(9)
        self.kind = kind
        self.state = "queued"
        self.stopped = threading.Event()  # set when the job has ended, so that waiting can be interrupted
        self.ended_at = 0.0
        self._work: Work | None = work
        self._events: list[Event] = []
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.RLock()
        self._last: tuple[str, float] = ("", 0.0)
        self._position = -1

    @property
    def ended(self) -> bool:
        """Whether the job has ended; then no more events follow."""
        return self.stopped.is_set()

    def check(self) -> None:
        """Raise Cancelled if the job was cancelled; call it between steps."""
        if self.stopped.is_set():
            raise Cancelled

    def stage(self, stage: str, done: int = 0, total: int = 0, label: str | None = None) -> None:
        """Send the progress of a stage; `total` is 0 if it is unknown. Raises Cancelled as `check`."""
        self.check()
        name, at = self._last
        now = time.monotonic()
        if stage == name and now - at < STAGE_SECONDS and done < total:
            return
        self._last = (stage, now)
        shown = LABELS.get(stage, stage) if label is None else label
        self._add_event("stage", {"stage": stage, "label": shown, "done": done, "total": total})

    def token(self, text: str) -> None:
        """Send a piece of the answer."""
        self._add_event("token", {"text": text})

    def report_position(self, position: int) -> None:
        """Send how many jobs come before this one, if the number has changed."""
        if position != self._position:
            self._position = position
            self._add_event("queued", {"position": position})

    def cancel(self) -> bool:
        """End the job, from any thread. Listeners receive the event immediately; the work stops at its next step.

        Returns False if the job had already ended.
        """
        return self._end("cancelled", {})

    def fail(self, failure: dict[str, str]) -> bool:
        """End the job as failed, with a code and a message, from any thread; returns as `cancel`."""
        return self._end("failed", failure)

    def run(self) -> None:
        """Do the work, and send an event for its result or its failure; nothing is raised."""
        work, self._work = self._work, None
        with self._lock:
            if self.ended or work is None:
                return
            self.state = "running"
        try:
            commit = work(self)
            with self._lock:  # either the result is committed and `done` is sent, or the job was cancelled
                self.check()
                self._end("done", commit())
        except Cancelled:
            return
        except BaseException as error:
            event = describe_failure(error, f"job {self.kind}")
            self.fail(event)
        else:
            return
        if event["code"] == "out_of_memory":  # a collection stops all threads, event streams too
            gc.collect()

    async def listen(self, start: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """Yield (number, event) from number `start` on, past events first; ends after the last one."""
        here = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.add(here)
        try:
            while True:
                here[1].clear()
                with self._lock:
                    new, ended = self._events[start:], self.ended
                for event in new:
                    yield start, event
                    start += 1
                if ended:
                    return
                await here[1].wait()
        finally:
            with self._lock:
                self._listeners.discard(here)

    def _end(self, state: str, data: dict[str, Any]) -> bool:
        with self._lock:
            if self.ended:
                return False
            self.state, self.ended_at = state, time.monotonic()
            self._add_event(state, data)
            self.stopped.set()
            self._work = None  # frees the request
            self._wake()
        return True

    def _add_event(self, name: str, data: dict[str, Any]) -> None:
        with self._lock:
            if not self.ended:
                self._events.append(Event(name, data))
                self._wake()

    def _wake(self) -> None:
        for loop, ready in list(self._listeners):
            try:
                loop.call_soon_threadsafe(ready.set)
            except RuntimeError:  # the loop is closed, so its listener is gone
                self._listeners.discard((loop, ready))


# does the work and returns a function that commits the result; it is called once, unless the job was cancelled
Work = Callable[[Job], Callable[[], dict[str, Any]]]


class Jobs:
    """One thread that runs one job after the other."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the thread works, perhaps on the last step of a cancelled job."""
        return self._running is not None

    def submit(self, kind: str, work: Work) -> Job:
        """Put work into the queue.

        Raises:
            ApiError: 429, the queue is full.
        """
        job = Job(kind, work)
        with self._changed:
            if self._closed:
                raise ApiError(503, "not_ready", "this server is stopping")
            ahead = len(self._waiting) + (self._running is not None)
            if ahead > MAX_WAITING:
                raise ApiError(
                    429,
                    "queue_full",
                    f"one job runs and {MAX_WAITING} wait already: wait for one to end, or cancel one",
                )
            self._forget()
            self._jobs[job.id] = job
            self._waiting.append(job)
            job.report_position(ahead)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="attributor jobs", daemon=True)
                self._thread.start()
            self._changed.notify()
        return job

    def get(self, job_id: str) -> Job:
        """A job by its id; for some minutes also a job that has ended.

        Raises:
            ApiError: 404.
        """
        with self._changed:
            self._forget()
            job = self._jobs.get(job_id)
        if job is None:
            raise ApiError(404, "job_not_found", "there is no such job (any more)")
        return job

    def cancel(self, job_id: str) -> Job:
        """Cancel a waiting or running job; a job that has ended stays unchanged. Raises as `get`."""
        job = self.get(job_id)
        job.cancel()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._report_positions()
        return job

    def is_pending(self, kind: str) -> bool:
        """Whether a job of this kind waits or runs."""
        with self._changed:
            return any(job.kind == kind and not job.ended for job in self._jobs.values())

    def close(self) -> None:
        """End every job as failed, with the reason, and accept no more. They do not count as cancelled."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
            jobs = list(self._jobs.values())
        for job in jobs:
            job.fail(STOPPED)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
                self._report_positions()
            job.run()
            del job  # frees the job while the thread waits for the next one

    def _report_positions(self) -> None:
        running = self._running is not None
        for index, job in enumerate(self._waiting):
            job.report_position(index + running)

    def _forget(self) -> None:
        """Drop the jobs that ended long ago, and the oldest if many have ended."""
        before = time.monotonic() - ENDED_SECONDS
        ended = [job for job in self._jobs.values() if job.ended]
        for index, job in enumerate(ended):
            if job.ended_at < before or index < len(ended) - MAX_ENDED:
                del self._jobs[job.id]


def describe_failure(error: BaseException, what: str) -> dict[str, str]:
    """The `failed` event of an error: its message if that is for the user, otherwise a reference to the log."""
    if isinstance(error, ApiError):
        return {"code": error.code, "message": error.message}
    if _flow.is_out_of_memory(error) and not is_own_error(error):
        return {"code": "out_of_memory", "message": FULL}
    status_and_code = classify_error(error)
    if status_and_code is not None:
        return {"code": getattr(error, "code", status_and_code[1]), "message": str(error)}
    name = log_failure(error, what)
    return {
        "code": "internal_error",
        "message": f"something went wrong that should not have: the terminal of this server says more, under {name}",
    }


def is_own_error(error: BaseException) -> bool:
    """Whether the error has a message for the user."""
    from attributor._errors import AttributorError

    return isinstance(error, AttributorError)


STOPPED = {
    "code": "not_ready",
    "message": "this server was stopped before that was done: start `attributor serve` again, then try once more",
}
FULL = (
    "out of memory: give a shorter prompt, load the model with 16-bit numbers (dtype bfloat16), or a smaller one; "
    "the server goes on working"
)
