"""The routes for the flow through the model: responses, refused requests and the queue of computations."""

import asyncio
import json
import threading
import time
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense_attention import ANSWER, K, recorded, weights_of
from fastapi import APIRouter, FastAPI
from safetensors.numpy import load
from starlette.testclient import TestClient

from attributor._errors import InputError
from attributor._prompt.sequence import TokenSequence
from attributor._record.head_weights import HeadWeights
from attributor._text.segments import Segment
from attributor.web.http import errors
from attributor.web.http.errors import ApiError
from attributor.web.live import tiles, views
from attributor.web.live.attention import choose_rows
from attributor.web.live.runs import LiveRun, RunStore, SharedRecording
from attributor.web.live.view_queue import run_in_turn
from attributor.web.live.views import create_router

# 60 tokens of 3 characters; tokens 9 and 10 share theirs, so there are 59 units
SPANS = np.stack([np.arange(K) * 3, np.arange(K) * 3 + 3], 1)
SPANS[9] = SPANS[10] = (27, 33)
UNIT_OF = np.r_[np.arange(10), np.arange(9, K - 1)]


def texted(flow):
    from dataclasses import replace

    return replace(
        flow,
        text="ab " * K,
        offsets=torch.from_numpy(SPANS),
        answer="xy " * ANSWER,
        answer_offsets=torch.stack([torch.arange(ANSWER) * 3, torch.arange(ANSWER) * 3 + 3], 1),
        documents=(Segment(0, 90, "ab " * 30, "first"),),
    )


