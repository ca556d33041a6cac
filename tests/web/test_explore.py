"""The explorer lists and serves its files and reports the files that it cannot open."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import pytest
from cli_runs import run
from clock import PATIENCE
from web_cases import flow_file, run_folder
from web_server import running

from attributor._errors import InputError
from attributor.eval.store import RunFolder
from attributor.web.explore.file_kinds import ENDINGS
from attributor.web.explore.sources import Sources
from attributor.web.http.errors import ApiError
from attributor.web.http.files import parse_range

ANCESTOR = [
    {
        "case": {"documents": ["One. Two."], "expected_output": "Two", "supporting_documents": [0]},
        "generated_output": "Two.",
        "attributed_documents": [0],
        "attributed_document_scores": [0.5],
        "verification": True,
    }
]


def test_the_page_accepts_the_same_file_extensions():
    page = Path(__file__).parents[2] / "webapp/src/open/endings.json"
    assert json.loads(page.read_text("utf-8")) == {kind: list(endings) for kind, endings in ENDINGS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("served")
    run_folder(made / "first", 3)
    run_folder(made / "second", 2)
    flow_file(made / "answer.safetensors", tokens=40, rows=3, sentences=6, documents=2)
    (made / "list.json").write_text(json.dumps(ANCESTOR))
    (made / "notes.txt").write_text("not for us")
    (made / "settings.json").write_text('{"a": 1}')
    (made / "numbers.json").write_text("[1, 2]")
    (made / ".hidden.json").write_text(json.dumps(ANCESTOR))
    (made / "empty").mkdir()
    return made


@pytest.fixture(scope="module")
def served(folder):
    with running(folder) as server:
        yield server


def test_a_folder_of_every_kind_is_listed(served, folder):
    found = served.client.get("/api/sources").json()
    kinds = {one["name"]: one["kind"] for one in found["sources"]}
    assert kinds == {"answer.safetensors": "flow", "first": "run", "list.json": "list", "second": "run"}
    assert "numbers.json: it is a JSON list of something other than cases" in found["note"]
    assert "settings.json: it is of an unknown kind" in found["note"]
    assert "notes.txt" not in found["note"]
    by_name = {one["name"]: one for one in found["sources"]}
    assert {name: set(one["files"]) for name, one in by_name.items()} == {
        "answer.safetensors": {"flow"},
        "first": {"run", "cases"},
        "list.json": {"list"},
        "second": {"run", "cases"},
    }
    size = sum((folder / "first" / name).stat().st_size for name in ("run.json", "cases.jsonl"))
    assert by_name["first"]["bytes"] == size
    assert served.client.get("/api/session").json()["opened"] is None
    assert served.client.get("/api/sources").json() == found  # the ids do not change


def test_a_removed_file_is_reported(tmp_path):
    run_folder(tmp_path / "all" / "run", 1)
    with running(tmp_path / "all") as server:
        os.rename(tmp_path / "all", tmp_path / "other")
        answer = server.client.get("/api/sources")
        assert (answer.status_code, answer.json()["sources"]) == (200, [])
        assert answer.json()["note"] == "all cannot be read any more (No such file or directory)"
        assert server.client.get("/api/session").json()["opened"] is None
        os.rename(tmp_path / "other", tmp_path / "all")
        assert [one["name"] for one in server.client.get("/api/sources").json()["sources"]] == ["run"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_file_name_outside_utf_8_is_listed(tmp_path):
    run_folder(tmp_path / "run", 1)
    for name in (b"\xff.json", b"\xfe.json"):
        (tmp_path / os.fsdecode(name)).write_text(json.dumps(ANCESTOR) if name < b"\xff" else "[]")
    with running(tmp_path) as server:
        found = server.client.get("/api/sources").json()
    assert [one["name"] for one in found["sources"]] == ["run", "?.json"]
    assert found["note"] == "?.json: it is a JSON list without any case"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_reading_stops_when_the_client_disconnects(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(ANCESTOR))
    os.truncate(path, 1 << 40)
    with running(path) as server:
        name = server.client.get("/api/sources").json()["sources"][0]["files"]["list"]
        with server.client.stream("GET", f"/api/files/{name}") as answer:
            chunks = answer.iter_raw()  # a reference is needed: a collected generator closes the connection
            next(chunks)
            wait_until(lambda: is_open(path), "it is not read")
        wait_until(lambda: not is_open(path), "it is still read")


def wait_until(true, otherwise):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def is_open(path):
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(one))
    return str(path) in found


@pytest.mark.parametrize(
    ("name", "kind"),
    [("first", "run"), ("first/run.json", "run"), ("first/cases.jsonl", "run"), ("answer.safetensors", "flow"),
     ("list.json", "list")],
)  # fmt: skip
def test_a_single_source_is_opened_at_once(folder, name, kind):
    with running(folder / name) as server:
        found = server.client.get("/api/sources").json()
        assert [one["kind"] for one in found["sources"]] == [kind]
        assert found["note"] is None
        assert server.client.get("/api/session").json()["opened"] == found["sources"][0]["id"]


def test_without_a_path_there_are_no_sources():
    with running() as server:
        assert server.client.get("/api/sources").json() == {"sources": [], "note": None}
        session = server.client.get("/api/session").json()
        assert (session["door"], session["opened"]) == ("explore", None)
        assert len(session["csrf"]) >= 32


def test_a_symlink_on_the_command_line_is_followed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder / "first")
    (tmp_path / "link.json").symlink_to(folder / "list.json")
    for name, kind in (("link", "run"), ("link.json", "list")):
        assert [one.kind for one in Sources(tmp_path / name).scan().values()] == [kind]


def test_a_run_that_is_being_written_grows(tmp_path):
    run_folder(tmp_path / "run", 1)
    (tmp_path / "run" / "cases.jsonl").rename(tmp_path / "run" / "cases.0.jsonl")
    with running(tmp_path / "run") as server:
        before = server.client.get("/api/sources").json()["sources"][0]
        assert len(before["files"]["cases"]) == 1
        (tmp_path / "run" / "cases.1.jsonl").write_text('{"id": "x"}\n')
        after = server.client.get("/api/sources").json()["sources"][0]
        assert after["id"] == before["id"]
        assert len(after["files"]["cases"]) == 2
        assert after["bytes"] > before["bytes"]
        (tmp_path / "run" / "cases.1.jsonl").write_text('{"id": "x"}\n{"id": "y"}\n')
        url = f"/api/files/{after['files']['cases'][1]}"
        assert server.client.get(url).content == b'{"id": "x"}\n{"id": "y"}\n'


def test_a_flow_is_found_by_any_case_id(tmp_path):
    run_folder(tmp_path / "run", 1)
    kept = RunFolder(tmp_path / "run")
    names = ["plain-1", "../../../etc/passwd", "Öl & Wärme", "UPPER", "x" * 3000, "a/b\\c:d\0e", ".", ""]
    for name in names[:-1]:
        flow_file(kept.flow_file(name), tokens=20 + len(name) % 7, rows=2, sentences=3, documents=1)
    with running(tmp_path / "run") as server:
        source = server.client.get("/api/sources").json()["sources"][0]["id"]

        def flow(case):
            return server.client.get(f"/api/sources/{source}/flow", params={"case": case}).json()["flow"]

        found = [flow(name) for name in names]
        assert len(set(found[:-1])) == len(names) - 1
        assert None not in found[:-1]
        assert found[-1] is None
        assert flow("missing") is None
        assert flow("plain-1") == found[0]
        answer = server.client.get(f"/api/flows/{found[1]}/view")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert server.client.get(f"/api/sources/{source}/flow", params={"case": "x" * 5000}).status_code == 422


def test_a_rewritten_flow_is_reloaded(tmp_path):
    path = flow_file(tmp_path / "a.safetensors", tokens=20, rows=2, sentences=3, documents=1)
    with running(path) as server:
        flow = server.client.get("/api/sources").json()["sources"][0]["files"]["flow"]
        before = server.client.get(f"/api/flows/{flow}/view").content
        assert server.client.get(f"/api/flows/{flow}/view").content == before
        flow_file(tmp_path / "b.safetensors", tokens=30, rows=4, sentences=3, documents=1).rename(path)
        assert server.client.get(f"/api/flows/{flow}/view").content != before


def test_only_a_few_flows_stay_open(tmp_path):
    for i in range(6):
        flow_file(tmp_path / f"{i}.safetensors", tokens=20, rows=2, sentences=3, documents=1)
    sources = Sources(tmp_path)
    flows = [sources.file_ids(one)["flow"] for one in sources.scan().values()]
    kept = [sources.flow(flow) for flow in flows]
    assert sources.flow(flows[-1]) is kept[-1]
    assert sources.flow(flows[0]) is not kept[0]


# ranges


@pytest.mark.parametrize(
    ("asked", "span"),
    [(None, None), ("bytes=0-0", (0, 1)), ("bytes=0-", (0, 100)), ("bytes=10-19", (10, 20)),
     ("bytes=90-500", (90, 100)), ("bytes=-10", (90, 100)), ("bytes=-500", (0, 100)), ("bytes=99-99", (99, 100))],
)  # fmt: skip
def test_ranges_are_parsed(asked, span):
    assert parse_range(asked, 100) == span


@pytest.mark.parametrize(
    "asked",
    ["bytes=100-", "bytes=-0", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes=0-1,5-6", "items=0-1", "bytes 0-1", "",
     "bytes=0-99999999999999999999", "bytes=٠-١"],
)  # fmt: skip
def test_invalid_ranges_are_refused(asked):
    with pytest.raises(ApiError) as raised:
        parse_range(asked, 100)
    assert (raised.value.status, raised.value.headers["Content-Range"]) == (416, "bytes */100")


def test_files_are_served_whole_and_by_range(served, folder):
    listed = {one["name"]: one for one in served.client.get("/api/sources").json()["sources"]}
    url = f"/api/files/{listed['first']['files']['cases'][0]}"
    data = (folder / "first" / "cases.jsonl").read_bytes()
    whole = served.client.get(url)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, data, "bytes")
    part = served.client.get(url, headers={"Range": "bytes=5-24"})
    assert (part.status_code, part.content) == (206, data[5:25])
    assert part.headers["content-range"] == f"bytes 5-24/{len(data)}"
    assert part.headers["content-length"] == "20"
    tag = {"If-Range": whole.headers["etag"], "Range": "bytes=5-24"}
    assert served.client.get(url, headers=tag).status_code == 206
    assert served.client.get(url, headers={**tag, "If-Range": '"of another state"'}).status_code == 200
    wrong = served.client.get(url, headers={"Range": f"bytes={len(data)}-"})
    assert (wrong.status_code, wrong.headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert wrong.json()["error"]["code"] == "invalid_range"


def test_a_large_file_is_served_completely(tmp_path):
    run_folder(tmp_path / "run", 1)
    data = bytes(range(256)) * 5000
    (tmp_path / "run" / "cases.1.jsonl").write_bytes(data)
    with running(tmp_path / "run") as server:
        url = f"/api/files/{server.client.get('/api/sources').json()['sources'][0]['files']['cases'][1]}"
        assert server.client.get(url).content == data
        assert server.client.get(url, headers={"Range": "bytes=100000-900000"}).content == data[100000:900001]


# files that cannot be opened


def test_a_bad_path_is_refused_before_the_server_starts(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    for name, data in {
        "empty.json": "", "page.html": "<!doctype html>", "notes.txt": "hello there, you", "object.json": '{"a": 1}',
        "torn.json": '[{"case": {"docu', "none.json": "[]", "weights.safetensors": "\x02\0\0\0\0\0\0\0{}",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(data)
    said = {
        "missing": "there is no file or folder",
        "empty": "the folder is empty",
        "other": "holds no run, no flow and no list of cases",
        "empty.json": "it is empty",
        "page.html": "it is a web page, which any browser opens by itself",
        "notes.txt": "it is of an unknown kind",
        "object.json": "it is of an unknown kind",
        "torn.json": "it is not whole, or not JSON",
        "none.json": "it is a JSON list without any case",
        "weights.safetensors": "it is a safetensors file without a flow in it",
    }
    for name, sentence in said.items():
        ended = run("explore", tmp_path / name, "--no-browser")
        assert ended.exit_code == 1, ended.output
        text = " ".join(ended.stderr.split())
        assert sentence in text
        assert text.startswith("error: ")
        assert text.count(str(tmp_path / name)) == 1
        if name != "missing":
            assert "attributor eval --out" in text  # names a supported kind


@pytest.mark.parametrize(
    ("content", "why"),
    [("not json", "its run.json cannot be read"), ("[1]", "does not describe a run"),
     ('{"format": "attributor.run", "version": 99}', "of version 99; this attributor reads up to 1"),
     ("[" * 100_000, "its run.json cannot be read")],
)  # fmt: skip
def test_a_folder_with_an_unreadable_run_is_reported(tmp_path, content, why):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=why):
        Sources(tmp_path)


def test_a_folder_without_read_permission_is_reported(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        Sources(tmp_path)


def test_the_front_end_is_revalidated_by_its_etag(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("<!doctype html><p>one")
    (tmp_path / "app.js").write_text("export {};")
    (tmp_path / "app.css").write_text("p {}")
    monkeypatch.setenv("ATTRIBUTOR_WEB_STATIC", str(tmp_path))
    with running() as server:
        first = server.client.get("/")
        assert (first.text, first.headers["cache-control"]) == ("<!doctype html><p>one", "no-cache")
        tag = {"If-None-Match": first.headers["etag"]}
        assert server.client.get("/", headers=tag).status_code == 304
        (tmp_path / "index.html").write_text("<!doctype html><p>two")  # as after an upgrade
        assert server.client.get("/", headers=tag).text == "<!doctype html><p>two"
        kinds = {
            name: server.client.get(name).headers["content-type"] for name in ("/", "/static/app.js", "/static/app.css")
        }
        assert kinds == {
            "/": "text/html; charset=utf-8",
            "/static/app.js": "text/javascript; charset=utf-8",
            "/static/app.css": "text/css; charset=utf-8",
        }
        (tmp_path / "index.html").unlink()
        missing = server.client.get("/")
        assert (missing.status_code, missing.json()["error"]["code"]) == (503, "no_front_end")
        assert str(tmp_path) not in missing.text
