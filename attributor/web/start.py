"""Binds a port, prints the address, opens the browser, and serves until Ctrl-C."""

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from attributor._errors import InputError
from attributor.web.http import LOG, build_security_headers, error_body

__all__ = ["PORT", "Server", "bind", "create_server", "open_browser", "serve"]

PORT = 3000
TRIES = 100  # ports that are tried, from PORT on
GRACE_SECONDS = 1  # for responses that still run at the end; event streams do not end by themselves
IN_USE = {errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE)}
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}


def bind(host: str, port: int | None) -> tuple[int, list[socket.socket]]:
    """Sockets that listen at a host, all on one port: `port`, or with None the first free port from PORT on.

    "localhost" stands for both of its addresses. A browser may try either, and another program could answer on the
    other one.

    Raises:
        InputError: the port is taken or not allowed, or the host is not an address of this machine.
    """
    for number in [port] if port is not None else range(PORT, PORT + TRIES):
        try:
            sockets = _bind_all(host, number)
        except (OSError, UnicodeError) as error:  # UnicodeError: the host cannot be the name of an address
            if isinstance(error, OSError) and error.errno in IN_USE and port is None:
                continue
            raise InputError(_explain_bind_error(host, number, error)) from None
        return sockets[0].getsockname()[1], sockets
    raise InputError(f"ports {PORT} to {PORT + TRIES - 1} are all taken by other programs; --port N gives another one")


def _explain_bind_error(host: str, port: int, error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError | socket.gaierror) or error.errno in ABSENT:
        return f"--host {host!r} is no address of this machine; --host 0.0.0.0 listens on all that it has"
    if error.errno in IN_USE:
        return f"port {port} is taken by another program; --port {port + 1 if port < 65535 else PORT} may be free"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} needs the rights of an administrator; ports from 1024 on do not: --port {PORT}"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def _bind_all(host: str, port: int) -> list[socket.socket]:
    names = ("127.0.0.1", "::1") if host.lower() == "localhost" else (host.strip("[]"),)
    sockets: list[socket.socket] = []
    try:
        for name in names:
            family, kind, protocol, _, address = socket.getaddrinfo(
                name, sockets[0].getsockname()[1] if sockets else port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            try:
                sockets.append(_listen(socket.socket(family, kind, protocol), address))
            except OSError as error:
                if not sockets or error.errno not in ABSENT:  # a machine without IPv6 has only one address
                    raise
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def _listen(listener: socket.socket, address: Any) -> socket.socket:
    try:
        if sys.platform == "win32":  # on Windows, SO_REUSEADDR would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def open_browser(url: str) -> bool:
    """Open the user's browser if there is a screen; returns whether this was tried.

    It opens no browser in the terminal, and none on the remote end of an SSH connection.
    """
    screen = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not screen or os.environ.get("SSH_CONNECTION"):
        return False
    threading.Thread(target=_open_quietly, args=(url,), daemon=True).start()  # some browsers take seconds to start
    return True


def _open_quietly(url: str) -> None:
    with contextlib.suppress(Exception):  # the address is also printed
        webbrowser.open(url)


def serve(
    app: ASGIApp,
    sockets: list[socket.socket],
    ready: Callable[[], None],
    *,
    ending: Callable[[], None] | None = None,
    verbose: bool = False,
    grace: float = GRACE_SECONDS,
) -> int:
    """Serve until a signal; returns the exit status: 130 after Ctrl-C, 0 after SIGTERM.

    Args:
        app: the ASGI app.
        sockets: from `bind`.
        ready: called when the server accepts requests.
        ending: called when the server starts to shut down, so that event streams can end.
        verbose: log each request, and the messages of unexpected errors.
        grace: seconds for responses that still run at the end.
    """
    _set_up_logging(verbose)
    server = create_server(app, ready, ending=ending, grace=grace)
    server.run(sockets)
    return 130 if server.ended_by == signal.SIGINT else 0


def create_server(
    app: ASGIApp, ready: Callable[[], None], *, ending: Callable[[], None] | None = None, grace: float = GRACE_SECONDS
) -> "Server":
    """The server that `serve` runs; its `run(sockets)` returns when `should_exit` is set, or after a signal."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace,  # type: ignore[arg-type]  # seconds; a fraction works too
        h11_max_incomplete_event_size=32_768,
    )
    return Server(config, ready, ending)


class Server(uvicorn.Server):
    """uvicorn's server. It calls `ready` and `ending`, and does not raise the signal that ended it again."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], ending: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending
        self.ended_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then call `ready`."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Call `ending`, then shut down."""
        if self._ending is not None:
            self._ending()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down in order at the first signal, and immediately at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.ended_by = self.ended_by or sig


class _Protocol(H11Protocol):
    """uvicorn's protocol. It answers malformed requests as all others: with JSON and the security headers."""

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be parsed, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error_body("bad_request", "this is no HTTP request")
            headers = build_security_headers(
                [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
            )
            with contextlib.suppress(h11.LocalProtocolError):
                for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _set_up_logging(verbose: bool) -> None:
    LOG.setLevel(logging.DEBUG if verbose else logging.ERROR)
    LOG.propagate = False
    if not LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("attributor: %(message)s"))
        LOG.addHandler(handler)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # the guard logs the same
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
