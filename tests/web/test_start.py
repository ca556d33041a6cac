"""`attributor explore` and `attributor serve` start, print their address, and end."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import httpx
import pytest
from cli_runs import run
from clock import PATIENCE
from web_cases import flow_file, run_folder
from web_server import running

from attributor import web
from attributor._errors import InputError
from attributor.web import start
from attributor.web.http.errors import ApiError
from attributor.web.http.security import Access

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}

# prints at its end whether torch was imported
EXPLORE = """
import sys
from attributor.cli.commands import app
try:
    app(sys.argv[1:])
finally:
    print("torch" in sys.modules, "transformers" in sys.modules, flush=True)
"""

# a server with an endless stream
ENDLESS = """
import asyncio, sys
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from attributor.web import start
from attributor.web.http.guard import Guard
from attributor.web.http.security import Access
app = FastAPI()
@app.get("/api/events")
async def events():
    async def parts():
        while True:
            yield "data: 1\\n\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(parts(), media_type="text/event-stream")
@app.get("/api/stuck")
async def stuck():
    await asyncio.sleep(3600)
port, sockets = start.bind("localhost", 0)
ready = lambda: print(f"http://localhost:{port}/", flush=True)
sys.exit(start.serve(Guard(app, Access.at("localhost", port)), sockets, ready))
"""


@contextmanager
def started(code, *arguments):
    """Start a program that prints its address; yield (process, address, seconds until it was printed)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *[str(argument) for argument in arguments]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        seconds = time.monotonic() - began
        found = re.search(r"http://[^ ]+/\S*", line)
        assert found, (line, process.stderr.read() if process.poll() is not None else "")
        yield process, found[0], seconds
    finally:
        process.kill()
        process.communicate()


def ended(process, sent, *, within=10.0):
    """Send a signal, wait, and return exit status, stdout and stderr."""
    process.send_signal(sent)
    began = time.monotonic()
    out, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < within
    return process.returncode, out, err


@POSIX
def test_explore_never_imports_torch(tmp_path):
    run_folder(tmp_path / "run", 2)
    flow_file(tmp_path / "a.safetensors", tokens=60, rows=3, sentences=6, documents=2)
    with started(EXPLORE, "explore", tmp_path, "--port", "0", "--no-browser") as (process, url, seconds):
        assert seconds < 10  # under a second on an idle machine
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            found = {one["name"]: one["files"] for one in client.get("/api/sources").json()["sources"]}
            flow = found["a.safetensors"]["flow"]
            for path in ("view", "rows?start=0&stop=1", "sums?by=sentence&start=0&stop=2", "received?start=0&stop=9",
                         "edges?by=document&start=0&stop=3&limit=5", "page", "file"):  # fmt: skip
                assert client.get(f"/api/flows/{flow}/{path}").status_code == 200, path
            assert client.get(f"/api/files/{found['run']['cases'][0]}").status_code == 200
        assert ended(process, signal.SIGINT) == (130, "False False\n", "")


