"""A real server of the web views for tests, and requests that no regular client sends."""

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from attributor.web import start
from attributor.web.app import create_app
from attributor.web.explore.sources import Sources
from attributor.web.http.security import CSRF_HEADER, Access


@dataclass(frozen=True)
class Running:
    """A running server with functions that send requests to it."""

    access: Access
    client: httpx.Client

    @property
    def port(self):
        return self.access.port

    @property
    def csrf(self):
        return {CSRF_HEADER: self.access.csrf}

    def raw(self, data, *, seconds=10.0):
        """Send bytes and read until the server closes the connection: status, headers (lower case), body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))
            found = b""
            while block := connection.recv(1 << 16):
                found += block
        return parsed(found)

    def head(self, method="GET", path="/api/session", *headers, host=True):
        """Send a request with these header lines; `host=False` omits Host."""
        lines = [f"{method} {path} HTTP/1.1", *([f"Host: localhost:{self.port}"] if host else []), *headers]
        return self.raw("\r\n".join([*lines, "Connection: close", "", ""]))


def parsed(found):
    head, _, body = found.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), value.strip())
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return int(first.split()[1]), headers, body


def unchunked(body):
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


def code(found):
    """Return the status and code of an error, which must have the JSON shape of the API."""
    status, _, body = found
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message"}
    assert error["message"]
    assert status >= 400
    return status, error["code"]


@contextmanager
def running(path=None, *, door="explore", live=None, app=None, host="localhost", limit=None, grace=1):
    """Serve a file or a folder, or the app that `app` makes from the access rules, until the block ends."""
    port, sockets = start.bind(host, 0)
    access = Access.at(host, port)
    if limit is not None:
        access = Access(host, port, token=access.token, body_limit=limit)
    sources = Sources(Path(path)) if path is not None else None
    made = create_app(door, access, sources=sources, live=live) if app is None else app(access)
    ready = threading.Event()
    server = start.create_server(made, ready.set, ending=getattr(live, "close", None), grace=grace)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        assert ready.wait(20), "the server did not start"
        with httpx.Client(base_url=f"http://localhost:{port}", timeout=20, trust_env=False) as client:
            yield Running(access, client)
    finally:
        server.should_exit = True
        thread.join(20)
        for one in sockets:
            one.close()
    assert not thread.is_alive(), "the server did not end"
