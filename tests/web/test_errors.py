"""Every failure is JSON with its status and a message, without a traceback, a path or words of a prompt."""

import json
import logging
import time

import pytest
from clock import PATIENCE
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from web_server import running

from attributor import _errors
from attributor.web.http import errors
from attributor.web.http.errors import LOG, ApiError, classify_error
from attributor.web.http.guard import Guard

SECRET = "the patient's name is Ada"


def failing(access):
    """An app whose routes fail in every possible way."""
    app = FastAPI(openapi_url=None)
    errors.add_error_handlers(app)
    kinds = {name: getattr(_errors, name) for name in _errors.__all__}

    @app.get("/api/known/{kind}")
    def known(kind: str) -> None:
        raise kinds[kind](f"a sentence about {kind}")

    @app.get("/api/unknown")
    def unknown() -> None:
        raise RuntimeError(SECRET)

    @app.get("/api/memory")
    def memory() -> None:
        raise MemoryError(SECRET)

    @app.get("/api/own")
    def own() -> None:
        raise ApiError(409, "recording_gone", "half of a pair: \ud800", {"X-More": "1"})

    @app.get("/api/http")
    def http(status: int, worded: bool = False) -> None:
        raise HTTPException(status, {"code": "worded", "message": "a sentence"} if worded else None)

    @app.get("/api/stream")
    def stream() -> StreamingResponse:
        def parts():
            yield b"begun"
            raise RuntimeError(SECRET)

        return StreamingResponse(parts())

    @app.get("/api/answer")
    def answer() -> int:
        return SECRET  # type: ignore[return-value]

    @app.post("/api/body")
    def body(body: dict[str, int]) -> dict:
        return body

    return Guard(app, access)


@pytest.fixture(scope="module")
def served():
    with running(app=failing) as server:
        yield server


@pytest.fixture
def log(caplog):
    LOG.propagate = True
    LOG.setLevel(logging.ERROR)
    yield caplog
    LOG.propagate = False


def failed(answer):
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert set(answer.json()) == {"error"}
    for word in ("Traceback", "File ", ".py", "site-packages", SECRET):
        assert word not in answer.text
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", _errors.__all__)
def test_every_attributor_error_has_a_status_and_keeps_its_message(served, kind):
    status, code, message = failed(served.client.get(f"/api/known/{kind}"))
    assert (400 <= status < 500) or (status, kind) == (507, "DeviceMemoryError")
    assert message == f"a sentence about {kind}"
    assert code != "internal_error"


def test_attributor_errors_have_the_documented_status():
    expected = {
        "InputError": 400, "ModelLoadError": 424, "UnsupportedModelError": 422, "DeviceMemoryError": 507,
        "FileFormatError": 422, "RecordingError": 409, "ImplementationError": 400,
    }  # fmt: skip
    assert {name: classify_error(getattr(_errors, name)("x"))[0] for name in expected} == expected
    assert classify_error(RuntimeError("x")) is None


def test_an_unexpected_error_sends_an_id_and_logs_the_trace(served, log):
    status, code, message = failed(served.client.get("/api/unknown", params={"q": SECRET}))
    assert (status, code) == (500, "internal_error")
    name = message.rpartition(" ")[2]
    assert len(name) == 8
    assert len(log.records) == 1
    assert f"internal error {name} in 'GET /api/unknown'" in log.text
    assert "test_errors.py" in log.text
    assert "RuntimeError" in log.text
    assert SECRET not in log.text  # prompts are not logged


def test_error_messages_are_logged_only_with_debug(served, log):
    LOG.setLevel(logging.DEBUG)
    served.client.get("/api/unknown")
    assert SECRET in log.text


def wait_for(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)


def test_requests_are_logged_without_their_query(served, log):
    LOG.setLevel(logging.DEBUG)
    served.client.get("/api/http", params={"status": 404, "token": SECRET})
    wait_for(lambda: "GET '/api/http' 404" in log.text)  # the log line is written after the response
    assert "patient" not in log.text
    log.clear()
    LOG.setLevel(logging.ERROR)
    served.client.get("/api/http", params={"status": 404})
    assert log.text == ""


def test_a_path_cannot_forge_log_lines(served, log):
    LOG.setLevel(logging.DEBUG)
    served.client.get("/api/x%0Aattributor: all is well%1b[2J")
    wait_for(lambda: "\\nattributor: all is well\\x1b" in log.text)
    assert "\x1b" not in log.text


def test_out_of_memory_returns_507(served, log):
    status, code, message = failed(served.client.get("/api/memory"))
    assert (status, code) == (507, "out_of_memory")
    assert "ran out of memory" in message


def test_an_error_of_a_route_keeps_its_headers_and_is_ascii(served):
    answer = served.client.get("/api/own")
    assert failed(answer)[:2] == (409, "recording_gone")
    assert answer.headers["x-more"] == "1"
    assert answer.content.isascii()


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (410, "gone"), (429, "queue_full"), (418, "refused")])
def test_http_errors_have_a_code_and_a_message(served, status, code):
    assert failed(served.client.get("/api/http", params={"status": status}))[:2] == (status, code)
    worded = served.client.get("/api/http", params={"status": status, "worded": True})
    assert failed(worded) == (status, "worded", "a sentence")


def test_unknown_addresses_return_404(served):
    assert failed(served.client.get("/api/none"))[:2] == (404, "not_found")
    assert failed(served.client.post("/api/unknown", json={}, headers=served.csrf))[:2] == (405, "method_not_allowed")


def test_a_failed_stream_is_logged_without_its_message(served, log):
    found = served.head("GET", "/api/stream")
    assert found[0] == 200
    assert SECRET.encode() not in found[2]
    assert "RuntimeError" in log.text
    assert SECRET not in log.text


def test_a_response_that_violates_its_model_is_an_internal_error(served, log):
    assert failed(served.client.get("/api/answer"))[:2] == (500, "internal_error")
    assert SECRET not in log.text


@pytest.mark.parametrize(
    "body", [{"a": SECRET}, [SECRET], {"a": {"b": 1}}, {"\ud800": "x"}, {SECRET[:3]: None}, "x", None]
)
def test_an_invalid_body_is_not_echoed(served, log, body):
    headers = {**served.csrf, "Content-Type": "application/json"}
    answer = served.client.post("/api/body", content=json.dumps(body), headers=headers)
    assert failed(answer)[:2] == (422, "invalid_request")
    assert log.text == ""


def test_a_failed_request_does_not_stop_the_server(served, log):
    for path in ("/api/unknown", "/api/stream", "/api/memory"):
        served.head("GET", path)
    assert served.client.post("/api/body", json={"a": 1}, headers=served.csrf).json() == {"a": 1}
