"""The outermost layer of the app: it refuses bad requests, limits bodies and adds the security headers."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attributor.web.http.errors import LOG, error_response, log_failure
from attributor.web.http.security import HEADERS, UNSAFE, Access, Refusal, build_security_headers

__all__ = ["BODY_SECONDS", "Guard"]

BODY_SECONDS = 60.0  # within which the body must arrive
_OURS = {name.lower().encode() for name in HEADERS}


class Guard:
    """An ASGI app around another one.

    Args:
        app: answers the requests that pass the checks.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # there is no WebSocket route; closing before accepting sends a 403
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        answer = _GuardedResponse(scope, send)
        try:
            await self._answer(scope, receive, answer)
        except Exception as error:
            await answer.fail(error)
        finally:
            answer.log()

    async def _answer(self, scope: Scope, receive: Receive, answer: "_GuardedResponse") -> None:
        if (location := self._exchange_token(scope)) is not None:
            return await answer.set_cookie_and_reload(location, self.access)
        refusal = self.access.check(scope)
        if refusal is not None:
            if refusal.status == 413:
                await _drain_body(receive, self.access.body_limit)
            return await answer.refuse(refusal)
        if scope["method"] in UNSAFE:
            body: bytes | Refusal | None = Refusal(408, "too_slow", f"no whole body in {BODY_SECONDS:g} seconds")
            with contextlib.suppress(asyncio.TimeoutError):
                body = await asyncio.wait_for(_read_body(receive, self.access), BODY_SECONDS)
            if body is None:
                return None
            if isinstance(body, Refusal):
                return await answer.refuse(body)
            receive = _replay(body, receive)
        return await self.app(scope, receive, answer.send)

    def _exchange_token(self, scope: Scope) -> str | None:
        """The location to load after the access token of the printed address became a cookie; None without a token."""
        if self.access.token is None or scope["method"] != "GET" or scope["path"] != "/":
            return None
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        # check host and origin first, as if the token were in the header
        with_token = [*scope["headers"], (b"authorization", f"Bearer {tokens[0]}".encode("latin-1", "replace"))]
        if not self.access.accepts_token(tokens[0]) or self.access.check({**scope, "headers": with_token}) is not None:
            return None
        return "/"


class _GuardedResponse:
    """The response to one request, and how much of it was sent."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._status: int | None = None
        self._finished = False
        self._began = time.perf_counter()

    async def send(self, message: Message) -> None:
        """ASGI's send: replaces headers by the security headers of the same name, and removes CORS headers."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [
                (name, value)
                for name, value in message.get("headers", [])
                if name.lower() not in _OURS and not name.lower().startswith(b"access-control-")
            ]
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers + build_security_headers()}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._finished = True

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error and close the connection, because an unread body may follow."""
        headers = {"Connection": "close"}
        if refusal.status == 405:
            headers["Allow"] = "GET, HEAD, POST, DELETE"
        if refusal.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        await self._respond(error_response(refusal.status, refusal.code, refusal.message, headers))

    async def set_cookie_and_reload(self, location: str, access: Access) -> None:
        """Set the access cookie and load the location.

        A redirect would not work, because the cookie is SameSite=Strict. A navigation that began on another site, such
        as a link in a mail, would follow the redirect without it. A navigation of this server's page sends the cookie.
        """
        cookie = f"{access.cookie}={access.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"refresh", f"0;url={location}".encode()),
            (b"set-cookie", cookie.encode("ascii")),
        ]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"opening attributor ..."})

    async def fail(self, error: Exception) -> None:
        """Handle an exception that left the app. If the response is complete, the app has already logged it."""
        if self._finished:
            return
        name = log_failure(error, f"{self._scope['method']} {self._scope['path']}")
        if self._status is None:
            message = f"something went wrong that should not have: the terminal of this server says more, under {name}"
            await self._respond(error_response(500, "internal_error", message))

    async def _respond(self, response: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        await response(self._scope, _receive_disconnect, self.send)

    def log(self) -> None:
        """Log one line with --debug. It leaves out the query, which may hold words of a prompt or the token."""
        seconds = time.perf_counter() - self._began
        LOG.debug("%s %a %s %.0f ms", self._scope["method"], self._scope["path"], self._status, seconds * 1000)


async def _receive_disconnect() -> Message:
    return {"type": "http.disconnect"}


async def _read_body(receive: Receive, access: Access) -> bytes | Refusal | None:
    """The whole body, whatever its Content-Length states; None if the client disconnected before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > access.body_limit:
            if message.get("more_body", False):
                await _drain_body(receive, access.body_limit)
            return access.too_large()
        if not message.get("more_body", False):
            return bytes(body)


async def _drain_body(receive: Receive, most: int) -> None:
    """Read and discard the body for up to 2 seconds; otherwise a client that still sends would get no response."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_discard(receive, most), 2)


async def _discard(receive: Receive, left: int) -> None:
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body that was read, then the messages after it, such as a disconnect."""
    read = False

    async def replay() -> Any:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
