"""The routes of a flow: responses, refused requests and their messages; no response has N^2 numbers."""

import datetime
import json
import re
from dataclasses import replace

import pytest
import torch
from example_flow import FERRY, HARBOUR, example
from fastapi import FastAPI
from fastapi.testclient import TestClient
from page_data import data_of
from safetensors.numpy import load
from tiny_front_end import tiny_front_end  # noqa: F401

import attributor
from attributor._documents import Document, place_documents
from attributor._errors import FileFormatError
from attributor._result.flow import Flow
from attributor._result.view import FlowView
from attributor._result.view.encode import encode_view
from attributor.web.http import errors
from attributor.web.http.flows import MOST_EDGES, create_router

FLOW = example()


@pytest.fixture(scope="module")
def client():
    nan = example()
    nan.scores.fill_(torch.nan)  # the constructor refuses NaN; a mapped file may hold it
    next_token = replace(
        FLOW,
        scores=FLOW.scores[:1],
        ids=FLOW.ids[: FLOW.prompt_length],
        missing_mass=None,
        answer=None,
        answer_offsets=None,
    )
    metadata = {"id": 7, "day": datetime.date(2024, 5, 1), "score": float("nan"), 3: ["a"]}
    dated = Document(HARBOUR, metadata=metadata)
    flows = {
        "a": FlowView(FLOW),
        "nan": FlowView(nan),
        "plain": FlowView(Flow(scores=torch.rand(2, 3), ids=torch.arange(5))),
        "bare": FlowView(example(documents=())),
        "next": FlowView(next_token),
        "dated": FlowView(FLOW.with_documents(place_documents(FLOW.text, [dated, FERRY]))),
    }

    def find(name: str) -> FlowView:
        if name == "corrupt":
            raise FileFormatError("a.safetensors is corrupt or truncated")
        if name == "own":
            raise errors.ApiError(409, "recording_gone", "the recording is gone")
        return flows[name]

    app = FastAPI()
    errors.add_error_handlers(app)
    app.include_router(create_router(find))
    with TestClient(app, raise_server_exceptions=False) as found:
        yield found


