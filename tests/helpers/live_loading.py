"""Fixtures and helpers of the tests that load a model into a `LiveService` without network."""

import pytest
import tiny_chat
from clock import PATIENCE
from tiny_hub import no_network

from attributor._models import load
from attributor.web.live.schema import LoadRequest
from attributor.web.live.service import LiveService, ServerSettings

__all__ = ["ended", "failed", "folder", "live", "loaded", "offline", "stages"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    no_network(monkeypatch, tmp_path)
    monkeypatch.setattr(load, "_hub_reachable", lambda: False)


@pytest.fixture
def live(folder):
    made = LiveService(ServerSettings(model=str(folder)))
    yield made
    made.close()


def ended(job):
    """Return the last event of a job: (name, data)."""
    assert job.stopped.wait(PATIENCE), "it never ended"
    return job._events[-1].name, job._events[-1].data


def stages(job):
    """Return the stages that a job reported, in order, each once."""
    found = []
    for event in job._events:
        if event.name == "stage" and event.data["stage"] not in found:
            found.append(event.data["stage"])
    return found


def loaded(live, **fields):
    """Load a model, by default the server's; it must succeed. Return the job."""
    job = live.load(LoadRequest(**{"id": live.settings.model, **fields}))
    assert ended(job)[0] == "done", job._events[-1]
    return job


def failed(live, **fields):
    """Load a model, by default the server's; it must fail. Return the error."""
    name, data = ended(live.load(LoadRequest(**{"id": live.settings.model, **fields})))
    assert name == "failed", (name, data)
    return data
