"""Random requests generated from the OpenAPI description must not break the server or get an undescribed response.

Both servers run on a real socket. `serve` has a tiny model loaded, so that valid requests do run.
"""

import json
import time

import pytest
import requests
import schemathesis
from clock import PATIENCE
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.responses import Response
from tiny_chat import save
from warm_start import WarmProcess, run_module
from web_cases import flow_file, run_folder
from web_server import running

from attributor.web.http import errors
from attributor.web.http.errors import LOG
from attributor.web.http.guard import Guard
from attributor.web.http.schema import Session
from attributor.web.http.security import HEADERS
from attributor.web.live.service import LiveService, ServerSettings
from attributor.web.openapi import build_openapi

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 30
FITS = {"layer": 1, "head": 1, "heads": "0,1", "level": 0, "row": 0, "col": 0, "start": 0, "stop": 2}
FITS |= {"limit": 9, "by": "sentence", "unit_start": 0, "unit_stop": 3, "case": "case-00000"}
# Valid requests, which must succeed.
SOUND = {
    "/api/count": {"question": "Who keeps the light?", "answer": "The keeper."},
    "/api/model": {"id": "nobody/nothing"},
    "/api/runs": {"messages": [{"role": "user", "content": "Who keeps the light?"}], "answer": "The keeper."},
    "/api/runs/{run_id}/weigh": {"weights": "mean"},
}
FLOWS = ("/api/flows/", "/api/sources/")
EXPLORE_ONLY = ("/api/files/", "/api/sources/")  # `serve` has these routes, but no files


def operations(door):
    """Return (method, path) of each operation; loading another model comes last."""
    found = []
    for path, item in build_openapi(door)["paths"].items():
        found += [(method.upper(), path) for method in item]
    return sorted(found, key=lambda one: (one == ("POST", "/api/model"), one[1]))


@pytest.fixture(scope="module", autouse=True)
def front_end(tmp_path_factory):
    """Install an empty front end, from which pages are made."""
    folder = tmp_path_factory.mktemp("static")
    for name, text in {"index.html": "<!doctype html>", "app.js": "export {};", "app.css": "p {}"}.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ATTRIBUTOR_WEB_STATIC", str(folder))
        yield


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    run_folder(folder / "run", 3)
    (folder / "run" / "flows").mkdir()
    flow_file(folder / "run" / "flows" / "case-00000.safetensors", tokens=40, rows=3, sentences=6, documents=2)
    flow_file(folder / "answer.safetensors", tokens=40, rows=3, sentences=6, documents=2)
    with running(folder) as server:
        sources = {one["name"]: one for one in server.client.get("/api/sources").json()["sources"]}
        ids = {
            "source": sources["run"]["id"],
            "file": sources["run"]["files"]["run"],
            "flow": sources["answer.safetensors"]["files"]["flow"],
        }
        yield server, ids, schemathesis.openapi.from_dict(build_openapi("explore"))


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    live = LiveService(ServerSettings(model=str(save(tmp_path_factory.mktemp("model")))))
    with running(door="serve", live=live) as server:
        live.start()
        asked = {"messages": [{"role": "user", "content": "Who keeps the light?"}], "answer": "The keeper."}
        answer = server.client.post("/api/runs", json=asked, headers=server.csrf)
        assert answer.status_code == 202, answer.text
        job = answer.json()["job"]
        said = server.client.get(f"/api/jobs/{job}/events").text
        assert "event: done" in said, said
        run = server.client.get("/api/runs").json()["runs"][0]
        ids = {"flow": run["flow"], "run_id": run["id"], "job_id": job}
        yield server, ids, schemathesis.openapi.from_dict(build_openapi("serve"))


def fuzz(server, ids, schema, method, path):
    """Send requests for one operation, about half of them with ids that exist, and check each answer."""
    operation = schema[path][method]
    made = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    described = schema.raw_schema["paths"][path][method.lower()]
    parameters = [one["name"] for one in described.get("parameters", []) if one["in"] == "query"]
    statuses = []
    session = requests.Session()
    session.trust_env = False

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=made, known=st.booleans(), small=st.booleans())
    def one(case, known, small):
        if small and isinstance(case.query, dict):  # what a flow of the tiny model has
            case.query.update({name: FITS[name] for name in parameters if name in FITS})
        if known and method != "DELETE" and isinstance(case.path_parameters, dict):
            case.path_parameters.update({name: ids[name] for name in case.path_parameters if name in ids})
        send(case)

    # What is drawn hangs on the modules that are imported, so that nothing may fit by chance.
    @settings(
        max_examples=2, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def sound(case):
        if path in SOUND:
            case.body = SOUND[path]
        case.query = {name: FITS[name] for name in parameters if name in FITS}
        case.path_parameters = {name: ids.get(name, drawn) for name, drawn in (case.path_parameters or {}).items()}
        until = time.monotonic() + PATIENCE
        while send(case) == 429 and time.monotonic() < until:  # the jobs of earlier requests fill the queue
            time.sleep(0.05)

    def send(case):
        answer = case.call(f"http://localhost:{server.port}", session=session, headers=server.csrf, timeout=20)
        case.validate_response(answer, checks=CHECKS)
        assert answer.headers["content-security-policy"] == [HEADERS["Content-Security-Policy"]]
        statuses.append(answer.status_code)
        return answer.status_code

    with session:
        one()
        if (method == "POST" and path in SOUND) or (method == "GET" and path.startswith(FLOWS)):
            sound()
    return statuses


@pytest.mark.parametrize(("method", "path"), operations("explore"))
def test_explore_handles_random_requests(explored, method, path, caplog):
    LOG.propagate = True
    statuses = fuzz(*explored, method, path)
    LOG.propagate = False
    assert any(status < 300 for status in statuses), "no request got through: the test reaches nothing"
    assert caplog.text == ""


@pytest.mark.parametrize(("method", "path"), operations("serve"))
def test_serve_handles_random_requests(lived, method, path):
    statuses = fuzz(*lived, method, path)
    if method != "DELETE" and not path.startswith(EXPLORE_ONLY):  # DELETE gets no existing ids
        assert any(status < 300 for status in statuses), "no request got through: the test reaches nothing"
    assert lived[0].client.get("/api/session").status_code == 200


def test_the_fuzzer_detects_planted_faults():
    """One route fails, and one returns an undescribed response."""
    app = FastAPI()

    @app.get("/api/broken")
    def broken(number: int) -> int:
        return 1 // (number - number)

    @app.get("/api/undescribed", status_code=200)
    def undescribed() -> Session:
        return Response('{"door": 3}', media_type="application/json")

    errors.add_error_handlers(app)
    with running(app=lambda access: Guard(app, access)) as server:
        schema = schemathesis.openapi.from_dict(app.openapi())
        for path in ("/api/broken", "/api/undescribed"):
            with pytest.raises(FailureGroup):
                fuzz(server, {}, schema, "GET", path)


def test_the_openapi_description_covers_both_modes():
    process = WarmProcess(run_module, "attributor.web.openapi", merge_stderr=False)
    printed = json.loads(process.communicate(PATIENCE))
    assert process.wait(PATIENCE) == 0
    assert printed == build_openapi("serve")
    assert set(build_openapi("explore")["paths"]) < set(printed["paths"])
    for method, path in operations("serve"):
        described = printed["paths"][path][method.lower()]
        for status in ("4XX", "5XX"):
            content = described["responses"][status]["content"]
            assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}, path
        assert ("security" in described) == (method != "GET")