def tensors(client, path):
    answer = client.get(f"/api/flows/a/{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    return load(answer.content)


def test_view_returns_the_encoded_view(client):
    answer = client.get("/api/flows/a/view")
    assert answer.content == encode_view(FlowView(FLOW))
    assert "rows" not in load(answer.content)


def test_rows_returns_the_mean_of_a_range(client):
    assert tensors(client, "rows?start=1&stop=2")["scores"] == pytest.approx(FLOW.scores[1].numpy())
    assert tensors(client, "rows?start=1&stop=3")["scores"] == pytest.approx(FLOW.scores[1:3].mean(0).numpy(), abs=1e-7)
    assert tensors(client, "rows")["scores"] == pytest.approx(FLOW.total().numpy(), abs=1e-7)
    assert tensors(client, "rows?start=2")["scores"] == pytest.approx(FLOW.scores[2:].mean(0).numpy(), abs=1e-7)


@pytest.mark.parametrize("by", ["document", "sentence"])
def test_sums_agree_with_the_flow(client, by):
    found = tensors(client, f"sums?by={by}&start=0&stop=4")
    grouped = FLOW.by(by)
    assert found["sums"] == pytest.approx(grouped.total().numpy(), abs=1e-6)
    assert found["rest"] == pytest.approx([float(grouped.rest.mean())], abs=1e-6)


def test_received_agrees_with_the_flow(client):
    found = tensors(client, "received?start=3&stop=9")["received"]
    assert found == pytest.approx(FLOW.scores[:, 3:9].sum(1).numpy(), abs=1e-6)


@pytest.mark.parametrize("by", ["document", "sentence", "token"])
def test_edges_agree_with_the_flow(client, by):
    found = tensors(client, f"edges?by={by}&start=1&stop=4&limit=5")
    assert {name: (value.dtype.str, value.shape) for name, value in found.items()} == {
        "rows": ("<i4", (5,)),
        "pieces": ("<i4", (5,)),
        "mass": ("<f4", (5,)),
        "total": ("<f4", (1,)),
    }
    assert found["total"] == pytest.approx([float(FLOW.scores[1:4].sum())], rel=1e-5)
    grouped, rest = FLOW.by(by).scores.numpy(), FLOW.by(by).rest.numpy()
    for row, piece, mass in zip(found["rows"], found["pieces"], found["mass"], strict=True):
        assert mass == pytest.approx(grouped[row, piece] if piece >= 0 else rest[row], abs=1e-6)
    inside = tensors(client, f"edges?by={by}&start=1&stop=4&limit=5&unit_start=4&unit_stop=9")
    assert inside["total"] == pytest.approx([float(FLOW.scores[1:4, 4:9].sum())], rel=1e-5)
    if by == "token":
        assert set(inside["pieces"].tolist()) <= set(range(4, 9))


@pytest.mark.parametrize("top", [None, 1, 2])
def test_citations_agree_with_cite(client, top):
    answer = client.get("/api/flows/a/citations", params={} if top is None else {"top": top})
    assert answer.headers["content-type"] == "application/json"
    expected = FLOW.cite().to_json() if top is None else FLOW.cite(top=top).to_json()
    assert expected["citations"]
    assert answer.json() == expected


def test_metadata_outside_json_is_sent_as_text(client):
    sent = client.get("/api/flows/dated/citations").json()
    metadata = {"id": 7, "day": "2024-05-01", "score": "nan", "3": ["a"]}
    assert [document["metadata"] for document in sent["documents"]] == [metadata, {}]
    cited = [citation for claim in sent["claims"] for citation in claim["citations"]] + sent["citations"]
    assert {c["document"]: c["metadata"] for c in cited if c["document"] == 0} == {0: metadata}


def test_a_flow_without_text_is_served(client):
    assert load(client.get("/api/flows/plain/sums?by=sentence").content)["sums"].shape == (0,)
    assert load(client.get("/api/flows/plain/edges?by=document").content)["pieces"].tolist() == [-1, -1]


@pytest.mark.usefixtures("tiny_front_end")
def test_page_equals_to_html(client):
    answer = client.get("/api/flows/a/page")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="flow.html"'
    assert answer.text == FLOW.to_html()
    assert data_of(answer.text)["tokens"] == FLOW.prompt_length


def test_page_needs_the_front_end(client, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("ATTRIBUTOR_WEB_STATIC", str(tmp_path))
    answer = client.get("/api/flows/a/page")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_front_end")
    assert str(tmp_path) not in answer.text
    assert str(tmp_path) in caplog.text


def test_file_loads_as_the_same_flow(client, tmp_path):
    answer = client.get("/api/flows/a/file")
    assert answer.headers["content-disposition"] == 'attachment; filename="flow.safetensors"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    (tmp_path / "flow.safetensors").write_bytes(answer.content)
    loaded = attributor.load(tmp_path / "flow.safetensors")
    assert torch.equal(loaded.scores, FLOW.scores)
    assert (loaded.text, loaded.documents, loaded.meta) == (FLOW.text, FLOW.documents, FLOW.meta)


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        ("none/view", 404, "unknown_flow", "no flow has this id"),
        ("none/rows?start=0&stop=1", 404, "unknown_flow", "no flow has this id"),
        ("%2e%2e%2fetc/view", 404, None, ""),
        ("x" * 300 + "/view", 422, "invalid_request", "flow"),
        ("own/view", 409, "recording_gone", "the recording is gone"),
        ("corrupt/view", 422, "unreadable_file", "a.safetensors is corrupt"),
        ("nan/view", 422, "unreadable_file", "the flow has scores that are NaN or infinite"),
        ("nan/page", 422, "unreadable_file", "NaN or infinite"),
        ("a/rows?start=0&stop=5", 422, "no_such_range", "there are 4 rows of the answer; 0 to 5 is no range"),
        ("a/rows?start=2&stop=2", 422, "no_such_range", "2 to 2 is no range"),
        ("a/rows?start=99999999999999999999999", 422, "no_such_range", "no range"),
        ("a/rows?start=-1&stop=1", 422, "invalid_request", "start"),
        ("a/rows?start=0&stop=0", 422, "invalid_request", "stop"),
        ("a/rows?start=one", 422, "invalid_request", "start"),
        ("a/rows?start=1.5", 422, "invalid_request", "start"),
        ("a/rows?start=", 422, "invalid_request", "start"),
        ("nan/citations", 422, "unreadable_file", "NaN or infinite"),
        ("plain/citations", 422, "no_citations", "needs the prompt's text"),
        ("bare/citations", 422, "no_citations", "this flow has no documents"),
        ("next/citations", 422, "no_citations", "needs an answer"),
        ("a/citations?top=0", 422, "invalid_request", "top"),
        ("a/citations?top=one", 422, "invalid_request", "top"),
        ("a/sums", 422, "invalid_request", "by"),
        ("a/sums?by=token", 422, "invalid_request", "by"),
        ("a/sums?by=__class__", 422, "invalid_request", "by"),
        ("a/received?start=0&stop=999", 422, "no_such_range", "pieces of the prompt"),
        ("a/edges", 422, "invalid_request", "by"),
        ("a/edges?by=token&limit=0", 422, "invalid_request", "limit"),
        (f"a/edges?by=token&limit={MOST_EDGES + 1}", 422, "invalid_request", "limit"),
        ("a/edges?by=token&unit_start=5&unit_stop=4", 422, "no_such_range", "5 to 4"),
    ],
)
def test_invalid_requests_are_refused(client, path, status, code, words):
    answer = client.get(f"/api/flows/{path}")
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert words in error["message"]
    assert code is None or error["code"] == code
    assert "Traceback" not in answer.text
    assert "/" not in error["message"] or code is None


def test_only_get_is_allowed(client):
    for method in ("post", "put", "delete", "patch"):
        assert getattr(client, method)("/api/flows/a/view").status_code == 405


def test_every_route_is_in_the_openapi_description(client):
    paths = client.app.openapi()["paths"]
    assert {path.rpartition("/")[2] for path in paths} == {
        "view",
        "rows",
        "sums",
        "received",
        "edges",
        "citations",
        "page",
        "file",
    }
    for path, methods in paths.items():
        assert list(methods) == ["get"]
        content = methods["get"]["responses"]["200"]["content"]
        kinds = {"page": "text/html", "citations": "application/json"}
        kind = kinds.get(path.rpartition("/")[2], "application/octet-stream")
        assert list(content) == [kind], f"{path} is described as {json.dumps(content)}"
        assert methods["get"]["summary"]
        assert methods["get"]["description"]
        described = {parameter["name"] for parameter in methods["get"]["parameters"]}
        assert "flow" in described
    edges = paths["/api/flows/{flow}/edges"]["get"]["parameters"]
    assert [p["name"] for p in edges] == ["flow", "by", "start", "stop", "limit", "unit_start", "unit_stop"]
    assert re.search("without rows", paths["/api/flows/{flow}/view"]["get"]["responses"]["200"]["description"])
