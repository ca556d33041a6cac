"""The files that the server reads and refuses: paths, links, pipes, and false safetensors headers."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import json
import os
import re

import pytest
from web_cases import flow_file, run_folder
from web_folder import folder, served  # noqa: F401
from web_server import code, running


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..%5capp.py", "/static//etc/passwd",
     "/static/%2fetc%2fpasswd", "/static/.hidden", "/static/", "/static/a/../../app.py", "/static/app.js%00.png",
     "/static/app.js/", "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/static/%c0%ae%c0%ae/app.py", 
     "/static/\\..\\app.py",
     "/static/C:%5cwindows",
     "/api/files/..%2f..%2fetc%2fpasswd", "/api/files/%2fetc%2fpasswd", "/api/files/run.json",
     "/api/files/../session/../../etc/passwd"],
)  # fmt: skip
def test_path_traversal_reaches_no_file(served, path):
    found = served.head("GET", path)
    assert code(found)[0] in (400, 404)
    assert b"root:" not in found[2]
    assert b"import " not in found[2]


def test_static_links_out_of_the_folder_are_not_followed(served, tmp_path, monkeypatch):
    secret = tmp_path / "secret.js"
    secret.write_text("secret")
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text("<!doctype html><p>here")
    (static / "app.js").symlink_to(secret)
    (static / "out").symlink_to(tmp_path)
    monkeypatch.setenv("ATTRIBUTOR_WEB_STATIC", str(static))
    assert served.client.get("/").text == "<!doctype html><p>here"
    for path in ("/static/app.js", "/static/out/secret.js"):
        assert served.client.get(path).status_code == 404


def files_of(server):
    return {source["name"]: source["files"] for source in server.client.get("/api/sources").json()["sources"]}


def test_symlinks_that_leave_the_folder_are_not_opened(tmp_path):
    outside = tmp_path / "outside"
    run_folder(outside / "run", 2)
    flow_file(outside / "far.safetensors", tokens=20, rows=2, sentences=3, documents=1)
    inside = tmp_path / "inside"
    run_folder(inside / "own", 2)
    (inside / "linked-run").symlink_to(outside / "run")
    (inside / "linked.safetensors").symlink_to(outside / "far.safetensors")
    run_folder(inside / "half", 1)
    (inside / "half" / "cases.jsonl").unlink()
    (inside / "half" / "cases.jsonl").symlink_to(outside / "run" / "cases.jsonl")
    (inside / "own" / "flows").symlink_to(outside)
    with running(inside) as server:
        found = files_of(server)
        assert set(found) == {"own", "half"}
        assert found["half"]["cases"] == []
        listed = server.client.get("/api/sources").json()
        assert "linked.safetensors leads out of the folder" in listed["note"]
        own = next(one["id"] for one in listed["sources"] if one["name"] == "own")
        assert server.client.get(f"/api/sources/{own}/flow", params={"case": "far"}).json() == {"flow": None}


def test_a_file_replaced_by_a_symlink_is_not_followed(tmp_path):
    run_folder(tmp_path / "run", 2)
    (tmp_path / "run" / "flows").mkdir()
    flow_file(tmp_path / "run" / "flows" / "a.safetensors", tokens=20, rows=2, sentences=3, documents=1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.safetensors").write_text("secret")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with running(tmp_path / "run") as server:
        listed = server.client.get("/api/sources").json()["sources"][0]
        url = f"/api/files/{listed['files']['cases'][0]}"
        flow = server.client.get(f"/api/sources/{listed['id']}/flow", params={"case": "a"}).json()["flow"]
        assert server.client.get(url).status_code == 200
        (tmp_path / "run" / "cases.jsonl").unlink()
        (tmp_path / "run" / "cases.jsonl").symlink_to(secret)
        answer = server.client.get(url)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_gone")
        os.rename(tmp_path / "run" / "flows", tmp_path / "run" / "old")
        (tmp_path / "run" / "flows").symlink_to(tmp_path / "elsewhere")  # a parent folder becomes a link
        answer = server.client.get(f"/api/flows/{flow}/view")
        assert answer.status_code == 404
        assert "secret" not in answer.text


def test_a_named_pipe_does_not_hang_the_server(tmp_path):
    run_folder(tmp_path / "run", 2)
    with running(tmp_path / "run") as server:
        url = f"/api/files/{files_of(server)['run']['cases'][0]}"
        (tmp_path / "run" / "cases.jsonl").unlink()
        os.mkfifo(tmp_path / "run" / "cases.jsonl")
        assert server.client.get(url).status_code == 404


def test_ids_are_random_and_reveal_no_path(folder):
    seen = []
    for _ in range(2):
        with running(folder) as server:
            seen.append(re.findall(r'"([A-Za-z0-9_-]{16})"', server.client.get("/api/sources").text))
            assert str(folder) not in server.client.get("/api/sources").text
    assert len(seen[0]) == len(set(seen[0])) == 5
    assert not set(seen[0]) & set(seen[1])


def test_ids_of_one_kind_are_unknown_to_other_routes(served):
    listed = {one["name"]: one for one in served.client.get("/api/sources").json()["sources"]}
    run, flow = listed["run"], listed["answer.safetensors"]["files"]["flow"]
    assert served.client.get(f"/api/files/{run['id']}").json()["error"]["code"] == "unknown_file"
    assert served.client.get(f"/api/files/{flow}").json()["error"]["code"] == "unknown_file"
    answer = served.client.get(f"/api/sources/{run['files']['run']}/flow", params={"case": "x"})
    assert answer.json()["error"]["code"] == "unknown_source"


def safetensors(header, *, length=None, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


FLOW = {"format": "attributor.flow", "version": "1"}
HOSTILE = {
    "endless": safetensors({}, length=2**63),
    "longer than the file": safetensors({"__metadata__": FLOW}, length=500),
    "deep": safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep in the metadata": safetensors(b'{"__metadata__":' + b"[" * 100_000),
    "no object": safetensors([1, 2]),
    "another kind": safetensors({"__metadata__": {"format": "pt"}}),
    "metadata of another type": safetensors({"__metadata__": [1]}),
    "newer": safetensors({"__metadata__": {**FLOW, "version": "99"}}),
    "version of many digits": safetensors({"__metadata__": {**FLOW, "version": "9" * 5000}}),
    "not utf-8": safetensors(b'{"\xff": 1}'),
    "empty": b"",
    "cut": b"\x05\x00",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_safetensors_headers_are_left_out_with_the_reason(tmp_path, name):
    run_folder(tmp_path / "run", 1)
    (tmp_path / "bad.safetensors").write_bytes(HOSTILE[name])
    with running(tmp_path) as server:
        found = server.client.get("/api/sources").json()
    assert [one["name"] for one in found["sources"]] == ["run"]
    assert found["note"].startswith("bad.safetensors: it")


BEYOND = {"dtype": "F32", "shape": [2, 10**9], "data_offsets": [0, 8 * 10**9]}
INCONSISTENT = {
    "beyond the file": {"scores": BEYOND},
    "overflowing": {"scores": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}},
    "negative": {"scores": {"dtype": "F32", "shape": [-1, 4], "data_offsets": [8, 0]}},
    "unknown dtype": {"scores": {"dtype": "F3", "shape": [1, 2], "data_offsets": [0, 8]}},
    "no scores": {},
    "shape of words": {"scores": {"dtype": "F32", "shape": ["1", None], "data_offsets": [0, 8]}},
}


@pytest.mark.parametrize("name", INCONSISTENT)
def test_hostile_safetensors_tensors_are_refused_when_they_are_read(tmp_path, name):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(safetensors({"__metadata__": FLOW, **INCONSISTENT[name]}, data=b"\0" * 8))
    with running(path) as server:
        flow = files_of(server)["bad.safetensors"]["flow"]
        answer = server.client.get(f"/api/flows/{flow}/view")
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]
    assert str(tmp_path) not in answer.text