@POSIX
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_server_ends_quietly_with_open_streams(sent, status):
    with started(ENDLESS) as (process, url, _), httpx.Client(base_url=url, trust_env=False) as client:
        port = httpx.URL(url).port
        stuck, silent = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
        with closing(stuck), closing(silent), client.stream("GET", "/api/events") as answer:
            assert next(answer.iter_text()).startswith("data: 1")
            stuck.sendall(f"GET /api/stuck HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            time.sleep(0.2)
            assert ended(process, sent) == (status, "", "")


@POSIX
def test_a_second_ctrl_c_ends_the_server_at_once():
    with (
        started(ENDLESS) as (process, url, _),
        httpx.Client(base_url=url, trust_env=False) as client,
        client.stream("GET", "/api/events"),
    ):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        status, out, err = ended(process, signal.SIGINT)
    assert (status, out) == (130, "")
    assert "Traceback" not in err


@POSIX
def test_two_servers_run_side_by_side(tmp_path):
    for name in ("one", "two"):
        run_folder(tmp_path / name, 1)
    options = ["--port", "0", "--no-browser"]
    with (
        started(EXPLORE, "explore", tmp_path / "one", *options) as (first, url, _),
        started(EXPLORE, "explore", tmp_path / "two", *options) as (second, other, _),
    ):
        assert url != other
        for address, name in ((url, "one"), (other, "two")):
            found = httpx.get(f"{address}api/sources", trust_env=False).json()["sources"]
            assert [one["name"] for one in found] == [name]
        assert ended(second, signal.SIGTERM)[0] == 0
        assert httpx.get(f"{url}api/session", trust_env=False).status_code == 200
        assert ended(first, signal.SIGTERM)[0] == 0


@contextmanager
def taken(host="127.0.0.1", port=0):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other:
        try:
            other.bind((host, port))
        except OSError as error:
            pytest.skip(f"{host} cannot be bound here: {error}")
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_an_error_with_port():
    with taken() as port:
        result = run("explore", "--port", port, "--no-browser")
        assert result.exit_code == 1
        assert f"port {port} is taken by another program; --port {port + 1} may be free" in result.stderr


def test_without_port_the_next_free_port_is_used(monkeypatch):
    with taken() as port:
        monkeypatch.setattr(start, "PORT", port)
        found, sockets = start.bind("localhost", None)
        for one in sockets:
            one.close()
        assert port < found < port + start.TRIES
        monkeypatch.setattr(start, "TRIES", 1)
        with pytest.raises(InputError, match="are all taken by other programs; --port N"):
            start.bind("localhost", None)


def test_localhost_binds_both_addresses():
    with taken("::1") as port:  # a browser tries ::1 first and would reach the other program
        with pytest.raises(InputError, match=f"port {port} is taken"):
            start.bind("localhost", port)
        with taken("127.0.0.1", port):  # nothing was left bound
            pass
    with running() as server:
        for host in ("127.0.0.1", "::1"):
            with closing(socket.create_connection((host, server.port), timeout=5)):
                pass


def test_a_machine_without_ipv6_binds_one_address(monkeypatch):
    listening = start._listen

    def only_four(made, address):
        if made.family == socket.AF_INET6:
            made.close()
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return listening(made, address)

    monkeypatch.setattr(start, "_listen", only_four)
    _, sockets = start.bind("localhost", 0)
    assert [one.family for one in sockets] == [socket.AF_INET]
    sockets[0].close()


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "no-such-host.invalid", "1.2.3.4.5", "http://localhost", "a..b", "a" * 64]
)
def test_a_host_of_another_machine_is_refused(host):
    result = run("explore", "--host", host, "--port", "0", "--no-browser")
    assert result.exit_code == 1
    assert "is no address of this machine" in result.stderr


def test_a_privileged_port_is_refused(monkeypatch):
    def refused(made, address):
        made.close()
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(start, "_listen", refused)
    result = run("explore", "--port", "80", "--no-browser")
    assert result.exit_code == 1
    assert "port 80 needs the rights of an administrator" in result.stderr


@pytest.mark.parametrize("options", [["--port", "99999"], ["--port", "-1"], ["--port", "x"], ["--what"], ["a", "b"]])
def test_invalid_options_are_refused(options):
    assert run("explore", *options).exit_code == 2


@pytest.fixture
def serving(monkeypatch):
    """Replace the server by one that starts and ends at once, as after Ctrl-C."""
    seen = {}

    def serve(app, sockets, ready, **more):
        seen.update(sockets=sockets, **more)
        ready()
        return 130

    monkeypatch.setattr(web, "serve", serve)
    monkeypatch.setattr("attributor.cli.web._end_now", lambda status: None)  # it would end the test process too
    monkeypatch.setattr(web, "open_browser", lambda url: seen.update(opened=url))
    return seen


def test_the_address_is_printed_and_opened(serving):
    result = run("explore", "--port", "0")
    port = re.fullmatch(r"attributor explore: http://localhost:(\d+)/  \(Ctrl-C ends it\)\n", result.stdout)[1]
    assert serving["opened"] == f"http://localhost:{port}/"
    assert (result.exit_code, result.stderr) == (130, "")
    assert all(one.fileno() == -1 for one in serving["sockets"])  # closed
    serving.clear()
    assert run("explore", "--port", "0", "--no-browser").exit_code == 130
    assert "opened" not in serving