class ViewClient:
    """A client for a store with one run, and the matrices that the responses must agree with."""

    def __init__(self, family="llama", weights=None, question=None):
        self.weights = HeadWeights(torch.full((4, 4), 0.25)) if weights is None else weights
        self.case = recorded(family, heads=torch.ones(4, 4))
        asked = None if question is None else torch.tensor(question)
        flow = texted(self.case.recording.flow(self.case.ids, weights=self.weights, question=asked))
        self.run = LiveRun(
            title="a run",
            model="tiny",
            flow=flow,
            presets=None,
            weights=self.weights,
            weights_name="mean",
            question=asked,
            shared=SharedRecording(self.case.recording, TokenSequence(self.case.ids, K), self.case.recording.nbytes),
        )
        self.live = SimpleNamespace(runs=RunStore(1 << 30), compute=threading.Lock())
        self.live.runs.add(self.run)
        app = FastAPI()
        errors.add_error_handlers(app)
        api = APIRouter(prefix="/api")
        api.include_router(create_router(self.live))
        app.include_router(api)
        self.app = app
        self.client = TestClient(app, raise_server_exceptions=False)

    def get(self, what, flow=None, **query):
        return self.client.get(f"/api/flows/{flow or self.run.flow_id}/{what}", params=query)

    def tensors(self, what, **query):
        answer = self.get(what, **query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/octet-stream"
        assert not self.live.compute.locked()
        return load(answer.content)


@pytest.fixture(scope="module")
def client():
    return ViewClient()


def test_heads_agree_with_the_matrices(client):
    got = client.tensors("heads", start=2, stop=5, unit_start=8, unit_stop=12)
    P = client.case.attentions[:, :, K + 1 : K + 4]
    assert {name: array.dtype for name, array in got.items()} == {
        **dict.fromkeys(("mass", "entropy", "sink", "distance", "weight"), np.dtype("f4")),
        **dict.fromkeys(("rows", "rows_used"), np.dtype("i4")),
    }
    np.testing.assert_allclose(got["mass"], P[..., 8:13].sum(-1).mean(-1), rtol=0, atol=2e-6)  # unit 9 has two tokens
    np.testing.assert_allclose(got["sink"], P[..., 0].mean(-1), rtol=0, atol=2e-6)
    assert got["weight"].tolist() == np.full((4, 4), 0.25).tolist()
    assert got["rows"].tolist() == [2, 3, 4]
    assert got["rows_used"].tolist() == [3]


def test_the_default_selection_is_the_whole_answer_and_prompt(client):
    got = client.tensors("heads")
    P = client.case.attentions[:, :, K - 1 :]
    np.testing.assert_allclose(got["mass"], P[..., :K].sum(-1).mean(-1), rtol=0, atol=2e-6)
    assert got["rows"].tolist() == list(range(ANSWER))
    one_sided = client.tensors("heads", unit_start=50)
    np.testing.assert_allclose(one_sided["mass"], P[..., 51:K].sum(-1).mean(-1), rtol=0, atol=2e-6)


def test_many_rows_are_thinned(client, monkeypatch):
    monkeypatch.setattr(views, "choose_rows", lambda start, stop, most: choose_rows(start, stop, min(4, most)))
    got = client.tensors("heads", start=0, stop=ANSWER)
    assert got["rows_used"].tolist() == [4]
    assert got["rows"].tolist() == [0, 4, 7, 11]
    np.testing.assert_allclose(
        got["sink"], client.case.attentions[:, :, [K - 1, K + 3, K + 6, K + 10], 0].mean(-1), rtol=0, atol=2e-6
    )


def test_layer_agrees_with_the_matrices(client):
    got = client.tensors("layer", layer=2, heads="3,1", start=4, stop=6, limit=10_000, unit_start=5, unit_stop=20)
    P = client.case.attentions[2]
    for query, key, head, mass in zip(got["query"], got["key"], got["head"], got["mass"], strict=True):
        assert query in (4, 5)
        assert mass == pytest.approx(float(P[head, K - 1 + query, np.flatnonzero(key == UNIT_OF)].sum()), abs=2e-6)
    assert len(got["mass"]) == 2 * 2 * 15
    selected = (UNIT_OF >= 5) & (UNIT_OF < 20)
    whole = P[[3, 1], K + 3 : K + 5, :K][..., selected].sum((1, 2))
    np.testing.assert_allclose(got["totals"], whole, rtol=0, atol=2e-6)
    assert got["relative"].tolist() == [1, 1]
    assert got["rows"].tolist() == [4, 5]


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_trace_agrees_with_the_flow(family):
    client = ViewClient(family, HeadWeights(weights_of()))
    answer = client.get("trace", start=3, stop=6, unit_start=8, unit_stop=14, keep=1, nodes=64)
    assert answer.status_code == 200, answer.text
    got = answer.json()
    tokens = np.flatnonzero((UNIT_OF >= 8) & (UNIT_OF < 14))
    exact = float(client.run.flow.scores[3:6].double().mean(0)[tokens].sum())
    assert got["exact"] == pytest.approx(exact)
    assert got["shown"] > 0.98
    assert got["rows"] == [3, 4, 5]
    assert [level["layer"] for level in got["levels"]] == [4, 2, 1, 0]
    by_id = {node["id"]: node for level in got["levels"] for node in level["nodes"]}
    for node in by_id.values():
        p = node["position"]
        assert node["unit"] == (int(UNIT_OF[p]) if p < K else None)
        assert node["row"] == (p - K + 1 if p >= K - 1 else None)
    assert {node["row"] for node in got["levels"][0]["nodes"]} <= {3, 4, 5}
    assert {node["unit"] for node in got["levels"][-1]["nodes"]} <= set(range(8, 14))
    for edge in got["edges"]:
        assert set(edge) == {"from", "to", "mass", "head", "heads"}
        assert edge["from"] in by_id
        assert edge["to"] in by_id
        assert (edge["head"] is None) == (not edge["heads"])
    assert len(got["paths"]) == 20
    for path in got["paths"]:
        assert path["share"] == pytest.approx(path["mass"] / exact)
        assert len(path["nodes"]) == 4
    few = client.get("trace", start=3, stop=6, unit_start=8, unit_stop=14, nodes=6).json()
    assert max(len(level["nodes"]) for level in few["levels"]) <= 6
    assert 0 < few["shown"] < got["shown"]
    assert few["rows"] == [3, 4, 5]
    assert client.get("trace", nodes=6).json()["rows"] == [0, 6, 11]  # half of the nodes


def test_a_trace_uses_the_question_share_of_the_flow():
    client = ViewClient(weights=HeadWeights(torch.full((4, 4), 0.25), question=0.5), question=[40, 41, 44])
    got = client.get("trace", start=1, stop=2, keep=1, nodes=64).json()
    assert {node["position"] for node in got["levels"][0]["nodes"]} == {40, 41, 44, K}
    assert got["exact"] == pytest.approx(float(client.run.flow.scores[1].sum()))
    assert got["shown"] == pytest.approx(1, abs=1e-5)


def test_an_unnormalized_flow_has_the_same_trace():
    client, other = ViewClient(), ViewClient()
    other.run.flow = texted(other.case.recording.flow(other.case.ids, weights=other.weights, normalize=False))
    got, wanted = (one.get("trace", start=1, stop=2).json() for one in (other, client))
    assert got["exact"] == pytest.approx(wanted["exact"], rel=1e-5)
    assert got["shown"] == pytest.approx(wanted["shown"], rel=1e-5)


def test_tiles_agree_with_the_matrices(client):
    assert client.get("tiles", layer=0, head=1).json() == {"tokens": K + ANSWER - 1, "size": 256, "levels": 1}
    got = client.tensors("tile", layer=3, head=1, level=0, row=0, col=0)
    P = np.zeros((256, 256))
    P[: client.case.length, : client.case.length] = client.case.attentions[3, 1]
    assert got["every"].tolist() == [1]
    assert got["max"].dtype == np.uint8
    for name, scale in zip(("max", "mean"), got["scale"], strict=True):
        np.testing.assert_allclose(got[name] / 255, np.sqrt(P / scale), rtol=0, atol=0.5 / 255 + 2e-3)


def test_tiles_are_computed_once(monkeypatch):
    client, calls = ViewClient(), []
    original = tiles.compute_tile
    monkeypatch.setattr(tiles, "compute_tile", lambda *args, **more: calls.append(args) or original(*args, **more))
    place = {"layer": 0, "head": 0, "level": 0, "row": 0, "col": 0}
    first = client.get("tile", **place)
    assert client.get("tile", **place).content == first.content
    assert len(calls) == 1
    client.get("tile", **{**place, "head": 1})
    assert len(calls) == 2


@pytest.mark.parametrize("what", ["heads", "layer", "trace", "tiles", "tile"])
def test_an_evicted_recording_returns_409(what):
    client = ViewClient()
    query = {"layer": 0, "heads": "0", "head": 0, "level": 0, "row": 0, "col": 0}
    assert client.get(what, **query).status_code == 200
    client.run.shared = None
    answer = client.get(what, **query)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "recording_gone"
    assert client.get(what, flow="nothing", **query).status_code == 404


REFUSED = [
    ("heads", {"start": 5, "stop": 5}, "rows of the answer are 0 to 11"),
    ("heads", {"start": 0, "stop": 13}, "stop at most 12"),
    ("heads", {"start": 12}, "rows of the answer"),
    ("heads", {"start": -1}, "greater than or equal to 0"),
    ("heads", {"start": "x"}, "valid integer"),
    ("heads", {"unit_start": 59}, "units of the prompt are 0 to 58"),
    ("heads", {"unit_start": 4, "unit_stop": 2}, "start must be below stop"),
    ("heads", {"unit_stop": 60}, "stop at most 59"),
    ("layer", {"layer": 4, "heads": "0"}, "layers 0 to 3 with heads 0 to 3"),
    ("layer", {"layer": 0, "heads": "0,4"}, "heads 0 to 3"),
    ("layer", {"layer": 0, "heads": ""}, "numbers with commas"),
    ("layer", {"layer": 0, "heads": "1,1"}, "each once"),
    ("layer", {"layer": 0, "heads": "²"}, "numbers with commas"),
    ("layer", {"layer": 0, "heads": "0," * 40 + "x"}, "numbers with commas"),
    ("layer", {"layer": 0, "heads": "0,1,2", "limit": 2}, "at least 3, an edge a head"),
    ("layer", {"layer": 0, "heads": "0", "limit": 20_001}, "20000"),
    ("layer", {"heads": "0"}, "layer: Field required"),
    ("trace", {"keep": 0}, "greater than 0"),
    ("trace", {"keep": "nan"}, "keep"),
    ("trace", {"nodes": 65}, "less than or equal to 64"),
    ("tiles", {"layer": 0, "head": 4}, "heads 0 to 3"),
    ("tile", {"layer": 0, "head": 0, "level": 1, "row": 0, "col": 0}, "levels 0 to 0"),
    ("tile", {"layer": 0, "head": 0, "level": 0, "row": 1, "col": 0}, "tiles 0 to 0"),
    ("tile", {"layer": 10**30, "head": 0, "level": 0, "row": 0, "col": 0}, "layers 0 to 3"),
]


@pytest.mark.parametrize(("what", "query", "sentence"), REFUSED)
def test_invalid_requests_are_refused(client, what, query, sentence):
    answer = client.get(what, **query)
    assert answer.status_code == 422, answer.text
    assert sentence in answer.json()["error"]["message"]
    assert not client.live.compute.locked()


def test_a_head_that_was_not_recorded_is_refused():
    client = ViewClient()
    some_heads = recorded("llama", heads=weights_of()).recording
    client.run.shared = SharedRecording(some_heads, TokenSequence(client.case.ids, K), 0)
    assert np.isnan(client.tensors("heads")["mass"][2]).all()
    answer = client.get("layer", layer=1, heads="0,2")
    assert answer.status_code == 409
    assert "heads [2] of layer 1 were not recorded" in answer.json()["error"]["message"]


def test_the_openapi_description_names_the_fields_sent(client):
    schema = client.app.openapi()
    edge = schema["components"]["schemas"]["TraceEdge"]["properties"]
    assert {"from", "to", "mass", "head", "heads"} == set(edge)
    assert "NaN" not in json.dumps(client.get("trace", nodes=2).json())


def waiting(gone=lambda: False):
    """Return a request whose client disconnects as soon as `gone` returns True."""

    async def is_disconnected():
        return gone()

    return SimpleNamespace(is_disconnected=is_disconnected)


def test_work_is_cancelled_when_the_client_disconnects():
    lock, steps = threading.Lock(), []

    def work(check):
        for step in range(1000):
            check()
            steps.append(step)
            time.sleep(0.01)

    began = time.monotonic()
    with pytest.raises(ApiError, match="went on"):
        asyncio.run(run_in_turn(lock, waiting(lambda: len(steps) > 5), work))
    assert time.monotonic() - began < 5, "it went on to its end"
    assert 5 < len(steps) < 500
    assert not lock.locked()


def test_a_client_that_left_the_queue_never_starts():
    lock, polls = threading.Lock(), count()
    lock.acquire()
    with pytest.raises(ApiError, match="went on"):
        asyncio.run(run_in_turn(lock, waiting(lambda: next(polls) > 2), lambda check: pytest.fail("it began")))
    assert lock.locked()


def test_one_computation_runs_at_a_time_and_waiting_uses_no_thread():
    lock, inside, most = threading.Lock(), [], []

    def work(check):
        inside.append(1)
        most.append((len(inside), threading.active_count()))
        time.sleep(0.01)
        inside.pop()
        return len(most)

    async def many():
        return await asyncio.gather(*(run_in_turn(lock, waiting(), work) for _ in range(30)))

    assert sorted(asyncio.run(many())) == list(range(1, 31))
    assert max(count for count, _ in most) == 1
    assert max(threads for _, threads in most) < 20


def test_a_failure_releases_the_queue():
    lock = threading.Lock()

    def fail(error):
        raise error

    with pytest.raises(ApiError) as found:
        asyncio.run(run_in_turn(lock, waiting(), lambda check: fail(InputError("no such thing"))))
    assert (found.value.status, found.value.message) == (422, "no such thing")
    for full in (MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")):
        with pytest.raises(ApiError, match="memory ran out") as found:
            asyncio.run(run_in_turn(lock, waiting(), lambda check, full=full: fail(full)))
        assert found.value.status == 507
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_in_turn(lock, waiting(), lambda check: fail(ZeroDivisionError())))
    with pytest.raises(RuntimeError, match="no memory in this"):
        asyncio.run(run_in_turn(lock, waiting(), lambda check: fail(RuntimeError("no memory in this"))))
    assert asyncio.run(run_in_turn(lock, waiting(), lambda check: "fine")) == "fine"
