"""Jobs run one at a time with a short queue; events for every listener, cancelling in each state, error messages."""

import asyncio
import logging
import threading
import time
from itertools import count

import pytest
import torch
from clock import PATIENCE, fastest
from live_client import wait_for

from attributor import InputError, ModelLoadError
from attributor.web.http.errors import ApiError
from attributor.web.live import jobs as module
from attributor.web.live.jobs import MAX_WAITING, Cancelled, Jobs


@pytest.fixture
def jobs():
    made = Jobs()
    yield made
    made.close()


def quick(job):
    job.token("a")
    return lambda: {"run": "r", "flow": "f"}


class Held:
    """Work that runs until `go` is set."""

    def __init__(self):
        self.began, self.go, self.steps, self.left, self.counted = threading.Event(), threading.Event(), 0, False, False

    def __call__(self, job):
        self.began.set()
        try:
            while not self.go.wait(0.005):
                self.steps += 1
                job.check()
        except Cancelled:
            self.left = True
            raise
        return self.commit

    def commit(self):
        self.counted = True
        return {"run": None, "flow": None}


def heard(job, start=0):
    async def listen():
        return [(event.name, event.data) for _, event in [pair async for pair in job.listen(start)]]

    return asyncio.run(asyncio.wait_for(listen(), PATIENCE))


def test_a_job_reports_its_stages_and_its_end(jobs):
    def work(job):
        job.stage("prompt", 1, 2)
        job.stage("own", label="My own")
        return quick(job)

    job = jobs.submit("run", work)
    assert heard(job) == [
        ("queued", {"position": 0}),
        ("stage", {"stage": "prompt", "label": "Reading the prompt", "done": 1, "total": 2}),
        ("stage", {"stage": "own", "label": "My own", "done": 0, "total": 0}),
        ("token", {"text": "a"}),
        ("done", {"run": "r", "flow": "f"}),
    ]
    assert job.state == "done"


def test_every_listener_receives_all_events(jobs):
    held = Held()
    job = jobs.submit("run", held)

    async def scenario():
        async def listen():
            return [number async for number, _ in job.listen()], [event.name async for _, event in job.listen()]

        early = [asyncio.create_task(listen()) for _ in range(5)]
        await asyncio.sleep(0.05)
        for text in "abc":
            job.token(text)
        held.go.set()
        return await asyncio.gather(*early)

    names = ["queued", "token", "token", "token", "done"]
    for numbers, found in asyncio.run(scenario()):
        assert found == names
        assert numbers == [0, 1, 2, 3, 4]
    assert [name for name, _ in heard(job)] == names
    assert [name for name, _ in heard(job, 3)] == ["token", "done"]  # as a reconnecting browser does
    assert heard(job, 99) == []


def test_a_token_reaches_listeners_quickly(jobs):
    held = Held()
    job = jobs.submit("run", held)
    held.began.wait(PATIENCE)
    tokens = count(1)  # event 0 is "queued"

    async def scenario():
        token = next(tokens)
        events = job.listen(token - 1)
        assert (await anext(events))[0] == token - 1
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        threading.Thread(target=job.token, args=("x",)).start()
        number, event = await asyncio.wait_for(waiting, PATIENCE)
        assert (number, event.data) == (token, {"text": "x"})
        await events.aclose()
        return time.perf_counter() - began

    assert fastest(lambda: asyncio.run(scenario()), 0.2) < 0.2
    assert not job._listeners
    held.go.set()


def test_stage_events_are_thinned_but_the_last_is_sent(jobs):
    def work(job):
        for done in range(1, 10_001):
            job.stage("sweep", done, 10_000)
        return quick(job)

    events = [data for name, data in heard(jobs.submit("run", work)) if name == "stage"]
    assert 1 < len(events) < 200
    assert events[-1]["done"] == 10_000


def test_one_job_runs_four_wait_and_the_sixth_is_refused(jobs):
    helds = [Held() for _ in range(MAX_WAITING + 1)]
    made = [jobs.submit("run", held) for held in helds]
    assert helds[0].began.wait(PATIENCE)
    with pytest.raises(ApiError, match="one job runs and 4 wait already") as refused:
        jobs.submit("run", quick)
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    assert not helds[1].began.is_set(), "two jobs ran at once"
    helds[0].go.set()
    assert helds[1].began.wait(PATIENCE)
    assert [data["position"] for name, data in list_of(made[4]) if name == "queued"] == [4, 3]
    jobs.cancel(made[2].id)
    assert list_of(made[4])[-1] == ("queued", {"position": 2})
    late = jobs.submit("run", quick)
    for held in helds:
        held.go.set()
    assert heard(late)[-1][0] == "done"
    assert [job.state for job in made] == ["done", "done", "cancelled", "done", "done"]
    assert helds[2].steps == 0


def list_of(job):
    """Return the events so far."""
    return [(event.name, event.data) for event in list(job._events)]


def test_a_cancelled_waiting_job_leaves_the_queue_at_once(jobs):
    first, second = Held(), Held()
    jobs.submit("run", first)

    def leaving():
        waiting = jobs.submit("run", second)
        began = time.perf_counter()
        jobs.cancel(waiting.id)
        assert heard(waiting)[-1] == ("cancelled", {})
        return time.perf_counter() - began

    assert fastest(leaving, 0.5) < 0.5
    first.go.set()
    second.go.set()
    wait_for(lambda: not jobs.busy)
    assert not second.began.is_set()
    assert not second.counted


