"""Jobs over HTTP: events, queue and cancelling."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import json
import threading
import time
from functools import partial

import httpx
import pytest
from clock import PATIENCE, fastest
from live_client import PROMPT, serving, wait_for
from live_service import ANSWER, client, error, folder, info  # noqa: F401

from attributor import _flow, _models
from attributor.web.live import run_jobs
from attributor.web.live.jobs import Job
from attributor.web.live.service import ServerSettings


def test_the_answer_is_streamed_token_by_token(client):
    events = client.events(client.post("/api/runs", json={**PROMPT, "max_new_tokens": 10}).json()["job"])
    names = [name for name, _ in events]
    assert names[0] == "queued"
    assert names[-1] == "done"
    stages = list(dict.fromkeys(data["stage"] for name, data in events if name == "stage"))
    assert stages == ["tokenize", "prompt", "answer", "sweep"]
    said = "".join(data["text"] for name, data in events if name == "token")
    flow = client.live.runs.get_flow(events[-1][1]["flow"])
    assert said.removesuffix("<|end|>") == flow.answer
    assert len([name for name in names if name == "token"]) > 1


def test_the_first_event_arrives_within_200_ms_beside_another_job(client, monkeypatch):
    go = hold(monkeypatch)
    first = client.post("/api/runs", json=PROMPT).json()["job"]
    second = client.post("/api/runs", json=PROMPT).json()["job"]
    for job, event in ((first, ("queued", {"position": 0})), (second, ("queued", {"position": 1}))):
        assert fastest(partial(first_event, client, job, event), 0.2) < 0.2
    go.set()
    assert client.events(first)[-1][0] == "done"
    assert client.events(second)[-1][0] == "done"


def first_event(client, job, event):
    """Return the seconds until the first event of a job arrives."""
    began = time.perf_counter()
    assert next(client.listen(job)) == event
    return time.perf_counter() - began


def hold(monkeypatch, name="forward"):
    """Make reading the prompt wait for the event that this returns."""
    go, inner = threading.Event(), _flow.api.attach_recorder

    def waiting(*args):
        go.wait(PATIENCE)
        return inner(*args)

    monkeypatch.setattr(_flow.api, "attach_recorder", waiting)
    return go


def test_late_and_reconnecting_listeners_receive_every_event(client):
    job = client.post("/api/runs", json={**PROMPT, "max_new_tokens": 6}).json()["job"]
    whole = client.events(job)
    assert client.events(job) == whole
    assert client.events(job, **{"Last-Event-ID": "2"}) == whole[3:]
    assert client.events(job, **{"Last-Event-ID": "nonsense"}) == whole
    assert client.events(job, **{"Last-Event-ID": "9" * 5000}) == whole
    with client.stream("GET", f"/api/jobs/{job}/events") as answer:
        lines = list(answer.iter_lines())
        assert answer.headers["cache-control"] == "no-cache"
    assert [line for line in lines if line.startswith("id:")] == [f"id: {number}" for number in range(len(whole))]


def test_an_idle_stream_is_kept_alive(client, monkeypatch):
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    go = hold(monkeypatch)
    job = client.post("/api/runs", json=PROMPT).json()["job"]
    with client.stream("GET", f"/api/jobs/{job}/events") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": ping"
        go.set()
        assert any(line == "event: done" for line in lines)


def test_two_tabs_receive_only_their_own_jobs(client):
    found: dict[int, list] = {}

    def tab(number):
        with httpx.Client(base_url=client.base_url, timeout=PATIENCE) as own:
            text = f"Tab {number} asks who keeps the light"
            job = own.post("/api/runs", json={**PROMPT, "question": text, "answer": f"Answer {number}."}).json()["job"]
            with own.stream("GET", f"/api/jobs/{job}/events") as answer:
                data = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
            found[number] = [data[-1]["run"], data[-1]["flow"], text]

    tabs = [threading.Thread(target=tab, args=(number,)) for number in range(4)]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join(60)
    assert len(found) == 4
    for number, (run, flow, text) in found.items():
        assert info(client, run)["title"] == text
        assert client.live.runs.get_flow(flow).answer == f"Answer {number}."
        assert text in client.live.runs.get_flow(flow).text


# Queue and cancelling.


def test_a_full_queue_refuses_requests(client, monkeypatch):
    go = hold(monkeypatch)
    made = [client.post("/api/runs", json=PROMPT).json()["job"] for _ in range(5)]
    full = error(client.post("/api/runs", json=PROMPT), 429)
    assert full["code"] == "queue_full"
    assert "wait for one to end, or cancel one" in full["message"]
    assert error(client.post("/api/model", json={"id": "org/model"}), 429)["code"] == "queue_full"
    state = client.get("/api/model").json()
    assert (state["state"], state["id"]) == ("ready", client.live.settings.model), "a refused load changed the model"
    assert client.delete(f"/api/jobs/{made[3]}").status_code == 202
    assert client.events(made[3])[-1] == ("cancelled", {})
    sixth = client.post("/api/runs", json=PROMPT)
    assert sixth.status_code == 202
    go.set()
    ends = [client.events(job)[-1][0] for job in [*made, sixth.json()["job"]]]
    assert ends == ["done", "done", "done", "cancelled", "done", "done"]


@pytest.mark.parametrize("stage", ["tokenize", "prompt", "answer", "sweep"])
@pytest.mark.parametrize("given", [None, ANSWER])
def test_a_run_can_be_cancelled_in_every_stage(client, monkeypatch, stage, given):
    if given and stage == "answer":
        given = "The keeper"
        stage = "prompt"
    before = [run["id"] for run in client.get("/api/runs").json()["runs"]]
    reached, go, steps = threading.Event(), threading.Event(), []
    inner = Job.stage

    def watched(self, name, done=0, total=0, label=None):
        if reached.is_set():
            steps.append(name)
        inner(self, name, done, total, label)
        if name == stage and not reached.is_set():
            reached.set()
            go.wait(PATIENCE)

    monkeypatch.setattr(Job, "stage", watched)
    job = client.post("/api/runs", json={**PROMPT, "max_new_tokens": 30, "answer": given}).json()["job"]
    assert reached.wait(PATIENCE)
    began = time.perf_counter()
    client.delete(f"/api/jobs/{job}")
    go.set()
    assert client.events(job)[-1] == ("cancelled", {})
    wait_for(lambda: not client.live.jobs.busy)
    assert time.perf_counter() - began < 2
    assert len(steps) <= 1, "it went on after it was cancelled"
    assert [run["id"] for run in client.get("/api/runs").json()["runs"]] == before
    monkeypatch.undo()
    model = client.live.models.require_loaded().model
    assert not model._forward_hooks
    assert "generate" not in vars(model)
    assert client.run(answer=ANSWER)["run"]


def test_generation_stops_between_two_tokens(client, monkeypatch):
    put, written = run_jobs._Writing.put, []

    def watched(self, tokens):
        written.append(tokens.numel())
        if len(written) == 4:
            self._job.cancel()
        put(self, tokens)

    monkeypatch.setattr(run_jobs._Writing, "put", watched)
    job = client.post("/api/runs", json={**PROMPT, "max_new_tokens": 50}).json()["job"]
    assert client.events(job)[-1] == ("cancelled", {})
    wait_for(lambda: not client.live.jobs.busy)
    assert len(written) == 4


def test_a_run_waits_until_the_model_is_loaded(folder, monkeypatch):
    go, inner = threading.Event(), _models.load_model
    monkeypatch.setattr(_models, "load_model", lambda *a, **k: go.wait(PATIENCE) and inner(*a, **k))
    with serving(ServerSettings(model=str(folder))) as client:
        client.live.start()
        wait_for(lambda: client.get("/api/model").json()["state"] == "loading")
        run = client.post("/api/runs", json={**PROMPT, "answer": ANSWER})
        assert run.status_code == 202
        go.set()
        assert client.done(run)["flow"]


def test_a_run_for_another_model_is_refused(client):
    job = client.post("/api/runs", json={**PROMPT, "model": "org/other"}).json()["job"]
    name, said = client.events(job)[-1]
    assert (name, said["code"]) == ("failed", "model_changed")
    assert client.live.settings.model in said["message"]
    job = client.post("/api/runs", json={**PROMPT, "model": client.live.settings.model}).json()["job"]
    assert client.events(job)[-1][0] == "done"


def test_unknown_jobs_return_404(client):
    for answer in (client.get("/api/jobs/nothing/events"), client.delete("/api/jobs/nothing")):
        assert error(answer, 404)["code"] == "job_not_found"
    assert error(client.post("/api/runs/nothing/weigh", json={"weights": "mean"}), 404)["code"] == "run_not_found"
