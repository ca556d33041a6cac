"""Cancelling the loading of a model in each stage, and the state afterwards."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import threading
import time

import pytest
from clock import PATIENCE
from live_client import wait_for
from live_loading import ended, folder, live, loaded, offline, stages  # noqa: F401

from attributor import _models
from attributor._models import load
from attributor.web.live import loading, memory


class Gate:
    """A function that waits until `go` is set."""

    def __init__(self, inner):
        self.inner, self.reached, self.go, self.calls = inner, threading.Event(), threading.Event(), 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        self.reached.set()
        assert self.go.wait(PATIENCE)
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize(
    ("module", "name"), [(_models, "locate_model"), (_models, "load_model"), (memory, "check_fits")]
)
def test_loading_can_be_cancelled_in_every_stage(live, monkeypatch, module, name):
    gate = Gate(getattr(module, name))
    monkeypatch.setattr(module, name, gate)
    job = live.start()
    assert gate.reached.wait(PATIENCE)
    assert live.state().state == "loading"
    began = time.perf_counter()
    live.jobs.cancel(job.id)
    assert ended(job) == ("cancelled", {})
    wait_for(lambda: not live.jobs.busy)
    assert time.perf_counter() - began < 2
    assert live.state().state == "none"
    gate.go.set()
    live.models._abandoned.join(PATIENCE)
    assert live.models.loaded is None, "what came of it was not dropped"
    assert live.state().state == "none"


def test_the_next_load_waits_for_an_abandoned_one(live, monkeypatch):
    gate = Gate(_models.load_model)
    monkeypatch.setattr(_models, "load_model", gate)
    left = live.start()
    assert gate.reached.wait(PATIENCE)
    live.jobs.cancel(left.id)
    second = live.start()
    wait_for(lambda: "wait" in stages(second))
    time.sleep(0.2)
    assert gate.calls == 1
    gate.go.set()
    assert ended(second)[0] == "done"
    assert gate.calls == 2
    third_gate = Gate(_models.load_model)
    monkeypatch.setattr(_models, "load_model", third_gate)
    live.jobs.cancel(live.start().id)  # queued or already running
    third_gate.go.set()


def test_reading_stops_between_two_weights(live, monkeypatch):
    seen = []
    update = loading._ReadingProgress.update

    def watched(self, n=1):
        seen.append(self._done)
        if len(seen) == 3:
            self._job.cancel()
        update(self, n)

    monkeypatch.setattr(loading._ReadingProgress, "update", watched)
    assert ended(live.start()) == ("cancelled", {})
    live.models._abandoned.join(PATIENCE)
    assert len(seen) == 3
    monkeypatch.undo()


def test_a_load_cancelled_early_keeps_the_previous_model(live, monkeypatch):
    loaded(live)
    before = live.models.require_loaded()
    gate = Gate(load.locate_model)
    monkeypatch.setattr(_models, "locate_model", gate)
    job = live.start()
    assert gate.reached.wait(PATIENCE)
    live.jobs.cancel(job.id)
    gate.go.set()
    live.models._abandoned.join(PATIENCE)
    assert live.models.require_loaded() is before
    assert live.state().state == "ready"