def test_a_cancelled_running_job_stops_at_its_next_step(jobs):
    held = Held()
    job = jobs.submit("run", held)
    assert held.began.wait(PATIENCE)
    jobs.cancel(job.id)
    assert heard(job)[-1] == ("cancelled", {})
    wait_for(lambda: held.left)
    assert not held.counted
    assert heard(jobs.submit("run", quick))[-1][0] == "done"


def test_a_result_after_cancellation_is_dropped(jobs):
    """The job is cancelled after its last check."""
    at_work, go, counted = threading.Event(), threading.Event(), []

    def work(_):
        at_work.set()
        go.wait(PATIENCE)
        return lambda: counted.append(1) or {}

    job = jobs.submit("run", work)
    at_work.wait(PATIENCE)
    jobs.cancel(job.id)
    go.set()
    wait_for(lambda: not jobs.busy)
    assert not counted
    assert job.state == "cancelled"


def test_cancelling_an_ended_job_changes_nothing(jobs):
    job = jobs.submit("run", quick)
    before = heard(job)
    assert jobs.cancel(job.id) is job
    assert heard(job) == before
    assert job.state == "done"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("documents are missing; give one"), "invalid_input", "documents are missing; give one"),
        (ModelLoadError("x: not found"), "model_not_loaded", "x: not found"),
        (ApiError(409, "own_code", "as it is"), "own_code", "as it is"),
        (MemoryError(), "out_of_memory", module.FULL),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", module.FULL),
    ],
)
def test_a_failure_has_a_message_and_the_next_job_runs(jobs, error, code, message):
    def work(_):
        raise error

    assert heard(jobs.submit("run", work))[-1] == ("failed", {"code": code, "message": message})
    assert heard(jobs.submit("run", quick))[-1][0] == "done"


@pytest.mark.parametrize("kind", [KeyError, SystemExit, ZeroDivisionError])
def test_an_unexpected_error_is_logged_without_its_message(jobs, kind, caplog):
    words = " ".join(["my", "secret", "prompt"])  # joined here, because the log shows the line that raises

    def work(_):
        raise kind(words)

    with caplog.at_level(logging.INFO, "attributor.web"):
        name, data = heard(jobs.submit("run", work))[-1]
    assert (name, data["code"]) == ("failed", "internal_error")
    assert "secret" not in data["message"]
    assert "Traceback" not in data["message"]
    assert kind.__name__ in caplog.text
    assert "in work" in caplog.text
    assert "secret" not in caplog.text
    assert heard(jobs.submit("run", quick))[-1][0] == "done"


def test_ended_jobs_are_dropped(jobs, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENDED", 3)
    made = [jobs.submit("run", quick) for _ in range(2)]
    for job in made:
        heard(job)
    made += [jobs.submit("run", quick) for _ in range(3)]
    for job in made:
        heard(job)
    with pytest.raises(ApiError) as gone:
        jobs.get(made[0].id)
    assert (gone.value.status, gone.value.code) == (404, "job_not_found")
    assert jobs.get(made[-1].id) is made[-1]
    monkeypatch.setattr(module, "ENDED_SECONDS", -1.0)
    with pytest.raises(ApiError):
        jobs.get(made[-1].id)


def test_a_running_job_is_never_dropped(jobs, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENDED", 0)
    monkeypatch.setattr(module, "ENDED_SECONDS", -1.0)
    held = Held()
    job = jobs.submit("run", held)
    assert jobs.get(job.id) is job
    held.go.set()


def test_an_ended_job_keeps_only_its_events(jobs):
    class Request:
        pass

    import gc
    import weakref

    request = Request()
    there = weakref.ref(request)

    def work(_, request=request):
        return lambda: {"run": str(bool(request)), "flow": None}

    job = jobs.submit("run", work)
    heard(job)
    del work, request
    wait_for(lambda: not jobs.busy)
    gc.collect()
    assert there() is None


def test_closing_fails_running_and_waiting_jobs_with_the_reason():
    jobs = Jobs()
    held = Held()
    made = [jobs.submit("run", held), jobs.submit("run", quick)]
    held.began.wait(PATIENCE)
    jobs.close()
    assert [heard(job)[-1][0] for job in made] == ["failed", "failed"]
    assert all("this server was stopped" in heard(job)[-1][1]["message"] for job in made)
    wait_for(lambda: not jobs._thread.is_alive())
    with pytest.raises(ApiError, match="stopping"):
        jobs.submit("run", quick)


def test_a_listener_with_a_closed_loop_is_dropped(jobs):
    held = Held()
    job = jobs.submit("run", held)

    async def leave():
        events = job.listen()
        await anext(events)
        return events

    loop = asyncio.new_event_loop()
    events = loop.run_until_complete(leave())
    job._listeners.add((loop, asyncio.Event()))
    loop.run_until_complete(events.aclose())
    loop.close()
    job.token("a")
    held.go.set()
    assert heard(job)[-1][0] == "done"