def test_another_host_prints_the_token_in_the_address(serving):
    result = run("explore", "--port", "0", "--host", "0.0.0.0")
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,} .*\nFrom another machine: ", result.stdout)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [("localhost", 3000, "http://localhost:3000/"), ("127.0.0.1", 80, "http://localhost/"),
     ("::1", 3001, "http://localhost:3001/"), ("127.0.0.2", 3000, "http://127.0.0.2:3000/"),
     ("[::1]", 3000, "http://localhost:3000/")],
)  # fmt: skip
def test_loopback_addresses_have_the_expected_url(host, port, url):
    access = Access.at(host, port)
    assert access.url() == url
    scope = {"method": "GET", "path": "/", "query_string": b"", "server": None}
    own = url.removeprefix("http://").rstrip("/").encode()
    assert access.check({**scope, "headers": [(b"host", own)]}) is None


@pytest.mark.parametrize(
    ("screen", "tried"),
    [({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True), ({}, False),
     ({"DISPLAY": ":0", "SSH_CONNECTION": "a b"}, False)],
)  # fmt: skip
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a screen")
def test_the_browser_opens_only_with_a_display(monkeypatch, screen, tried):
    opened = []
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in screen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert start.open_browser("http://localhost:3000/") is tried
    deadline = time.monotonic() + PATIENCE
    while tried and not opened and time.monotonic() < deadline:
        time.sleep(0.01)
    assert opened == ["http://localhost:3000/"] * tried


@pytest.mark.parametrize("command", ["explore", "serve"])
def test_missing_packages_of_the_extra_are_named(monkeypatch, command):
    monkeypatch.setattr("attributor.cli.web.find_spec", lambda name: None)
    result = run(command, "--no-browser")
    assert result.exit_code == 1
    assert f"attributor {command} needs fastapi and uvicorn: pip install 'attributor[web]'" in result.stderr


@pytest.mark.parametrize("command", ["explore", "serve"])
def test_help_has_examples_and_the_main_options(command):
    text = " ".join(run(command, "--help").stdout.split())
    for words in ("Examples", "--port", "--host", "--no-browser", "ssh -L 3000:localhost:3000", "Ctrl-C", "token"):
        assert words in text
    assert f"attributor {command}" in run("--help").stdout or command in run("--help").stdout


def test_serve_passes_its_options_to_the_live_service(serving, monkeypatch):
    from attributor.web import live
    from attributor.web.live import service

    made = []

    class Fake:
        def __init__(self, settings):
            made.append(settings)
            self.closed = 0

        get_view = staticmethod(lambda flow: None)

        def start(self):
            made.append("started")

        def close(self):
            made.append("closed")

    monkeypatch.setattr(live, "LiveService", Fake)
    options = ["--model", "a/b", "--dtype", "bfloat16", "--device-map", "auto", "--max-tokens", "4096"]
    options += ["--revision", "main", "--trust-remote-code", "--memory-budget", "1.5", "--port", "0"]
    result = run("serve", *options)
    assert (result.exit_code, result.stderr) == (130, "")
    assert result.stdout.startswith("attributor serve: http://localhost:")
    assert made[0] == service.ServerSettings(
        model="a/b", dtype="bfloat16", device_map="auto", max_tokens=4096, revision="main", trust_remote_code=True,
        memory_budget=1_500_000_000,
    )  # fmt: skip
    assert made[1:] == ["started", "closed"]
    assert serving["ending"] is not None


def test_serve_refuses_a_bad_model_at_once(serving, monkeypatch):
    from attributor.web.live import service

    def refuse(self):
        raise ApiError(400, "invalid_device_map", "device_map 'moon' is none of cpu, auto")

    monkeypatch.setattr(service.LiveService, "start", refuse)
    result = run("serve", "--model", "x/y", "--device-map", "moon", "--port", "0")
    assert (result.exit_code, result.stderr) == (1, "error: device_map 'moon' is none of cpu, auto\n")
    assert "sockets" not in serving
